package cli

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// Who interrupts a wait for a machine, or a command that has not begun, hears only that.
func TestInterrupted(t *testing.T) {
	home := t.TempDir()
	a := appIn(home)
	a.In = os.Stdin
	a.signals = terminal.NewSignals()
	defer a.signals.Stop()
	ctx := a.signals.Context()
	file := filepath.Join(home, ".config/mayfly/machines/starting.toml")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("version = 1\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	store := state.Open(filepath.Join(home, ".local/state/mayfly"))
	for _, name := range []string{"starting", "ready"} {
		_, lock, err := store.Create(plan.Plan{Version: plan.Version, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Release()
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	for _, name := range []string{"starting", "ready"} {
		err := a.execNamed(ctx, name, []string{"true"}, true)
		if run, ok := errors.AsType[runError](err); !ok || run.code != 130 || !errors.Is(err, terminal.ErrInterrupted) {
			t.Errorf("exec in the machine %q = %v; want %v and the exit code 130", name, err, terminal.ErrInterrupted)
		}
	}
}
