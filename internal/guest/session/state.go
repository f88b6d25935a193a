package session

import (
	"cmp"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/hook"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// Exit is how a program has ended.
type Exit struct {
	Code        byte // the shell's: the exit code, or 128 and the signal
	OutOfMemory bool // the kernel ended it
}

// state is that of a program that has ended. Who is told to end does what it was told.
func (e Exit) state() wire.SessionState {
	signal := syscall.Signal(0)
	if e.Code > 128 {
		signal = syscall.Signal(e.Code - 128)
	}
	switch {
	case e.OutOfMemory:
		return wire.StateMemory
	case e.Code == 0, signal == syscall.SIGHUP, signal == syscall.SIGINT, signal == syscall.SIGTERM:
		return wire.StateDone
	case signal != 0:
		return wire.StateCrashed
	}
	return wire.StateFailed
}

// told is what a program has said of itself.
type told struct {
	state wire.SessionState // "" if it never did
	at    time.Time
	last  string
}

// Report takes what the program's hooks say of it.
func (s *Session) Report(r hook.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case r.Reminder && r.State == wire.StateIdle && s.told.state != wire.StateDone && s.lastInput.After(s.told.at):
		// Its user has declined, of which no hook tells.
	case r.Reminder && s.told.state.Waits():
		return // it has told more of that
	case r.State == wire.StateIdle && !r.Reminder && s.told.state != "":
		return // it has begun, which may come to be known later than what it does
	case r.State == s.told.state && !s.lastInput.After(s.told.at):
		now = s.told.at // it goes on
		r.Last = cmp.Or(r.Last, s.told.last)
	}
	s.told = told{r.State, now, r.Last}
}

// goesOn reports whether the program writes, and has for some time.
func (q *quiet) goesOn() bool { return !q.begun.IsZero() && q.last.Sub(q.begun) >= workTime }

// state says what the program does, since when, the last that it said, and, if it waits, how
// that is known. Of a running program, stopped says that it is, and silent that it seems to
// do nothing.
// What its hooks say counts, and after them what it notified. Without either it is a guess.
func (s *Session) state(stopped, silent bool) (state wire.SessionState, since time.Time, last string, why wire.WaitReason) {
	if s.exited {
		return s.exit.state(), s.exitedAt, s.told.last, ""
	}
	if stopped {
		if s.stopped.IsZero() {
			s.stopped = time.Now() // nobody says when it was
		}
		return wire.StateStopped, s.stopped, s.told.last, ""
	}
	s.stopped = time.Time{}
	t := s.told
	if s.why != "" && s.noticed.After(t.at) {
		said := hook.Notice(s.notice)
		// Its turn is over, which it also notifies.
		if t.state != wire.StateDone || said != wire.StateAnswer {
			return said, s.noticed, s.notice, s.why
		}
	}
	switch {
	case t.state == "" && silent:
		return wire.StateAnswer, s.silentSince(), "", wire.WaitQuiet
	case t.state == "":
		since = s.started
		if s.lastInput.After(since) {
			since = s.lastInput
		}
		return wire.StateWorks, since, "", ""
	case t.state == wire.StateWorks && silent:
		return wire.StateIdle, s.silentSince(), t.last, wire.WaitQuiet // it was interrupted, of which no hook tells
	case t.state != wire.StateWorks && s.lastInput.After(t.at) && s.quiet.goesOn() && !silent:
		return wire.StateWorks, s.lastInput, t.last, "" // it got its answer
	}
	switch {
	case t.state.Waits():
		why = wire.WaitHook
	case silent: // idle
		why = wire.WaitQuiet
	}
	return t.state, t.at, t.last, why
}
