package dotfiles

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/image/erofs"
)

func TestPack(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		first + "/zshrc": "first", first + "/.vimrc": "vim", first + "/README.md": "no",
		first + "/config/emacs/init.el": "(x)", first + "/config/emacs/.env": "A=b",
		second + "/.zshrc": "second",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", first+"/.profile"); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	targets, err := Pack(out, []string{first, second}, []File{{Path: "agents/x/rules/a.md", Data: []byte("a")}, {Path: "agents/x/b", Data: []byte("b"), Exec: true}}, 1000, 1000)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := out.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := erofs.Open(out, fi.Size())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{".zshrc": "second", ".vimrc": "vim", ".config/emacs/init.el": "(x)", "agents/x/rules/a.md": "a"} {
		r, err := im.Open(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if data, err := io.ReadAll(r); err != nil || string(data) != want {
			t.Errorf("%s = %q, %v; want %q", name, data, err, want)
		}
		if e, err := im.Lookup(name); err != nil || e.UID != 1000 || e.Mode&0o777 != 0o644 {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	if e, err := im.Lookup("agents/x/b"); err != nil || e.UID != 1000 || e.Mode&0o777 != 0o755 {
		t.Errorf("a program: %+v, %v", e, err)
	}
	for _, name := range []string{"README.md", ".config/emacs/.env"} {
		if _, err := im.Lookup(name); err == nil {
			t.Errorf("%s is in the image", name)
		}
	}
	for i, name := range targets {
		if name == ".profile" { // whether a link is taken is List's to say
			targets = append(targets[:i], targets[i+1:]...)
			break
		}
	}
	if d := cmp.Diff([]string{".config/emacs", ".vimrc", ".zshrc"}, targets); d != "" {
		t.Errorf("Pack (-want +got):\n%s", d)
	}
}
