package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// The configuration's words come after the user's own, in every kind of shell.
func TestSetUpShells(t *testing.T) {
	root := t.TempDir()
	home := "/home/ada"
	if err := os.MkdirAll(filepath.Join(root, home), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{".bashrc": "A=dotfile", ".bash_profile": "A=dotfile"} {
		if err := os.WriteFile(filepath.Join(root, home, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	req := &wire.Configure{
		User:      wire.User{Home: home, UID: os.Getuid(), GID: os.Getgid()},
		Env:       []string{"A=env", "B=it's"},
		ShellInit: "export C=$A-init\nexport B=\"$B!\"",
	}
	if err := treeOf(root, nil, newSeen()).setUpShells(req); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{".bashrc": true, ".zshrc": true, ".profile": true, ".bash_profile": true, ".zprofile": false} {
		data, err := os.ReadFile(filepath.Join(root, home, name))
		if (err == nil) != want {
			t.Errorf("%s: %v; want it: %v", name, err, want)
		}
		if want && !strings.HasSuffix(string(data), "\n. /etc/mayfly/init.sh\n") {
			t.Errorf("%s = %q; want the words of the configuration at the end", name, data)
		}
	}
	out, err := exec.Command("sh", "-c", "A=dotfile; . "+filepath.Join(root, shellInitFile)+"; echo $A $B $C").Output()
	if got := string(out); err != nil || got != "env it's! env-init\n" {
		t.Errorf("a shell has %q, %v", got, err)
	}
}

func TestParseEnv(t *testing.T) {
	got := parseEnv([]byte("A=1\x00PWD=/\x00SHLVL=2\x00=x\x00noise\x00B=two\nlines\x00_=/bin/env\x00"))
	if d := cmp.Diff([]string{"A=1", "B=two\nlines"}, got); d != "" {
		t.Errorf("parseEnv (-want +got):\n%s", d)
	}
}
