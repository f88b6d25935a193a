package session

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/guest/hook"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/naming"
)

const (
	maxArgs = 32  // of a command line in wire.SessionInfo
	maxArg  = 256 // bytes of each
)

// Table is the sessions of a machine. The zero value is an empty one.
type Table struct {
	mu       sync.Mutex // guards what follows; held while a program is started
	sessions []*Session // by start
}

// Start starts the program of the session name on a terminal of that size.
type Start func(name string, size wire.Winsize) (Program, error)

// Serve answers a request for a session on stream. A program is started by start,
// and run is called with its session, which it owns from then on: it returns when
// the program has ended, for which nobody waits.
func (t *Table) Serve(stream net.Conn, req *wire.Session, start Start, run func(*Session)) {
	s, fresh, err := t.open(req, start)
	if err != nil {
		wire.NewFrameWriter(stream).WriteError(err)
		return
	}
	if fresh {
		go run(s)
	}
	if len(req.Paste) > 0 {
		if err := s.paste(req.Paste); err != nil {
			wire.NewFrameWriter(stream).WriteError(err)
			return
		}
	}
	greeting := s.greeting(wire.SessionInfo{New: fresh, Pasted: len(req.Paste) > 0})
	if req.Detached || len(req.Paste) > 0 {
		fw := wire.NewFrameWriter(stream)
		if fw.Write(wire.FrameSession, greeting) == nil {
			fw.Write(wire.FrameEnd, nil)
		}
		return
	}
	if req.End {
		go s.end()
	}
	v := &viewer{readOnly: req.ReadOnly, first: fresh, greeting: greeting, tty: req.TTY}
	if req.Exec != nil {
		v.tty = req.Exec.TTY
	}
	s.attach(stream, v)
	t.forget()
}

// open returns the session that req asks for, and whether it has been started.
func (t *Table) open(req *wire.Session, start Start) (s *Session, fresh bool, err error) {
	if !naming.ValidSession(req.Name) {
		return nil, false, fmt.Errorf("bad name of a session %q", req.Name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked()
	s = t.find(req.Name)
	if req.Exec == nil || req.End || len(req.Paste) > 0 {
		if s == nil {
			return nil, false, fmt.Errorf("no session %s", req.Name)
		}
		return s, false, nil
	}
	if s != nil && !req.New && s.running() {
		return s, false, nil
	}
	name := req.Name
	for n := 2; req.New && t.find(name) != nil; n++ {
		suffix := fmt.Sprintf("-%d", n)
		name = req.Name[:min(len(req.Name), naming.MaxSession-len(suffix))] + suffix
	}
	if len(t.sessions) >= wire.MaxSessions && t.find(name) == nil {
		// Nobody asked how the oldest that ended did. Nobody will.
		old := slices.IndexFunc(t.sessions, func(s *Session) bool { return !s.running() })
		if old < 0 {
			return nil, false, errors.New("too many sessions run")
		}
		t.sessions = slices.Delete(t.sessions, old, old+1)
	}
	size := defaultSize
	if ws := req.Exec.TTY; ws != nil && ws.Rows > 0 && ws.Cols > 0 {
		size = *ws
	}
	p, err := start(name, size)
	if err != nil {
		return nil, false, err
	}
	s = newSession(name, shorten(req.Exec.Argv), size, p)
	t.sessions = slices.DeleteFunc(t.sessions, func(s *Session) bool { return s.name == name })
	t.sessions = append(t.sessions, s)
	return s, true, nil
}

func (t *Table) find(name string) *Session {
	for _, s := range t.sessions {
		if s.name == name {
			return s
		}
	}
	return nil
}

// Report takes what the program of the session name says of itself.
func (t *Table) Report(r hook.Report) {
	t.mu.Lock()
	s := t.find(r.Session)
	t.mu.Unlock()
	if s != nil {
		s.Report(r)
	}
}

// forget drops the sessions that have ended and whose end somebody knows.
func (t *Table) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked()
}

func (t *Table) forgetLocked() {
	t.sessions = slices.DeleteFunc(t.sessions, (*Session).settled)
}

// List tells of all sessions.
func (t *Table) List() []wire.SessionInfo {
	t.mu.Lock()
	t.forgetLocked()
	sessions := slices.Clone(t.sessions)
	t.mu.Unlock()
	infos := make([]wire.SessionInfo, len(sessions))
	var looking sync.WaitGroup
	for i, s := range sessions {
		looking.Go(func() { infos[i] = s.info() })
	}
	looking.Wait()
	return infos
}

// shorten bounds a command line that is told.
func shorten(argv []string) []string {
	var out []string
	for _, arg := range argv[:min(len(argv), maxArgs)] {
		if len(arg) > maxArg {
			arg = arg[:maxArg] + "…"
		}
		out = append(out, arg)
	}
	return out
}
