package engine

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
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
		code  fault.Code    // of the error; "" for none
		took  time.Duration // at least
	}{
		{"running", []step{status(state.Running, true)}, "", 0},
		{"becomes ready", []step{nil, status(state.Starting, false), status(state.Running, false), status(state.Running, true)}, "", 3 * time.Second},
		{"does not start", []step{nil, removed}, fault.StartAbandoned, time.Second},
		{"is given up when it runs", []step{status(state.Running, false), removed}, fault.StartAbandoned, time.Second},
		{"dies", []step{status(state.Starting, false), died}, fault.StartAbandoned, time.Second},
		{"hangs", nil, fault.StartTimeout, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := state.Open(t.TempDir())
			m, lock, err := store.Create(plan.Plan{Version: plan.Version, Name: "m"})
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Release()
			var said []string
			e := testEngine(t, func(ev Event) {
				said = append(said, strings.TrimSpace(string(ev.Kind)+" "+ev.Code+" "+ev.Args["name"]))
			})
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
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
				if err := e.waitStarted(ctx, m); fault.CodeOf(err) != tt.code || (err == nil) != (tt.code == "") {
					t.Errorf("waitStarted() = %v, code %q; want the code %q", err, fault.CodeOf(err), tt.code)
				}
				if took := time.Since(begin); took < tt.took {
					t.Errorf("waitStarted() took %v; want %v at least", took, tt.took)
				}
			})
			want := []string{"step await-start m", "done"}
			if tt.took == 0 {
				want = []string{"done"}
			}
			if !slices.Equal(said, want) {
				t.Errorf("waitStarted() told %q; want %q", said, want)
			}
		})
	}
}

// testEngine returns an engine in directories of its own.
func testEngine(t *testing.T, tell func(Event)) *Engine {
	t.Helper()
	home := t.TempDir()
	e, err := New(Options{Tell: tell, Getenv: func(name string) string {
		if name == "HOME" {
			return home
		}
		return ""
	}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}
