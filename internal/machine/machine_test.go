package machine

import (
	"os/exec"
	"strings"
	"testing"
)

// What String prints can be typed in a shell: the shell gives the same words.
func TestCommandString(t *testing.T) {
	words := []string{"plain", "", "a b", "it's", `back\slash`, "$HOME", "`x`", "a,b=c", "*?[]", "new\nline", "~", "#", "!", "{a,b}", "<>|&;()", "tab\t", `"`}
	c := Command{Path: "/usr/bin/printf", Args: append([]string{"%s\x01"}, words...)}
	out, err := exec.Command("/bin/sh", "-c", c.String()).Output()
	if err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	if got, want := string(out), strings.Join(words, "\x01")+"\x01"; got != want {
		t.Errorf("%s gave %q; want %q", c, got, want)
	}
	c = Command{Path: "env", Env: []string{"A=b c"}}
	if got, want := c.String(), "A='b c' env"; got != want {
		t.Errorf("String() = %q; want %q", got, want)
	}
}
