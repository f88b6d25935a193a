package session

import (
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/hook"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// What the hooks of a program say is its state, until they say something else, it is
// stopped, gets what it waits for, or ends.
func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		isIdle := false
		s := newSession("claude", nil, wire.Winsize{Rows: 24, Cols: 80}, Program{
			Input: io.Discard, Resize: func(wire.Winsize) {}, Signal: func(syscall.Signal) {}, Foreground: func() int { return 0 },
			Idle: func(int) bool { return isIdle },
		})
		v := &viewer{session: s, wake: make(chan struct{}, 1)}
		begun := time.Now()
		expect := func(what string, state wire.SessionState, since time.Time, last string) {
			t.Helper()
			i := s.info()
			if i.State != state || i.Since != since.UnixNano() || i.Last != last {
				t.Errorf("%s: %s since %v, %q; want %s since %v, %q", what, i.State, time.Unix(0, i.Since).Sub(begun), i.Last, state, since.Sub(begun), last)
			}
			if i.Waiting != (i.Why != "") || state.Waits() && !s.exited && !i.Waiting || state == wire.StateWorks && i.Waiting {
				t.Errorf("%s: it waits: %v, %q", what, i.Waiting, i.Why)
			}
		}
		// write has the program write for a while, as one that works does.
		write := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				s.Output([]byte("."))
			}
		}
		after := func() time.Time { time.Sleep(time.Second); return time.Now() }

		expect("without hooks", wire.StateWorks, begun, "")
		at := after()
		s.Report(hook.Report{State: wire.StateIdle, Last: ""})
		expect("it is at its prompt", wire.StateIdle, at, "")
		at = after()
		s.Report(hook.Report{State: wire.StateWorks, Last: "fix it"})
		expect("it was asked", wire.StateWorks, at, "fix it")
		write(time.Minute)
		s.Report(hook.Report{State: wire.StateIdle})
		expect("it works on, and its start is told late", wire.StateWorks, at, "fix it")
		at = after()
		s.Report(hook.Report{State: wire.StatePermission, Last: "Bash: rm"})
		expect("it asks", wire.StatePermission, at, "Bash: rm")
		time.Sleep(10 * time.Second)
		s.Report(hook.Report{State: wire.StatePermission, Last: "needs your permission", Reminder: true})
		expect("it reminds", wire.StatePermission, at, "Bash: rm")
		s.Report(hook.Report{State: wire.StateIdle, Reminder: true})
		expect("a reminder of less", wire.StatePermission, at, "Bash: rm")

		// A key that answers nothing, and one that does.
		isIdle = true
		s.typed(v, []byte("\x1b[A"))
		s.Output([]byte("."))
		expect("after an arrow key", wire.StatePermission, at, "Bash: rm")
		time.Sleep(quietTime)
		expect("long after an arrow key", wire.StatePermission, at, "Bash: rm")
		isIdle = false
		answered := after()
		s.typed(v, []byte("1"))
		expect("at the answer", wire.StatePermission, at, "Bash: rm")
		write(3 * time.Second)
		expect("after the answer", wire.StateWorks, answered, "Bash: rm")

		// Declined, of which no hook tells but a reminder.
		s.Report(hook.Report{State: wire.StateAnswer, Last: "Which?"})
		time.Sleep(time.Second)
		s.typed(v, []byte("\x1b"))
		at = after()
		s.Report(hook.Report{State: wire.StateIdle, Reminder: true})
		expect("declined", wire.StateIdle, at, "")

		// Interrupted, of which no hook tells.
		after()
		s.Report(hook.Report{State: wire.StateWorks, Last: "more"})
		s.typed(v, []byte("\x1b"))
		s.Output([]byte("."))
		quietSince := time.Now()
		isIdle = true
		time.Sleep(quietTime)
		expect("interrupted", wire.StateIdle, quietSince, "more")

		at = after()
		s.Report(hook.Report{State: wire.StateDone, Last: "Shall I?"})
		s.Output([]byte("\x1b]9;Shall I?\a"))
		expect("its turn is over, which it notifies, too", wire.StateDone, at, "Shall I?")
		at = after()
		s.Output([]byte("\x1b]9;Approval requested: rm\a"))
		expect("it notifies that it needs a permission", wire.StatePermission, at, "Approval requested: rm")

		after()
		s.Report(hook.Report{State: wire.StateWorks, Last: "last"})
		at = after()
		s.Exit(Exit{Code: 137})
		expect("it was killed", wire.StateCrashed, at, "last")
	})
}

// How a program has ended is a state, too.
func TestExitState(t *testing.T) {
	for e, want := range map[Exit]wire.SessionState{
		{}:                             wire.StateDone,
		{Code: 1}:                      wire.StateFailed,
		{Code: 127}:                    wire.StateFailed,
		{Code: 128}:                    wire.StateFailed,
		{Code: 129}:                    wire.StateDone,
		{Code: 130}:                    wire.StateDone,
		{Code: 143}:                    wire.StateDone,
		{Code: 139}:                    wire.StateCrashed,
		{Code: 137}:                    wire.StateCrashed,
		{Code: 137, OutOfMemory: true}: wire.StateMemory,
	} {
		if got := e.state(); got != want {
			t.Errorf("%+v is %q; want %q", e, got, want)
		}
	}
}
