package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// rm asks also where the changes cannot be counted: of a machine that stands still, and of
// one that is stopped.
func TestRemoveAsksUncounted(t *testing.T) {
	for _, health := range []control.Health{control.Paused, control.Unreachable} {
		t.Run(string(health), func(t *testing.T) {
			home := t.TempDir()
			m := runFakeMachine(t, home, map[string]string{"a": "1"})
			m.health = control.Condition{Health: health, Code: "machine-paused", Reason: "why"}
			m.before = func(wire.Request) bool { t.Error("its guest was asked"); return false }
			if text, err := answerNo(t, home, "rm", "m"); err == nil || !strings.Contains(text, "they were not applied") {
				t.Errorf("rm = %v and printed %q; want that the changes were not applied", err, text)
			}
			if _, err := os.Lstat(m.Dir); err != nil {
				t.Errorf("it is gone: %v", err)
			}
		})
	}
	t.Run("stopped", func(t *testing.T) {
		home := t.TempDir()
		dir := filepath.Join(home, "project")
		file := filepath.Join(home, ".config/mayfly/machines/web.toml")
		kept := filepath.Join(home, ".local/state/mayfly/kept/web", "keep.img")
		for name, text := range map[string]string{file: "version = 1\n[workspace]\npath = \"" + dir + "\"\n", kept: strings.Repeat("x", 100_000)} {
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if text, err := answerNo(t, home, "rm", "web"); err == nil || !strings.Contains(text, "remove web, with everything in it?") {
			t.Errorf("rm = %v and printed %q; want a question", err, text)
		}
		for _, name := range []string{file, kept} {
			if _, err := os.Lstat(name); err != nil {
				t.Errorf("it is gone: %v", err)
			}
		}
	})
}

// answerNo runs a command on a terminal, says no to its question, and returns what it
// printed.
func answerNo(t *testing.T, home string, args ...string) (string, error) {
	t.Helper()
	user, ours := pseudoTerminal(t)
	seen := make(chan string, 1)
	go func() {
		var text []byte
		for buf := make([]byte, 1000); ; {
			n, err := user.Read(buf)
			text = append(text, buf[:n]...)
			if strings.Contains(string(text), "[yes/no]") || err != nil {
				user.WriteString("no\n")
				seen <- string(text)
				return
			}
		}
	}()
	err := userOf(t, home, ours).command(args...)
	ours.Close()
	user.Close()
	return <-seen, err
}

func TestKeepsChanges(t *testing.T) {
	for _, tt := range []struct {
		kept mayfly.Persist
		want bool
	}{
		{mayfly.Persist{What: mayfly.PersistChanges, Bytes: 4096}, true}, {mayfly.Persist{What: mayfly.PersistChanges}, false},
		{mayfly.Persist{What: mayfly.PersistAgents, Bytes: 4096}, false}, {mayfly.Persist{What: mayfly.PersistVolume, Bytes: 4096}, false},
	} {
		if got := keepsChanges(mayfly.Details{Persists: []mayfly.Persist{{What: mayfly.PersistCopy, Bytes: 1}, tt.kept}}); got != tt.want {
			t.Errorf("keepsChanges() with %+v = %t; want %t", tt.kept, got, tt.want)
		}
	}
}
