package shellquote

import (
	"os/exec"
	"strings"
	"testing"
)

func TestWord(t *testing.T) {
	for in, want := range map[string]string{
		"":               "''",
		"/a/b-c":         "/a/b-c",
		"drive=x,id=0:%": "drive=x,id=0:%",
		"=ls":            "'=ls'",
		"/a b":           "'/a b'",
		"it's":           `'it'\''s'`,
		"é":              "'é'",
		"~":              "'~'",
	} {
		if got := Word(in); got != want {
			t.Errorf("Word(%q) = %s; want %s", in, got, want)
		}
	}
}

// shells are what reads the words: /bin/sh, and others that are installed.
func shells() []string {
	paths := []string{"/bin/sh"}
	for _, name := range []string{"bash", "dash", "zsh", "busybox"} {
		if path, err := exec.LookPath(name); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

// FuzzWord lets shells read what was quoted.
func FuzzWord(f *testing.F) {
	for _, s := range []string{
		"", "plain", "a b", "it's", "''", `back\slash`, "$HOME", "${x}", "$(id)", "`id`", "a,b=c", "=x", "*?[]", "new\nline\n", "~", "~root",
		"#", "!", "!!", "{a,b}", "<>|&;()", "tab\t", `"`, "\x01\x1b\x7f", "\xff", "é\u202e", "-n", "--", "%s", "^", "A=b", "\\'", "\r\n",
	} {
		f.Add(s)
	}
	all := shells()
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ReplaceAll(s, "\x00", "")
		for _, shell := range all {
			args := []string{"-c", `printf %s ` + Word(s) + ` "|" ` + Quoted(s) + ` "|" a` + Quoted(s)}
			if strings.HasSuffix(shell, "busybox") {
				args = append([]string{"sh"}, args...)
			}
			cmd := exec.Command(shell, args...)
			cmd.Env = []string{"LC_ALL=C.UTF-8", "HOME=/nowhere"}
			out, err := cmd.Output()
			if want := s + "|" + s + "|a" + s; err != nil || string(out) != want {
				t.Errorf("%s reads %s as %q, %v; want %q", shell, args[len(args)-1], out, err, want)
			}
		}
	})
}
