package dial

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Who may no longer read whom to ask goes on asking whom it knew.
func TestKnownServers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# none\nsearch example.org\nnameserver 192.0.2.1\nnameserver bad\nnameserver 2001:db8::1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	k := newKnown(file)
	const ours = "127.0.0.1:53"
	if got := k.address(ours); got != ours {
		t.Errorf("address of a file that can be read = %s; want %s", got, ours)
	}
	k.file = filepath.Join(file, "below")
	if got := k.address(ours); got != ours {
		t.Errorf("address of a file that is not there = %s; want %s", got, ours)
	}
	refuse := func(string) (*os.File, error) { return nil, fs.ErrPermission }
	k.open = refuse
	for _, want := range []string{"192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.1:53"} {
		if got := k.address(ours); got != want {
			t.Errorf("address of a file that is refused = %s; want %s", got, want)
		}
	}
}
