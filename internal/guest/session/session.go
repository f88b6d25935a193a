// Package session keeps programs on terminals that go on when nobody looks on.
//
// A Session is between one program and any number of viewers, each a stream of
// frames as for a program that is run once (wire.Session). The output of the
// program flows in, and to all viewers. The input of the viewers flows to the
// program. A new viewer gets the last output first, and the program is made to
// draw anew.
//
// A viewer that does not take its output never holds up the program: it misses
// output, and begins anew when it is there again. The terminal is as large as the
// smallest of the viewers', as in GNU screen, since output for a larger one
// cannot be shown on a smaller one.
//
// The package starts no program and opens no terminal; package agent does, and
// hands over what is needed of them.
package session

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/terminal/grid"
	"github.com/mayfly-vm/mayfly/internal/terminal/screen"
)

const (
	maxViewers = 16
	// maxPending is how much output a viewer may lag behind before it misses
	// some.
	maxPending = 1 << 20
	// maxInput is how many frames of input may wait for the program. A viewer
	// sends wire.StdinWindow at most ahead of their acknowledgement.
	maxInput = 4 * wire.StdinWindow
	// redrawTime is how long the terminal is narrower when a program is made to
	// draw anew. A program that looks at the size later does not notice.
	redrawTime = 250 * time.Millisecond
)

// defaultSize is the terminal's where no viewer has one.
var defaultSize = wire.Winsize{Rows: 24, Cols: 80}

// Program is what a session needs of a program on a terminal.
type Program struct {
	Input      io.Writer // of the terminal; blocks while the program does not read
	Resize     func(wire.Winsize)
	Signal     func(syscall.Signal) // to its process group
	Foreground func() int           // the process group that reads the terminal; 0 if not known
	Idle       func(group int) bool // whether it seems to wait for input; nil for a look at it
}

func (p Program) idle(group int) bool {
	if p.Idle != nil {
		return p.Idle(group)
	}
	return idle(group)
}

// Session is a program that runs or ran.
type Session struct {
	name    string
	argv    []string
	started time.Time
	program Program

	ended  chan struct{} // closed when the program has
	input  chan input
	writer sync.WaitGroup // of input

	mu         sync.Mutex // guards what follows
	screen     screen.Screen
	viewers    []*viewer // in the order of their last input, the latest last
	size       wire.Winsize
	redraw     *time.Timer // gives the terminal its size back; nil if it has it
	exited     bool
	exit       Exit
	exitedAt   time.Time
	seen       bool // somebody looked on after the program had ended, or as it did
	lastOutput time.Time
	lastInput  time.Time
	quiet      quiet
	grid       *grid.Grid      // what the program shows; nil unless a viewer is drawn
	why        wire.WaitReason // of what the program said since the last input
	notice     string
	noticed    time.Time // of why
	told       told
	stopped    time.Time // it was first seen stopped; zero if it has gone on since
}

type input struct {
	from *viewer // nil for the session's own answers
	data []byte
}

// newSession returns the session of a program that has been started.
func newSession(name string, argv []string, size wire.Winsize, p Program) *Session {
	s := &Session{
		name: name, argv: argv, started: time.Now(), program: p, size: size,
		ended: make(chan struct{}), input: make(chan input, maxInput),
	}
	s.writer.Go(s.writeInput)
	return s
}

// Output takes output of the program. Its error is always nil.
func (s *Session) Output(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.screen.Write(p)
	s.lastOutput = time.Now()
	s.quiet.wrote(s.lastOutput)
	switch {
	case out.Notice != "":
		s.why, s.notice, s.noticed = wire.WaitNotice, out.Notice, s.lastOutput
	case out.Bell && s.why == "":
		s.why, s.noticed = wire.WaitBell, s.lastOutput
	}
	leader := s.leader()
	var drawn []byte
	if s.grid != nil {
		s.grid.Write(out.Shown)
		drawn = s.grid.Update()
	}
	for _, v := range s.viewers {
		switch {
		case v.drawn:
			v.send(drawn)
			if v == leader {
				v.send(out.Only)
			}
		case v == leader:
			v.send(out.All)
		default:
			v.send(out.Shown)
		}
	}
	if leader == nil {
		for _, q := range out.Queries {
			s.answer(q)
		}
	}
	return nil
}

