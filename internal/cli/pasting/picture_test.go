package pasting

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is pasted goes into a machine only if it is surely a picture of the user's.
func TestPictures(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, data := range map[string]string{
		"a b.png": png, "key.png": "-----BEGIN OPENSSH PRIVATE KEY-----", "empty.png": "", ".hidden.png": png, ".ssh/a.png": png,
		"work/a.png": png, "others.png": png, "large.png": png + strings.Repeat("x", MaxBytes), "half.png": png + strings.Repeat("x", MaxBytes/2),
	} {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(at("pipe.png"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link.png": "a b.png", "keys": ".ssh", "towork.png": "work/a.png"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	except := func(p string) bool { return strings.HasPrefix(p, at("work")+"/") }
	for _, tt := range []struct {
		names []string
		want  bool
	}{
		{[]string{"a b.png"}, true},
		{[]string{"a b.png", "link.png"}, true},
		{[]string{"half.png"}, true},
		{[]string{"half.png", "half.png"}, false}, // together too large
		{[]string{"a b.png", "key.png"}, false},
		{[]string{"key.png"}, false},
		{[]string{"empty.png"}, false},
		{[]string{".hidden.png"}, false},
		{[]string{".ssh/a.png"}, false},
		{[]string{"keys/a.png"}, false},
		{[]string{"work/a.png"}, false},
		{[]string{"towork.png"}, false},
		{[]string{"large.png"}, false},
		{[]string{"pipe.png"}, false},
		{[]string{"none.png"}, false},
		{[]string{"work"}, false},
		{nil, false},
	} {
		var paths []string
		for _, n := range tt.names {
			paths = append(paths, at(n))
		}
		items, ok := Pictures(paths, except)
		if ok != tt.want || ok && (len(items) != len(paths) || items[0].Extension != "png" || items[0].Source != paths[0] || !strings.HasPrefix(string(items[0].Data), png)) {
			t.Errorf("Pictures(%q) = %d items, %v; want %v", tt.names, len(items), ok, tt.want)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("to have a file of another user needs root")
	}
	if err := os.Chown(at("others.png"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, ok := Pictures([]string{at("others.png")}, except); ok {
		t.Error("a file of another user is taken")
	}
}
