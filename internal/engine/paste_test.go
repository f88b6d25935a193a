package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A file that is put into a machine is there as a whole, for its user alone, or not at all.
func TestWriteDrop(t *testing.T) {
	for _, c := range []struct {
		input, length string
		whole         bool
	}{
		{"picture", "7", true},
		{"", "0", true},
		{"pict", "7", false}, // who sent it broke off
	} {
		dir := filepath.Join(t.TempDir(), "cache", "drop")
		file := filepath.Join(dir, "a.png")
		cmd := exec.Command("/bin/sh", "-c", writeDrop, file, c.length)
		cmd.Stdin = strings.NewReader(c.input)
		out, err := cmd.CombinedOutput()
		left, _ := os.ReadDir(dir)
		if (err == nil) != c.whole || len(left) > 0 != c.whole {
			t.Errorf("%q of %s bytes: %v, %s; there are %v", c.input, c.length, err, out, left)
		}
		if !c.whole {
			continue
		}
		st, err := os.Stat(file)
		if text, _ := os.ReadFile(file); err != nil || string(text) != c.input || st.Mode().Perm() != 0o600 {
			t.Errorf("%q is there as %q: %v", c.input, text, err)
		}
	}
}
