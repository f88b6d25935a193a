package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// watcherBuffer is the number of events by which a watcher can be behind.
const watcherBuffer = 64

// events tells what happens to the machine: to its owner, and to all who watch it.
type events struct {
	start time.Time

	mu    sync.Mutex // guards what follows
	owner io.Writer  // may be gone
	// now is what a watcher hears first: that the machine is ready, if it is, and
	// the phase that began last.
	now      []control.Event
	watchers map[chan control.Event]struct{}
	ended    bool
	// trouble is what a watcher hears then, of a machine that is not well.
	trouble *control.Event
	// questions are open: a watcher hears of them, too.
	questions []control.Event
	answering int // who can answer them

	watching sync.WaitGroup // until they have told all that they were told
}

func newEvents(owner io.Writer) *events {
	return &events{start: time.Now(), owner: owner, watchers: make(map[chan control.Event]struct{})}
}

// ownerTimeout is how long an owner who does not read may hold the machine up, once.
const ownerTimeout = 2 * time.Second

// ownerPipe is the pipe to the owner, who may be stopped, as by Ctrl-Z. Then the pipe is full
// at some time, and what happens is not told until it is read.
type ownerPipe struct {
	file *os.File
	rest []byte // of a line that did not fit as a whole
}

// openOwnerPipe returns that of a file descriptor.
func openOwnerPipe(fd int) (*ownerPipe, error) {
	if err := unix.SetNonblock(fd, true); err != nil { // or there are no deadlines
		return nil, fmt.Errorf("open the pipe to the owner: %w", err)
	}
	return &ownerPipe{file: os.NewFile(uintptr(fd), "events")}, nil
}

// Write writes a line, or nothing that a reader could take for a part of one.
func (p *ownerPipe) Write(line []byte) (int, error) {
	wait := ownerTimeout
	if len(p.rest) > 0 {
		wait = time.Millisecond // it has had its time
	}
	p.file.SetWriteDeadline(time.Now().Add(wait))
	if len(p.rest) > 0 {
		n, err := p.file.Write(p.rest)
		p.rest = p.rest[n:]
		if err != nil {
			return 0, err
		}
	}
	n, err := p.file.Write(line)
	if n < len(line) && errors.Is(err, os.ErrDeadlineExceeded) {
		p.rest = bytes.Clone(line[n:])
	}
	return n, err
}

// phase says that a phase begins.
func (ev *events) phase(p control.Phase) { ev.send(control.Event{Phase: p}) }

// send tells e to all. Nobody can hold it up for long: a watcher that is too far behind is
// left, and an owner misses what happens meanwhile.
func (ev *events) send(e control.Event) {
	e.Nanos = time.Since(ev.start).Nanoseconds()
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if line, err := json.Marshal(e); err == nil {
		ev.owner.Write(append(line, '\n'))
	}
	switch {
	case e.Ready:
		ev.now = []control.Event{e}
	case e.Phase != "" && len(ev.now) > 0 && ev.now[0].Ready:
		ev.now = append(ev.now[:1:1], e)
	case e.Phase != "":
		ev.now = []control.Event{e}
	}
	if c := e.Condition; c != nil {
		ev.trouble = &e
		if c.Health == control.Well {
			ev.trouble = nil
		}
	}
	switch e.Code {
	case control.NoteQuestion:
		ev.questions = append(ev.questions, e)
	case control.NoteAnswered:
		ev.questions = slices.DeleteFunc(ev.questions, func(q control.Event) bool {
			return q.Args["host"] == e.Args["host"] && q.Args["port"] == e.Args["port"]
		})
	}
	for w := range ev.watchers {
		select {
		case w <- e:
		default:
			ev.leaveLocked(w)
		}
	}
}

// attend counts somebody who can answer questions, until leave.
func (ev *events) attend() (leave func()) {
	add := func(n int) {
		ev.mu.Lock()
		defer ev.mu.Unlock()
		ev.answering += n
	}
	add(1)
	return func() { add(-1) }
}

// attended reports whether anybody can answer questions.
func (ev *events) attended() bool {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	return ev.answering > 0
}

// how returns how the machine does.
func (ev *events) how() control.Condition {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if ev.trouble != nil {
		return *ev.trouble.Condition
	}
	return control.Condition{Health: control.Well}
}

// flushTimeout is the time that watchers have to hear the last event.
const flushTimeout = time.Second

// end tells the last event, and waits until it was heard.
func (ev *events) end(e control.Event) {
	ev.send(e)
	ev.mu.Lock()
	ev.ended = true
	for w := range ev.watchers {
		ev.leaveLocked(w)
	}
	ev.mu.Unlock()
	heard := make(chan struct{})
	go func() {
		ev.watching.Wait()
		close(heard)
	}()
	select {
	case <-heard:
	case <-time.After(flushTimeout):
	}
}

// watch calls tell with the machine's present state and then with what happens, until
// the last event, or until it fails. It reports whether that was told: a watcher that
// is too slow misses it.
func (ev *events) watch(ctx context.Context, tell func(control.Event) error) (complete bool) {
	w := make(chan control.Event, watcherBuffer)
	ev.mu.Lock()
	for _, e := range ev.now {
		w <- e
	}
	if ev.trouble != nil {
		w <- *ev.trouble
	}
	for _, q := range ev.questions {
		w <- q
	}
	if ev.ended {
		close(w)
	} else {
		ev.watchers[w] = struct{}{}
		ev.watching.Add(1)
		defer ev.watching.Done()
	}
	ev.mu.Unlock()
	defer func() {
		ev.mu.Lock()
		defer ev.mu.Unlock()
		ev.leaveLocked(w)
	}()
	for {
		select {
		case <-ctx.Done():
			return false
		case e, ok := <-w:
			if !ok {
				return complete
			}
			if tell(e) != nil {
				return false
			}
			complete = e.Ended
		}
	}
}

// leaveLocked ends the channel of a watcher, once.
func (ev *events) leaveLocked(w chan control.Event) {
	if _, ok := ev.watchers[w]; ok {
		delete(ev.watchers, w)
		close(w)
	}
}

// note tells the user something in one line. Code and args say it for a program.
func (s *supervisor) note(code fault.Code, args fault.Args, format string, a ...any) {
	s.events.send(control.Event{Note: fmt.Sprintf(format, a...), Code: code, Args: args})
}

// noteGuest tells the user what a guest says of itself.
func (s *supervisor) noteGuest(text string) {
	s.events.send(control.Event{Note: termsafe.Line(text)})
}