// leader is the viewer whose terminal answers what the program asks: the one of
// the last input. One that only looks on is none.
func (s *Session) leader() *viewer {
	for i := len(s.viewers) - 1; i >= 0; i-- {
		if v := s.viewers[i]; !v.readOnly && v.tty != nil {
			return v
		}
	}
	return nil
}

// answer says what a terminal would: there are programs that end without it.
func (s *Session) answer(q screen.Query) {
	select {
	case s.input <- input{nil, []byte(q.Answer())}:
	default: // it does not read, and so does not wait
	}
}

// writeInput writes what viewers typed until the program has ended.
func (s *Session) writeInput() {
	for {
		select {
		case in := <-s.input:
			s.program.Input.Write(in.data)
			if in.from != nil {
				s.mu.Lock()
				in.from.acks++
				in.from.signal()
				s.mu.Unlock()
			}
		case <-s.ended:
			return
		}
	}
}

// Exit says that the program has ended and that there is no more output. Its
// terminal is closed, so that nothing is written to it any more.
func (s *Session) Exit(e Exit) {
	close(s.ended)
	s.writer.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exited, s.exit, s.exitedAt = true, e, time.Now()
	if s.redraw != nil {
		s.redraw.Stop()
		s.redraw = nil
	}
	for _, v := range s.viewers {
		s.seen = true
		v.end(wire.FrameExit, []byte{e.Code})
	}
}

// settled reports whether the session has ended and somebody knows.
func (s *Session) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exited && s.seen
}

func (s *Session) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.exited
}

// add makes v a viewer. It gets what is on the screen.
func (s *Session) add(v *viewer) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.viewers) >= maxViewers {
		return false
	}
	if s.exited {
		v.pending = s.replay(v)
		s.seen = true
		v.end(wire.FrameExit, []byte{s.exit.Code})
		return true
	}
	s.viewers = append(s.viewers, v)
	changed := s.fit()
	if !v.drawn { // else it has begun
		v.pending = s.replay(v)
	}
	if !changed && v.tty != nil && !v.first {
		s.drawAnew()
	}
	return true
}

// replay is what v gets first. Without a terminal that is only what was written.
func (s *Session) replay(v *viewer) []byte {
	switch {
	case v.tty == nil:
		return s.screen.Last()
	case v.drawn:
		return append(s.screen.Enter(int(v.tty.Rows)), s.grid.All()...)
	}
	return s.screen.Replay(int(v.tty.Rows))
}

// larger reports whether the terminal of v is larger than the program's. It wraps and
// scrolls elsewhere, and so gets what the program shows and not what it writes.
func (s *Session) larger(v *viewer) bool {
	return v.tty != nil && (v.tty.Rows > s.size.Rows || v.tty.Cols > s.size.Cols) && grid.Fits(int(s.size.Rows), int(s.size.Cols))
}

// arrange lets the viewers with larger terminals be drawn, and no others. resized says that
// the program's terminal has another size now.
func (s *Session) arrange(resized bool) {
	if !slices.ContainsFunc(s.viewers, s.larger) {
		s.grid = nil
	} else if s.grid == nil {
		s.grid = grid.New(int(s.size.Rows), int(s.size.Cols))
		s.grid.Write(s.screen.Replay(int(s.size.Rows)))
		s.grid.Update()
	} else if resized {
		s.grid.Resize(int(s.size.Rows), int(s.size.Cols))
	}
	for _, v := range s.viewers {
		was := v.drawn
		v.drawn = s.larger(v)
		if v.drawn != was || v.drawn && resized {
			v.begin(s.replay(v))
		}
	}
}

func (s *Session) remove(v *viewer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.viewers = slices.DeleteFunc(s.viewers, func(o *viewer) bool { return o == v })
	s.fit()
}

// resize takes the new size of a viewer's terminal.
func (s *Session) resize(v *viewer, ws wire.Winsize) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.tty = &ws
	if !s.fit() && v.drawn {
		v.begin(s.replay(v)) // a terminal may have moved what it shows
	}
}

