package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// What a sync has left is left alone only where somebody has the lock, who ends it. All else
// that is in the way is told, since without it the list of changes would be wrong.
func TestEndSyncInTheWay(t *testing.T) {
	const lock = "apply.lock"
	broken := errors.New("broken off")
	for _, tt := range []struct {
		name string
		set  func(m Machine, stop func(error)) error
		want func(err error) bool
	}{
		{"none has it", func(m Machine, _ func(error)) error {
			return os.Remove(m.m.SyncFiles(m.p).Sending)
		}, func(err error) bool { return err == nil }},
		{"another has it", func(m Machine, _ func(error)) error {
			release, err := m.m.LockApply(t.Context(), nil)
			t.Cleanup(release)
			return err
		}, func(err error) bool { return err == nil }},
		{"it ends while another has it", func(m Machine, stop func(error)) error {
			release, err := m.m.LockApply(t.Context(), nil)
			t.Cleanup(release)
			stop(broken)
			return err
		}, func(err error) bool { return errors.Is(err, broken) }},
		{"no lock can be had", func(m Machine, _ func(error)) error {
			return os.Mkdir(m.m.File(lock), 0o700)
		}, func(err error) bool { return err != nil }},
		{"the machine was removed", func(m Machine, _ func(error)) error {
			return os.Symlink(filepath.Join(t.TempDir(), "gone", "lock"), m.m.File(lock))
		}, func(err error) bool { return err != nil }},
		{"what is left cannot be seen", func(m Machine, _ func(error)) error {
			name := m.m.SyncFiles(m.p).Sending
			dir := filepath.Dir(name)
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		}, func(err error) bool { return err != nil }},
	} {
		m := Machine{
			m: state.Machine{Name: "m", Dir: t.TempDir()}, p: plan.Plan{Name: "m", Workspace: plan.Workspace{Path: "/w", Mode: plan.ModeCopy}},
			e: &Engine{opt: Options{Tell: func(Event) {}}},
		}
		if err := os.WriteFile(m.m.SyncFiles(m.p).Sending, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancelCause(t.Context())
		if err := tt.set(m, stop); err != nil {
			t.Fatal(err)
		}
		err := m.endSync(ctx)
		stop(nil)
		if !tt.want(err) {
			t.Errorf("%s: %v (%s)", tt.name, err, fault.CodeOf(err))
		}
	}
}
