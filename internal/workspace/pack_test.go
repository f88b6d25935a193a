package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/erofs"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// write makes a file and its parents.
func write(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

// pack packs dir and opens the result.
func pack(t testing.TB, dir string, opts PackOptions) (*Manifest, *erofs.Image) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "workspace.erofs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	m, err := Pack(t.Context(), dir, out, opts)
	if err != nil {
		t.Fatalf("Pack: %v", err)
	}
	im, err := m.OpenImage(out)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := out.Stat(); err != nil || fi.Size() != plan.DiskSize {
		t.Errorf("image file has %d bytes (%v); want %d", fi.Size(), err, int64(plan.DiskSize))
	}
	return m, im
}

// contents lists an image: one line per file.
func contents(t *testing.T, im *erofs.Image) map[string]string {
	t.Helper()
	got := make(map[string]string)
	err := im.Walk(func(e erofs.Entry, open func() *io.SectionReader) error {
		s := fmt.Sprintf("%o %d:%d", e.Mode, e.UID, e.GID)
		if e.Link != "" {
			s = "link to " + e.Link
		} else if open != nil {
			b, err := io.ReadAll(open())
			if err != nil {
				return err
			}
			s += " " + string(b)
		} else if e.Target != "" {
			s += " -> " + e.Target
		}
		got[e.Path] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPack(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o755))
	write(t, dir+"/file", "hello", 0o640)
	write(t, dir+"/run", "#!/bin/sh", 0o755|os.ModeSetuid)
	write(t, dir+"/sub/deep/x", "x", 0o444)
	write(t, dir+"/sub-z", "", 0o600)
	write(t, dir+"/latin\xe9", "bytes", 0o644)
	write(t, dir+"/.gitignore", "ignored\n", 0o644)
	write(t, dir+"/ignored", "ignored by git only", 0o644)
	write(t, dir+"/node_modules/a/index.js", "", 0o644)
	must(os.Mkdir(dir+"/empty", 0o700))
	must(os.Chmod(dir+"/empty", 0o777|os.ModeSticky))
	must(os.Symlink("/etc/shadow", dir+"/abs"))
	must(os.Symlink("nowhere", dir+"/dangling"))
	must(os.Symlink("sub", dir+"/todir"))
	must(os.Link(dir+"/file", dir+"/hard"))
	must(unix.Mkfifo(dir+"/pipe", 0o644))
	when := time.Unix(1700000000, 123456789)
	must(os.Chtimes(dir+"/sub/deep/x", when, when))

	var notes []string
	m, im := pack(t, dir, PackOptions{
		UID: 1000, GID: 100,
		Exclude: []string{"node_modules/"},
		Warn:    func(n Note) { notes = append(notes, n.String()) },
	})
	want := map[string]string{
		".":          "40755 1000:100",
		"file":       "100640 1000:100 hello",
		"hard":       "link to file",
		"run":        "100755 1000:100 #!/bin/sh",
		"sub":        "40755 1000:100",
		"sub/deep":   "40755 1000:100",
		"sub/deep/x": "100444 1000:100 x",
		"sub-z":      "100600 1000:100 ",
		"latin\xe9":  "100644 1000:100 bytes",
		".gitignore": "100644 1000:100 ignored\n",
		"ignored":    "100644 1000:100 ignored by git only",
		"empty":      "40777 1000:100",
		"abs":        "120777 1000:100 -> /etc/shadow",
		"dangling":   "120777 1000:100 -> nowhere",
		"todir":      "120777 1000:100 -> sub",
	}
	got := contents(t, im)
	for p, w := range want {
		if got[p] != w {
			t.Errorf("image has %q = %q; want %q", p, got[p], w)
		}
		delete(got, p)
		if e := m.Find(p); p != "." && e == nil {
			t.Errorf("manifest has no %q", p)
		}
	}
	for p, g := range got {
		t.Errorf("image also has %q = %q", p, g)
	}
	if e, err := im.Lookup("sub/deep/x"); err != nil || !e.MTime.Equal(when) {
		t.Errorf("time of sub/deep/x = %v (%v); want %v", e.MTime, err, when)
	}
	if e := m.Find("run"); e != nil && e.Mode != 0o4755 {
		t.Errorf("manifest has mode %o for run; want the host's 4755", e.Mode)
	}
	if len(notes) != 1 || notes[0] != "pipe: a named pipe; left out" {
		t.Errorf("notes = %q; want one about the pipe", notes)
	}
	for i := 1; i < len(m.Entries); i++ {
		if comparePaths(m.Entries[i-1].Path, m.Entries[i].Path) >= 0 {
			t.Errorf("manifest is not sorted at %q", m.Entries[i].Path)
		}
	}
}

func TestPackManyNotes(t *testing.T) {
	dir := t.TempDir()
	for i := range 30 {
		if err := unix.Mkfifo(fmt.Sprintf("%s/pipe%02d", dir, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var notes []string
	pack(t, dir, PackOptions{Warn: func(n Note) { notes = append(notes, n.String()) }})
	if len(notes) != maxNotes+1 || notes[maxNotes] != "22 more like these" {
		t.Errorf("notes = %q; want %d of them and a count", notes, maxNotes)
	}
}

func TestPackUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := t.TempDir()
	write(t, dir+"/secret", "x", 0)
	out, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	_, err = Pack(t.Context(), dir, out, PackOptions{})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "secret") || fault.CodeOf(err) != fault.WorkspaceFilesUnreadable {
		t.Errorf("Pack = %v (code %q); want a permission error about secret", err, fault.CodeOf(err))
	}
}

// What is to be typed leaves out exactly what may not be read, while that is a few paths.
func TestUnreadablePatterns(t *testing.T) {
	paths := []string{"closed", "a/b c", `we*ird[?]\x`, "**"}
	for n := 1; n <= len(paths); n++ {
		var p packer
		for _, path := range paths[:n] {
			if err := p.outcome(path, "open", fs.ErrPermission); err != nil {
				t.Fatal(err)
			}
		}
		err, ok := fault.Of(p.permission())
		if !ok || err.Code != fault.WorkspaceFilesUnreadable {
			t.Fatalf("%d paths: %v", n, p.permission())
		}
		var patterns []string
		for i := range paths {
			if pattern, ok := err.Args[fmt.Sprint("pattern", i+1)]; ok {
				patterns = append(patterns, pattern)
			}
		}
		if n > maxPatterns {
			if patterns != nil {
				t.Errorf("%d paths: patterns for some of them, %q", n, patterns)
			}
			continue
		}
		es, parse := parseExcludes(patterns)
		if parse != nil || len(patterns) != n {
			t.Fatalf("%d paths: the patterns are %q, %v", n, patterns, parse)
		}
		for _, path := range []string{"x/closed", "closed2", "a/b", `weird[?]\x`, "we*ird?x", "other"} {
			if es.match(path, true) {
				t.Errorf("%q leaves out %q, too", patterns, path)
			}
		}
		for _, path := range paths[:n] {
			if !es.match(path, true) || !es.match(path, false) {
				t.Errorf("%q does not leave out %q", patterns, path)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "", 0o644)
	tests := []struct {
		path string
		want error
		code fault.Code
	}{
		{dir, nil, ""},
		{dir + "/none", fs.ErrNotExist, fault.WorkspaceMissing},
		{dir + "/file", unix.ENOTDIR, fault.WorkspaceNotADirectory},
	}
	for _, tt := range tests {
		err := Check(tt.path)
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("Check(%q) = %v; want %v", tt.path, err, tt.want)
		}
		if code := fault.CodeOf(err); code != tt.code {
			t.Errorf("Check(%q) has the code %q; want %q", tt.path, code, tt.code)
		}
	}
}

// BenchmarkPack packs the Go source tree.
func BenchmarkPack(b *testing.B) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	dir := string(bytes.TrimSpace(root))
	tmp := b.TempDir()
	for b.Loop() {
		out, err := os.Create(filepath.Join(tmp, "image"))
		if err != nil {
			b.Fatal(err)
		}
		m, err := Pack(b.Context(), dir, out, PackOptions{UID: 1000, GID: 1000})
		if err != nil {
			b.Fatal(err)
		}
		out.Close()
		b.ReportMetric(float64(len(m.Entries)), "files/op")
	}
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err == nil {
		b.ReportMetric(float64(ru.Maxrss)/1024, "MiB-rss")
	}
}

// Packing ends with its context in the middle of a file, too.
func TestPackCancel(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", strings.Repeat("x", 100), 0o644)
	out, err := os.Create(t.TempDir() + "/image")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := Pack(ctx, dir, out, PackOptions{}); !errors.Is(err, why) {
		t.Errorf("Pack() = %v; want %v", err, why)
	}
	w, err := erofs.NewWriter(out, erofs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p := &packer{manifest: &Manifest{}, image: w, links: make(map[[2]uint64]string)}
	if err := p.file(ctx, fd, "f", "f"); !errors.Is(err, why) {
		t.Errorf("a file after the end = %v; want %v", err, why)
	}
}

// What is to be .git takes the place of what is there, whatever that is, and the manifest has
// nothing of it.
func TestPackGit(t *testing.T) {
	for _, old := range []string{"none", "file", "dir"} {
		t.Run(old, func(t *testing.T) {
			dir, git := t.TempDir(), t.TempDir()
			write(t, dir+"/a", "a", 0o644)
			write(t, dir+"/sub/.git/HEAD", "mine", 0o644)
			switch old {
			case "file":
				write(t, dir+"/.git", "gitdir: ../elsewhere", 0o644)
			case "dir":
				write(t, dir+"/.git/hooks/pre-commit", "#!/bin/sh", 0o755)
			}
			write(t, git+"/HEAD", "ref: refs/heads/main", 0o644)
			write(t, git+"/objects/pack/p", "objects", 0o444)
			m, im := pack(t, dir, PackOptions{UID: 7, GID: 8, Git: &CarriedGit{Dir: git, Prefix: "part/"}})
			if !m.GitCarried || m.GitPrefix != "part/" {
				t.Errorf("the manifest says %v, %q", m.GitCarried, m.GitPrefix)
			}
			var got []string
			for _, e := range m.Entries {
				got = append(got, e.Path)
			}
			if want := []string{"a", "sub", "sub/.git", "sub/.git/HEAD"}; !slices.Equal(got, want) {
				t.Errorf("the manifest lists %q; want %q", got, want)
			}
			for path, want := range map[string]string{".git/HEAD": "ref: refs/heads/main", ".git/objects/pack/p": "objects", "sub/.git/HEAD": "mine"} {
				r, err := im.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				if text, err := io.ReadAll(r); err != nil || string(text) != want {
					t.Errorf("%s is %q, %v; want %q", path, text, err, want)
				}
			}
			if _, err := im.Open(".git/hooks/pre-commit"); err == nil {
				t.Error("the hook is there")
			}
		})
	}
}
