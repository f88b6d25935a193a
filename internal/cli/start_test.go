package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// Who finds that a machine is being started waits for what comes of it, and not for ever.
func TestWaitStarted(t *testing.T) {
	type step = func(state.Machine, *state.Lock) error
	status := func(phase state.Phase, kept bool) step {
		return func(m state.Machine, _ *state.Lock) error {
			return state.WriteJSON(m.File(state.StatusFile), state.Status{Phase: phase, Kept: kept})
		}
	}
	removed := func(m state.Machine, lock *state.Lock) error {
		defer lock.Release()
		return m.Remove()
	}
	died := func(_ state.Machine, lock *state.Lock) error {
		lock.Release()
		return nil
	}
	for _, tt := range []struct {
		name  string
		steps []step        // one a second
		hint  string        // of the error; "" for none
		took  time.Duration // at least
	}{
		{"running", []step{status(state.Running, true)}, "", 0},
		{"becomes ready", []step{nil, status(state.Starting, false), status(state.Running, false), status(state.Running, true)}, "", 3 * time.Second},
		{"does not start", []step{nil, removed}, "mayfly start m", time.Second},
		{"is given up when it runs", []step{status(state.Running, false), removed}, "mayfly start m", time.Second},
		{"dies", []step{status(state.Starting, false), died}, "mayfly start m", time.Second},
		{"hangs", nil, "mayfly logs m, or mayfly stop m", time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store, err := state.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			m, lock, err := store.Create(plan.Plan{Version: plan.Version, Name: "m"})
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Release()
			stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
			if err != nil {
				t.Fatal(err)
			}
			defer stderr.Close()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				a := &app{Streams: Streams{Err: stderr}, signals: &signals{ctx: ctx}}
				go func() {
					for i, step := range tt.steps {
						if i > 0 {
							time.Sleep(time.Second)
						}
						if step == nil {
							continue
						}
						if err := step(m, lock); err != nil {
							t.Error(err)
						}
					}
				}()
				synctest.Wait()
				begin := time.Now()
				if err := a.waitStarted(ctx, m); hint.Of(err) != tt.hint || (err == nil) != (tt.hint == "") {
					t.Errorf("waitStarted() = %v, hint %q; want the hint %q", err, hint.Of(err), tt.hint)
				}
				if took := time.Since(begin); took < tt.took {
					t.Errorf("waitStarted() took %v; want %v at least", took, tt.took)
				}
			})
			said, err := os.ReadFile(stderr.Name())
			if err != nil {
				t.Fatal(err)
			}
			want := "mayfly: waiting for m, which another command starts\n"
			if tt.took == 0 {
				want = ""
			}
			if !bytes.Equal(said, []byte(want)) {
				t.Errorf("waitStarted() said %q; want %q", said, want)
			}
		})
	}
}
