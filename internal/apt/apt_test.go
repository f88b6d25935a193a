package apt

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

func TestParseURIs(t *testing.T) {
	const sum = "48390d0a534c66d11789e39518aa219773a9d3677b29fe1af8799dfb563ec713"
	got, err := parseURIs("'http://mirror.example/debian/pool/main/s/seabios_1.16.3-2%7ebpo12+1_all.deb' seabios_1.16.3-2~bpo12+1_all.deb 164152 SHA256:" + sum + "\n" +
		"'http://mirror.example/x' qemu-system-x86_1%3a10.0.2+ds-2_amd64.deb 10176912 SHA256:" + sum + "\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []file{
		{"seabios", "1.16.3-2~bpo12+1", "seabios_1.16.3-2~bpo12+1_all.deb", 164152, sum},
		{"qemu-system-x86", "1:10.0.2+ds-2", "qemu-system-x86_1%3a10.0.2+ds-2_amd64.deb", 10176912, sum},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(file{})); diff != "" {
		t.Errorf("parseURIs (-want +got):\n%s", diff)
	}
	for _, bad := range []string{
		"nonsense\n",
		"'http://x' ../../etc/passwd_1_all.deb 1 SHA256:" + sum + "\n", // no path may come out of it
		"'http://x' a_1_all.deb 1 MD5Sum:00\n",
		"'http://x' a_1_all.deb 1 \n", // a repository that signs no checksum
	} {
		if got, err := parseURIs(bad); err == nil {
			t.Errorf("parseURIs(%q) = %v; want an error", bad, got)
		}
	}
}

func TestParseDepends(t *testing.T) {
	const out = `qemu-system-x86
  PreDepends: dpkg
 |Depends: first-choice
  Depends: second-choice
  Depends: <virtual>
    provider
  Depends: libc6
  Depends: libc6
  Breaks: other
  Depends: seabios
`
	got, want := parseDepends(out), []string{"dpkg", "first-choice", "libc6", "seabios"}
	if !slices.Equal(got, want) {
		t.Errorf("parseDepends = %q; want %q", got, want)
	}
}

func TestFilterSettings(t *testing.T) {
	const dump = `APT "";
Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example:3142/";
Acquire::https::mirror.example::Verify-Peer "true";
Acquire::Check-Valid-Until "false";
Acquire::AllowInsecureRepositories "true";
Acquire::Retries "5";
Acquire::ForceIPv4 "true";
APT::Get::AllowUnauthenticated "true";
DPkg::Pre-Invoke:: "rm -rf /";
Acquire::http::Proxy "a"; Acquire::AllowInsecureRepositories "1";
Dir::Etc "etc/apt";
`
	const want = `Acquire::http "";
Acquire::http::Proxy "http://proxy.example:3142/";
Acquire::https::mirror.example::Verify-Peer "true";
Acquire::Check-Valid-Until "false";
Acquire::Retries "5";
Acquire::ForceIPv4 "true";
`
	if diff := cmp.Diff(want, filterSettings(dump)); diff != "" {
		t.Errorf("filterSettings (-want +got):\n%s", diff)
	}
}

func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key.gpg")
	good := Root{Dir: filepath.Join(dir, "root"), Suite: "trixie", Mirror: "http://mirror.example/debian", Keyring: key}
	for _, tt := range []struct {
		change func(*Root)
		want   string
	}{
		{func(r *Root) { r.Suite = "trixie main\nDeb: x" }, "not the name of a suite"},
		{func(r *Root) { r.Suite = "" }, "not the name of a suite"},
		{func(r *Root) { r.Mirror = "" }, "not a URI"},
		{func(r *Root) { r.Mirror = "http://x/\nTrusted: yes" }, "not a URI"},
		{func(r *Root) { r.Dir = "relative" }, "not an absolute path"},
		{func(r *Root) { r.Dir = dir + `/";x` }, "cannot use the path"},
	} {
		r := good
		tt.change(&r)
		if err := r.Update(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Update of %+v = %v; want an error with %q", r, err, tt.want)
		}
	}
	for _, name := range []string{"--option", "-y", "a b", "", "a=1", "../x", "*"} {
		if _, err := good.Download(t.Context(), name); err == nil || !strings.Contains(err.Error(), "not the name of a package") {
			t.Errorf("Download(%q) = %v; want an error", name, err)
		}
	}
}

// TestFetch fetches a small package from the host's own mirror.
func TestFetch(t *testing.T) {
	env.NeedVM(t)
	mirror := ReadMirrors(HostDir).Archive
	if mirror == "" {
		t.Skip("the host has no mirror of the Debian archive in its apt sources")
	}
	var said []string
	r := Root{
		Dir: t.TempDir(), Suite: "trixie", Mirror: mirror,
		Progress: func(s string) { said = append(said, s) },
	}
	if !r.Updated().IsZero() {
		t.Errorf("Updated() of a new root = %v; want the zero time", r.Updated())
	}
	if err := r.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	if age := time.Since(r.Updated()); age > time.Minute {
		t.Errorf("Updated() is %v ago; want a moment", age)
	}
	deps, err := r.Depends(t.Context(), "linux-image-cloud-amd64")
	if err != nil {
		t.Fatal(err)
	}
	if len(deps) != 1 || !strings.HasPrefix(deps[0], "linux-image-") {
		t.Errorf("Depends(linux-image-cloud-amd64) = %q; want the kernel of a version", deps)
	}
	debs, err := r.Download(t.Context(), "seabios")
	if err != nil {
		t.Fatal(err)
	}
	if len(debs) != 1 || debs[0].Name != "seabios" || debs[0].Version == "" {
		t.Fatalf("Download(seabios) = %+v", debs)
	}
	tree := t.TempDir()
	if err := Extract(t.Context(), debs[0], tree); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tree, "usr/share/seabios/bios-256k.bin")); err != nil {
		t.Error(err)
	}

	// A damaged file is fetched again, a good one is not.
	if err := os.Truncate(debs[0].Path, 100); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} {
		said = nil
		if _, err := r.Download(t.Context(), "seabios"); err != nil {
			t.Fatal(err)
		}
		if len(said) != want {
			t.Errorf("Download fetched %d files (%q); want %d", len(said), said, want)
		}
	}

	if _, err := r.Download(t.Context(), "no-such-package-at-all"); err == nil {
		t.Error("Download of a package that is not there = nil; want an error")
	}
	// Without Debian's keys nothing is accepted.
	r.Dir, r.Keyring = t.TempDir(), filepath.Join(t.TempDir(), "none.gpg")
	if err := os.WriteFile(r.Keyring, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.Update(t.Context()); fault.CodeOf(err) != fault.DebianKeysOld {
		t.Errorf("Update without the archive's keys = %v, %q; want %s", err, fault.CodeOf(err), fault.DebianKeysOld)
	}
}
