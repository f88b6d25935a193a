package dashboard

import (
	"cmp"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// status is what is shown of how a machine does.
type status struct {
	rank    int // what wants its user most comes first
	mark    byte
	word    string
	session string // that the word is about, if any
	more    int    // other sessions
	line    string // what it said last, or why it is so
	since   time.Time
	least   bool // it is so for longer: nobody saw how it began
}

// The ranks, and the marks that stand for them.
const (
	rankWaits = iota
	rankTrouble
	rankWorks
	rankDone
	rankIdle
	rankDead
	rankStopped
)

const marks = "!!*+.x-"

// sessionStatus says how a session does.
func sessionStatus(s mayfly.Session) status {
	st := status{rank: rankTrouble, word: string(s.State), session: s.Name, line: cmp.Or(s.Last, s.Title), since: s.Since}
	switch s.State {
	case mayfly.SessionNeedsAnswer, mayfly.SessionNeedsPermission:
		st.rank = rankWaits
	case mayfly.SessionWorks:
		st.rank = rankWorks
	case mayfly.SessionDone:
		st.rank = rankDone
	case mayfly.SessionIdle:
		st.rank = rankIdle
	}
	return st
}

// statusOf says how a machine does: as the session that wants its user most, if it is well.
func statusOf(i mayfly.Info) status {
	st := status{rank: rankIdle, word: i.State, line: i.Reason}
	switch i.State {
	case "running":
		for n, s := range i.Sessions {
			if other := sessionStatus(s); n == 0 || other.rank < st.rank {
				st = other
			}
		}
		st.more = max(len(i.Sessions)-1, 0)
		if len(i.Sessions) == 0 {
			st.word = "no agent"
		}
	case mayfly.StatePaused, mayfly.StateUnreachable:
		st.rank = rankTrouble
	case mayfly.StateStopped:
		st.rank = rankStopped
	case "dead":
		st.rank = rankDead
	}
	st.mark = marks[st.rank]
	st.line, st.session, st.word = termsafe.Line(st.line), termsafe.Line(st.session), termsafe.Line(st.word)
	if i.FileError != nil {
		st.line = cmp.Or(st.line, termsafe.Line(i.FileError.Error()))
	}
	return st
}

// wordAsks is the state of a machine whose connections wait for an answer.
const wordAsks = "asks"

// asking is a status, or that of a machine whose network asks its user.
func asking(st status, network mayfly.NetworkState) status {
	if len(network.Questions) == 0 {
		return st
	}
	q := network.Questions[0] // the oldest
	st.rank, st.mark, st.word, st.since = rankWaits, marks[rankWaits], wordAsks, q.Since
	st.line = "may it reach " + hostPort(q.Host, q.Port) + "? n answers"
	return st
}

// running reports whether commands can be run in a machine.
func running(i mayfly.Info) bool { return i.State == "running" }

// attachArgs are the command that shows a machine's session.
func attachArgs(name string, st status) []string {
	args := []string{"attach", name}
	if naming.ValidSession(st.session) {
		args = append(args, st.session)
	}
	return args
}
