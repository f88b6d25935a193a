package cli

import (
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
)

// A path goes to the session that is named, the only one, or the one that has waited the
// longest. One that has ended gets none.
func TestSessionToPaste(t *testing.T) {
	now := time.Now()
	is := func(name string, state mayfly.SessionState, ago time.Duration) mayfly.Session {
		return mayfly.Session{Name: name, State: state, Since: now.Add(-ago)}
	}
	ended := is("ended", mayfly.SessionDone, time.Hour)
	ended.Exited = true
	works, idle := is("works", mayfly.SessionWorks, time.Hour), is("idle", mayfly.SessionIdle, time.Hour)
	asks, done := is("asks", mayfly.SessionNeedsAnswer, time.Minute), is("done", mayfly.SessionDone, time.Hour)
	for _, tt := range []struct {
		wanted   string
		sessions []mayfly.Session
		want     string
		err      string // its hint
	}{
		{"", nil, "", ""},
		{"", []mayfly.Session{ended}, "", ""},
		{"", []mayfly.Session{ended, works}, "works", ""},
		{"", []mayfly.Session{works, done, asks, idle}, "asks", ""},
		{"", []mayfly.Session{works, idle}, "", "mayfly paste --session works web"},
		{"idle", []mayfly.Session{works, asks, idle}, "idle", ""},
		{"ended", []mayfly.Session{works, ended}, "", "mayfly ls"},
		{"none", nil, "", "mayfly ls"},
	} {
		got, err := sessionToPaste("web", tt.wanted, tt.sessions)
		if got != tt.want || hint.Of(err) != tt.err || (err != nil) != (tt.err != "") {
			t.Errorf("sessionToPaste(%q, %+v) = %q, %v; want %q, hint %q", tt.wanted, tt.sessions, got, err, tt.want, tt.err)
		}
	}
}
