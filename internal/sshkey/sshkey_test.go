package sshkey

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
)

// keygen runs OpenSSH's own program.
func keygen(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("there is no ssh-keygen to compare with")
	}
	out, err := exec.Command("ssh-keygen", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestEnsure(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ssh/id_ed25519")
	key, err := Ensure(name, "mayfly")
	if err != nil {
		t.Fatal(err)
	}
	for file, perm := range map[string]os.FileMode{name: 0o600, name + ".pub": 0o644, filepath.Dir(name): 0o700} {
		fi, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != perm {
			t.Errorf("%s has mode %o; want %o", file, fi.Mode().Perm(), perm)
		}
	}
	again, err := Ensure(name, "other")
	if err != nil || !bytes.Equal(again.Line(), key.Line()) {
		t.Errorf("the second time: %v, %s; want the same key %s", err, again.Line(), key.Line())
	}
	if got, want := keygen(t, "-lf", name), "256 "+key.Fingerprint()+" mayfly (ED25519)\n"; got != want {
		t.Errorf("ssh-keygen -l prints %q; want %q", got, want)
	}
	if got := keygen(t, "-yf", name); got != strings.TrimSpace(string(key.Line()))+" mayfly\n" {
		t.Errorf("ssh-keygen -y prints %q; want %q", got, key.Line())
	}
	pub, err := os.ReadFile(name + ".pub")
	if err != nil || string(pub) != strings.TrimSpace(string(key.Line()))+" mayfly\n" {
		t.Errorf("%s.pub = %q, %v", name, pub, err)
	}
}

// Two machines that are started at once agree on one key.
func TestEnsureAtOnce(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "id_ed25519")
	var wg sync.WaitGroup
	lines := make([]string, 8)
	for i := range lines {
		wg.Go(func() {
			key, err := Ensure(name, "mayfly")
			if err != nil {
				t.Error(err)
				return
			}
			lines[i] = string(key.Line())
		})
	}
	wg.Wait()
	for _, line := range lines {
		if line != lines[0] {
			t.Errorf("the keys differ: %q", lines)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, atomicfile.Leftovers)); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestEnsureRefusesWhatIsNoKey(t *testing.T) {
	name := filepath.Join(t.TempDir(), "id_ed25519")
	if err := os.WriteFile(name, []byte("no key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(name, "mayfly"); err == nil {
		t.Error("Ensure took a file for a key")
	}
	if data, _ := os.ReadFile(name); string(data) != "no key\n" {
		t.Errorf("Ensure changed the file to %q", data)
	}
}

func TestUserKeys(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, ".ssh")
	if got := UserKeys(home); got != nil {
		t.Errorf("UserKeys without a directory = %v; want none", got)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	newKey := func() Public {
		private, err := Generate("")
		if err != nil {
			t.Fatal(err)
		}
		key, err := PublicOf(private)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	a, b := newKey(), newKey()
	line := func(k Public) string { return strings.TrimSpace(string(k.Line())) }
	for name, content := range map[string]string{
		"a.pub":       line(a) + " alice@laptop\n",
		"b.pub":       line(b),
		"again.pub":   line(a) + " once more\n",
		"options.pub": `command="rm -rf /" ` + line(newKey()) + "\n",
		"two.pub":     line(newKey()) + "\n" + line(newKey()) + "\n",
		"garbage.pub": "ssh-ed25519 AAAA garbage\n",
		"empty.pub":   "",
		"long.pub":    line(newKey()) + strings.Repeat(" ", maxFile),
		"known_hosts": "host " + line(newKey()) + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.pub"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "broken.pub")); err != nil {
		t.Fatal(err)
	}
	want := line(a) + "\n" + line(b) + "\n"
	if got := string(AuthorizedKeys(UserKeys(home)...)); got != want {
		t.Errorf("the keys of the user are\n%swant\n%s", got, want)
	}
}

func TestKnownHost(t *testing.T) {
	private, err := Generate("web")
	if err != nil {
		t.Fatal(err)
	}
	key, err := PublicOf(private)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(name, []byte(key.KnownHost("web.mayfly")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := keygen(t, "-lF", "web.mayfly", "-f", name); !strings.Contains(got, key.Fingerprint()) {
		t.Errorf("ssh-keygen -lF prints %q; want %s in it", got, key.Fingerprint())
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHk0aHqQmhq9JmGxVrYyWDTGkJQ5vBEnJ3iQbm2O6bZU alice@laptop\n"))
	f.Add([]byte("no-pty ssh-rsa AAAA\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		key, err := Parse(line)
		if err != nil {
			return
		}
		out := key.Line()
		if bytes.Count(out, []byte("\n")) != 1 {
			t.Errorf("Parse(%q) gives the lines %q", line, out)
		}
		if _, _, _, _, err := ssh.ParseAuthorizedKey(out); err != nil {
			t.Errorf("Parse(%q) gives %q: %v", line, out, err)
		}
	})
}
