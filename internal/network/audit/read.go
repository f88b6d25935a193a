package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"
)

// ErrChanged is wrapped by the error for a log whose lines do not follow each
// other.
var ErrChanged = errors.New("the log was changed")

// maxLine bounds a line in bytes: that of an Event whose texts are all as long
// as they may be, and escaped.
const maxLine = 64 << 10

// chain reads the lines of a log, and checks that each follows the one before.
type chain struct {
	begun bool
	said  bool // what is missing before its first line
	seq   int64
	prev  string
}

// read calls f for the lines of r and returns how many bytes they have. A line
// that has no end yet is being written, and is left.
func (c *chain) read(r io.Reader, f func(Event) error) (n int64, err error) {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := br.ReadSlice('\n')
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("read the audit log: %w", err)
		}
		size := int64(len(line))
		line = bytes.TrimSuffix(line, []byte("\n"))
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return n, fmt.Errorf("%w: the line after number %d is none", ErrChanged, c.seq)
		}
		if c.begun && (e.Seq != c.seq+1 || e.Prev != c.prev) {
			return n, fmt.Errorf("%w: line %d does not follow line %d", ErrChanged, e.Seq, c.seq)
		}
		sum := sha256.Sum256(line)
		c.begun, c.seq, c.prev = true, e.Seq, hex.EncodeToString(sum[:])
		n += size
		if err := f(e); err != nil {
			return n, err
		}
	}
}

// Read calls f for each line of the log at path, in the order of their times.
func Read(path string, f func(Event) error) error {
	r := newReader(path)
	defer r.close()
	return r.read(f)
}

// pollTime is how often Follow looks for new lines.
const pollTime = 100 * time.Millisecond

// Follow is Read, and then goes on with the lines that are added until done is
// closed.
func Follow(path string, done <-chan struct{}, f func(Event) error) error {
	r := newReader(path)
	defer r.close()
	for ended := false; ; {
		if err := r.read(f); err != nil || ended {
			return err
		}
		select {
		case <-done:
			ended = true
		case <-time.After(pollTime):
		}
	}
}

// reader reads the two chains of a log.
type reader struct{ kept, denied lines }

func newReader(path string) *reader {
	return &reader{lines{path: path}, lines{path: path + DeniedSuffix, optional: true}}
}

func (r *reader) close() {
	r.kept.close()
	r.denied.close()
}

// read calls f for all lines that are there and were not read yet.
func (r *reader) read(f func(Event) error) error {
	next1, stop1 := iter.Pull2(r.kept.all())
	defer stop1()
	next2, stop2 := iter.Pull2(r.denied.all())
	defer stop2()
	e1, err1, ok1 := next1()
	e2, err2, ok2 := next2()
	for ok1 || ok2 {
		switch {
		case err1 != nil:
			return err1
		case err2 != nil:
			return err2
		case ok1 && (!ok2 || !e2.Time.Before(e1.Time)):
			if err := f(e1); err != nil {
				return err
			}
			e1, err1, ok1 = next1()
		default:
			if err := f(e2); err != nil {
				return err
			}
			e2, err2, ok2 = next2()
		}
	}
	return nil
}

// lines reads one chain, and goes on where it was.
type lines struct {
	path     string
	optional bool // it need not be there
	chain    chain
	file     *os.File // nil before it is opened
	at       int64
}

func (l *lines) close() {
	if l.file != nil {
		l.file.Close()
	}
}

var errStop = errors.New("stop")

// all returns the lines that are there and were not read yet, those of the older file
// first. Where the chain does not begin with its first line, a note says so.
func (l *lines) all() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := l.read(func(e Event) error {
			if !l.chain.said && e.Seq > 1 && !yield(missing(e, l.optional), nil) {
				return errStop
			}
			l.chain.said = true
			if !yield(e, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(Event{}, err)
		}
	}
}

// missing is the note before the first line that is there.
func missing(first Event, refusals bool) Event {
	what := "older lines are no longer kept"
	if refusals {
		what = "older refusals are no longer kept"
	}
	return Event{Time: first.Time, Machine: first.Machine, Kind: Note, Reason: what, Count: int(first.Seq - 1)}
}

func (l *lines) read(f func(Event) error) error {
	if l.file == nil {
		if err := l.begin(f); err != nil || l.file == nil {
			return err
		}
	}
	for {
		// Asked before the rest is read: nothing is written to a file that
		// is the older one.
		rotated, err := isRotated(l.file, l.path)
		if err != nil {
			return err
		}
		n, err := l.chain.read(io.NewSectionReader(l.file, l.at, 1<<62), f)
		l.at += n
		if err != nil || !rotated {
			return err
		}
		next, err := os.Open(l.path)
		if err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
		l.file.Close()
		l.file, l.at = next, 0
	}
}

// begin reads the older file and opens the newer.
func (l *lines) begin(f func(Event) error) error {
	if old, err := os.Open(l.path + Suffix); err == nil {
		_, err := l.chain.read(old, f)
		old.Close()
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the audit log: %w", err)
	}
	file, err := os.Open(l.path)
	if l.optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the audit log: %w", err)
	}
	l.file = file
	return nil
}

// isRotated reports whether path is another file than the open one.
func isRotated(file *os.File, path string) (bool, error) {
	mine, err := file.Stat()
	if err != nil {
		return false, fmt.Errorf("read the audit log: %w", err)
	}
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // in the middle of it, or removed
	}
	if err != nil {
		return false, fmt.Errorf("read the audit log: %w", err)
	}
	return !os.SameFile(mine, now), nil
}
