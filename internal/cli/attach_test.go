package cli

import (
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly"
)

// The session that has waited the longest is first, and what is done waits behind what asks.
func TestWaiters(t *testing.T) {
	now := time.Now()
	is := func(name string, state mayfly.SessionState, ago time.Duration) mayfly.Session {
		return mayfly.Session{Name: name, State: state, Since: now.Add(-ago)}
	}
	ended := is("ended", mayfly.SessionDone, time.Hour)
	ended.Exited = true
	running, waiting := waiters([]mayfly.Info{
		{Name: "a", Sessions: []mayfly.Session{is("done", mayfly.SessionDone, time.Hour), is("works", mayfly.SessionWorks, time.Hour), ended}},
		{Name: "b", Sessions: []mayfly.Session{is("asks", mayfly.SessionNeedsPermission, time.Minute), is("idle", mayfly.SessionIdle, time.Hour)}},
		{Name: "c", Sessions: []mayfly.Session{is("asks", mayfly.SessionNeedsAnswer, 2*time.Minute)}},
		{Name: "d"},
	})
	if len(running) != 5 {
		t.Errorf("%d sessions run; want 5: %+v", len(running), running)
	}
	var got string
	for _, w := range waiting {
		got += w.machine + "/" + w.session.Name + " "
	}
	if want := "c/asks b/asks a/done "; got != want {
		t.Errorf("they wait in the order %q; want %q", got, want)
	}
}
