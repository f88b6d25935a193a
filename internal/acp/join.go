package acp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Sides are the two ends of a conversation through a filter.
type Sides struct {
	f             *Filter
	mu            [2]sync.Mutex // of each writer
	agent, editor io.Writer
}

// NewSides returns the ends of a conversation through f, which writes to agent and editor.
func NewSides(f *Filter, agent, editor io.Writer) *Sides {
	return &Sides{f: f, agent: agent, editor: editor}
}

// FromEditor hands over what the editor says until it ends.
func (s *Sides) FromEditor(r io.Reader) error {
	_, err := io.Copy(&lines{each: func(line []byte) error { return s.pass(s.f.FromEditor(line)) }}, r)
	return err
}

// FromAgent returns a writer for what the agent says. A line without an end is left out: what
// came of it may not be all.
func (s *Sides) FromAgent() io.Writer {
	return &lines{each: func(line []byte) error { return s.pass(s.f.FromAgent(line)) }}
}

// pass writes what passes.
func (s *Sides) pass(p Passed) error {
	for i, to := range []struct {
		w    io.Writer
		line []byte
	}{{s.agent, p.Agent}, {s.editor, p.Editor}} {
		if to.line == nil {
			continue
		}
		s.mu[i].Lock()
		_, err := to.w.Write(to.line)
		s.mu[i].Unlock()
		if err != nil {
			return fmt.Errorf("pass a message on: %w", err)
		}
	}
	return nil
}

// lines is a writer that calls each for each line with something on it, without its end. Of a
// line with more than MaxMessage bytes it keeps no more than that and one, for each to refuse.
type lines struct {
	each func(line []byte) error
	rest []byte // of a line whose end is to come
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			l.keep(p)
			return n, nil
		}
		line := p[:i]
		if len(l.rest) > 0 {
			l.keep(line)
			line = l.rest
		}
		p, l.rest = p[i+1:], nil
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := l.each(line); err != nil {
			return n, err
		}
	}
}

func (l *lines) keep(p []byte) {
	l.rest = append(l.rest, p[:min(len(p), MaxMessage+1-len(l.rest))]...)
}

// Queue is what is said to an agent: a writer that never waits, and a reader for the agent. An
// agent that does not read keeps its editor from nothing, and takes no more memory than
// mostQueued.
type Queue struct {
	mu     sync.Mutex // guards what follows
	more   sync.Cond
	lines  [][]byte
	size   int
	closed bool
}

// mostQueued is more than two messages.
const mostQueued = 3 * MaxMessage

var errFull = errors.New("the agent does not read what it is told")

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	q := &Queue{}
	q.more.L = &q.mu
	return q
}

// Write implements io.Writer. It keeps p.
func (q *Queue) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.size += len(p); q.size > mostQueued {
		return 0, errFull
	}
	q.lines = append(q.lines, p)
	q.more.Signal()
	return len(p), nil
}

// Close ends what is read, behind what was written.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Signal()
	return nil
}

// Read implements io.Reader.
func (q *Queue) Read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.lines) == 0 {
		if q.closed {
			return 0, io.EOF
		}
		q.more.Wait()
	}
	n := copy(p, q.lines[0])
	q.size -= n
	if q.lines[0] = q.lines[0][n:]; len(q.lines[0]) == 0 {
		q.lines = q.lines[1:]
	}
	return n, nil
}
