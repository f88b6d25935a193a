package sshconfig

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const testInclude = `Include "/home/me/.local/state/mayfly/ssh/config"`

func TestAddInclude(t *testing.T) {
	for name, tt := range map[string]struct{ file, want string }{
		"empty":            {"", testInclude + "\n"},
		"no last newline":  {"Host a", testInclude + "\nHost a"},
		"there":            {"# mine\n" + testInclude + "\nHost a\n", "# mine\n" + testInclude + "\nHost a\n"},
		"there, indented":  {"  " + testInclude + "\r\n", "  " + testInclude + "\r\n"},
		"in a block":       {"Host a\n" + testInclude + "\n", testInclude + "\nHost a\n" + testInclude + "\n"},
		"in another block": {"match=all\n" + testInclude + "\n", testInclude + "\nmatch=all\n" + testInclude + "\n"},
		"hostname":         {"HostName a\n" + testInclude + "\n", "HostName a\n" + testInclude + "\n"},
	} {
		got := string(addInclude([]byte(tt.file), testInclude))
		if got != tt.want {
			t.Errorf("%s: addInclude(%q) = %q; want %q", name, tt.file, got, tt.want)
		}
		if again := string(addInclude([]byte(got), testInclude)); again != got {
			t.Errorf("%s: the second time addInclude gives %q; want no change of %q", name, again, got)
		}
	}
}

// Whatever is in the user's file, it is the same again after --uninstall.
func FuzzInclude(f *testing.F) {
	f.Add([]byte("Host a\n\tUser b\n"))
	f.Add([]byte("\r\n\x00no newline"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if strings.Contains(string(file), testInclude) {
			return
		}
		if got := string(dropLine(addInclude(file, testInclude), testInclude)); got != string(file) {
			t.Errorf("of %q was left %q", file, got)
		}
	})
}

// A ProxyCommand goes through ssh's percent signs and a shell.
func TestShellQuote(t *testing.T) {
	for _, name := range []string{"/usr/bin/mayfly", "/home/a b/it's/$HOME/\"x\"/`id`/\\/*", "/100%/%h"} {
		out, err := exec.Command("sh", "-c", "printf %s "+strings.ReplaceAll(shellWord(name), "%%", "%")).Output()
		if err != nil || string(out) != name {
			t.Errorf("the shell makes %q of shellWord(%q), %v", out, name, err)
		}
	}
}

func TestSSHQuote(t *testing.T) {
	for name, want := range map[string]string{
		"/home/me/x": `"/home/me/x"`, "/home/a b/50%": `"/home/a b/50%%"`, "/$HOME": `"/$HOME"`,
		`/a"b`: "", "/a\\b": "", "/a\nb": "", "/${HOME}": "",
	} {
		got, err := quote(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("quote(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestInstalled(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, "state/ssh_config")
	is := func(want bool, when string) {
		t.Helper()
		if got, err := Installed(home, file); got != want || err != nil {
			t.Errorf("%s: Installed = %t, %v; want %t", when, got, err, want)
		}
	}
	is(false, "at first")
	if err := Install(home, file, "Host *.mayfly\n"); err != nil {
		t.Fatal(err)
	}
	is(true, "after Install")
	line, err := includeLine(file)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(home, ".ssh/config")
	if err := os.WriteFile(config, []byte("Host a\n"+line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	is(false, "within a block, where it is for other hosts")
	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	is(false, "without a file of the user's")
}