// fit makes the terminal as large as the smallest of the viewers', and reports
// whether it was not.
func (s *Session) fit() (changed bool) {
	var size wire.Winsize
	for _, v := range s.viewers {
		if v.tty == nil || v.tty.Rows == 0 || v.tty.Cols == 0 {
			continue
		}
		if size.Rows == 0 || v.tty.Rows < size.Rows {
			size.Rows = v.tty.Rows
		}
		if size.Cols == 0 || v.tty.Cols < size.Cols {
			size.Cols = v.tty.Cols
		}
	}
	if s.exited {
		return false
	}
	if size.Rows == 0 || size == s.size {
		s.arrange(false)
		return false
	}
	s.size = size
	s.arrange(true)
	if s.redraw == nil { // else it is set soon
		s.program.Resize(size)
	}
	return true
}

// drawAnew changes the size of the terminal for a moment: programs draw all of
// their screen then, and many do not when only told that it might have changed.
func (s *Session) drawAnew() {
	if s.redraw != nil || s.size.Cols < 2 {
		return
	}
	s.program.Resize(wire.Winsize{Rows: s.size.Rows, Cols: s.size.Cols - 1})
	s.redraw = time.AfterFunc(redrawTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.redraw != nil {
			s.redraw = nil
			s.program.Resize(s.size)
		}
	})
}

// typed takes the input of a viewer. It reports whether there is room for it.
func (s *Session) typed(v *viewer, data []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !automatic(data) {
		s.lastInput = time.Now()
		s.quiet = quiet{}
		s.why, s.notice = "", ""
		if i := slices.Index(s.viewers, v); i >= 0 {
			s.viewers = append(slices.Delete(s.viewers, i, i+1), v)
		}
	}
	if s.exited {
		v.acks++
		v.signal()
		return true
	}
	select {
	case s.input <- input{v, bytes.Clone(data)}:
		return true
	default:
		return false
	}
}

// attach shows the session on stream until the viewer goes or the program ends.
func (s *Session) attach(stream net.Conn, v *viewer) {
	v.session = s
	v.wake = make(chan struct{}, 1)
	if !s.add(v) {
		wire.NewFrameWriter(stream).Write(wire.FrameError, []byte("too many look at this session"))
		return
	}
	defer s.remove(v)
	sent := make(chan struct{})
	gone := make(chan struct{})
	go func() {
		defer close(sent)
		v.write(stream, gone)
		stream.SetReadDeadline(time.Now()) // ends the loop below
	}()
	v.read(stream)
	// The host is gone, or the program has ended and all is sent.
	close(gone)
	stream.SetDeadline(time.Now())
	<-sent
}

// info tells of the session.
func (s *Session) info() wire.SessionInfo {
	stopped, idle := s.look()
	s.mu.Lock()
	defer s.mu.Unlock()
	i := wire.SessionInfo{
		Name: s.name, Argv: s.argv, Started: s.started.UnixNano(), Viewers: len(s.viewers),
		Exited: s.exited, Code: int(s.exit.Code), Title: s.screen.Title(),
		Output: nanos(s.lastOutput), Input: nanos(s.lastInput),
	}
	silent := !s.exited && s.quiet.judge(time.Now(), s.silentSince(), idle)
	var since time.Time
	i.State, since, i.Last, i.Why = s.state(stopped, silent)
	i.Since = nanos(since)
	if !s.exited {
		i.Notice, i.Stopped, i.Waiting = s.notice, stopped, i.Why != ""
	}
	return i
}

// look reports whether the program is stopped, and whether it seems to do nothing, which
// is looked for only if it has been silent for long.
func (s *Session) look() (stopped, idle bool) {
	if !s.running() {
		return false, false
	}
	group := s.program.Foreground()
	if Stopped(group) {
		return true, false
	}
	s.mu.Lock()
	silent, judged := s.silentSince(), s.quiet.waits
	s.mu.Unlock()
	if !judged && !longSilent(time.Now(), silent) {
		return false, false
	}
	// Under load even one that waits is caught at work now and then, and one that works
	// between two steps.
	for range looks {
		if idle = s.program.idle(group); idle == judged {
			break
		}
		time.Sleep(lookTime)
	}
	return false, idle
}

// silentSince returns when the program was last written to or wrote. It is never before
// it has done either.
func (s *Session) silentSince() time.Time {
	if s.lastOutput.Before(s.lastInput) {
		return s.lastInput
	}
	return s.lastOutput
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// greeting is the first frame of a viewer, with what did says of its request.
func (s *Session) greeting(did wire.SessionInfo) []byte {
	i := s.info()
	i.New, i.Pasted = did.New, did.Pasted
	b, err := json.Marshal(i)
	if err != nil {
		return []byte("{}")
	}
	return b
}
