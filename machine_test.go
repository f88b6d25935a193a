package mayfly

import (
	"testing"
	"testing/synctest"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// A machine that somebody else has started has no owner here: what only an owner knows is
// an error, and what only an owner may do does nothing.
func TestMachineOfAnother(t *testing.T) {
	var m Machine
	if err := m.Wait(t.Context()); err == nil {
		t.Error("Wait() = nil; want an error")
	}
	if err := m.Lost(); err == nil {
		t.Error("Lost() = nil; want an error")
	}
	if err := m.Keep(); err != nil {
		t.Errorf("Keep() = %v; want nil", err)
	}
	m.Close()
}

// A caller that closes the sizes of its terminal has said the last of them.
func TestClosedSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sizes := make(chan Size)
		_, stdio, end := Cmd{Terminal: &Terminal{Resize: sizes}}.internal()
		defer end()
		close(sizes)
		synctest.Wait()
		select {
		case size := <-stdio.Resize:
			t.Errorf("the terminal becomes %+v; want that it keeps its size", size)
		default:
		}
	})
}

// A guest agent of an older mayfly tells no states: they are those that can be known.
func TestStateOfAnOlderGuest(t *testing.T) {
	for want, i := range map[SessionState]wire.SessionInfo{
		SessionWorks:       {},
		SessionNeedsAnswer: {Waiting: true},
		SessionStopped:     {Stopped: true},
		SessionDone:        {Exited: true},
		SessionFailed:      {Exited: true, Code: 1},
		SessionIdle:        {State: wire.StateIdle, Waiting: true},
	} {
		if got := newSession(i).State; got != want {
			t.Errorf("newSession(%+v) is %q; want %q", i, got, want)
		}
	}
}
