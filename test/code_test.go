package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// TestCode opens a machine's workspace in a program that stands for an editor, and that
// reaches the machine as editors do: by the host's ssh, and its configuration.
func TestCode(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("needs ssh")
	}
	vm.Lock(t)
	h := vm.New(t)
	bin, said := filepath.Join(h.Home, "editors"), filepath.Join(h.Home, "said")
	// ssh takes the home directory of the user's entry and not HOME.
	editor := "#!/bin/sh\nprintf '%s\\n' \"$@\" >" + said + "\n" +
		`ssh -F "$HOME/.ssh/config" "${2#ssh-remote+}" "cd '$3' && cat note && hostname" >>` + said + "\n"
	writeFile(t, filepath.Join(bin, "code"), editor)
	if err := os.Chmod(filepath.Join(bin, "code"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.Set("PATH", bin+":"+h.Variable("PATH"))
	writeFile(t, filepath.Join(h.Dir, "note"), "from the workspace\n")
	h.Run(0, "new", "m", "--workspace", h.Dir, "--no-detect", "--network", "none")

	if r := h.Run(1, "code", "m"); !strings.Contains(r.Stderr, "hint: mayfly ssh-config --install") {
		t.Errorf("without a configuration of ssh: %s", r.Stderr)
	}
	if out := h.Run(0, "ls").Stdout; !strings.Contains(out, "stopped") {
		t.Errorf("a command that failed has started the machine:\n%s", out)
	}
	h.Run(0, "ssh-config", "--install")
	h.Run(0, "code", "m")
	got, err := os.ReadFile(said)
	if want := "--remote\nssh-remote+m.mayfly\n" + h.Dir + "\nfrom the workspace\nm\n"; string(got) != want || err != nil {
		t.Errorf("the editor has %q, %v; want %q", got, err, want)
	}
	h.Run(0, "rm", "--force", "m")
}
