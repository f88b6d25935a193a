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

// Without a name it is the only machine in which a session runs. Which of several has waited the
// longest they say themselves: none draws the clipboard to itself by that.
func TestMachineToPaste(t *testing.T) {
	in := func(machine string, sessions ...mayfly.Session) mayfly.Info {
		i := mayfly.Info{Name: machine}
		i.Sessions = sessions
		return i
	}
	works := mayfly.Session{Name: "works", State: mayfly.SessionWorks}
	asks := mayfly.Session{Name: "asks", State: mayfly.SessionNeedsAnswer}
	ended := mayfly.Session{Name: "ended", State: mayfly.SessionDone, Exited: true}
	for _, tt := range []struct {
		list []mayfly.Info
		want string
		err  string // its hint
	}{
		{nil, "", "mayfly agent NAME"},
		{[]mayfly.Info{in("web", ended)}, "", "mayfly agent NAME"},
		{[]mayfly.Info{in("other", ended), in("web", works, asks), in("none")}, "web", ""},
		{[]mayfly.Info{in("web", works), in("hostile", asks)}, "", "mayfly ls, then mayfly paste NAME"},
	} {
		got, err := machineToPaste(tt.list)
		if got != tt.want || hint.Of(err) != tt.err || (err != nil) != (tt.err != "") {
			t.Errorf("machineToPaste(%+v) = %q, %v; want %q, hint %q", tt.list, got, err, tt.want, tt.err)
		}
	}
}
