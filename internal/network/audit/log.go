package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Bounds of a log. A guest can cause lines as fast as it can connect: what is
// more than the rate is counted, and the count is a line.
const (
	MaxFileSize = 8 << 20  // of the file that is written; then it becomes the old one
	maxText     = 256      // bytes of one field that the guest chose
	tail        = 64 << 10 // more than a line of all fields, with what JSON makes of them
	linesBurst  = 2000     // at once
	linesPerSec = 200      // in the long run
)

// Suffix is what the name of the older file of a log ends in, DamagedSuffix that of one
// that could not be continued.
const (
	Suffix        = ".old"
	DamagedSuffix = ".damaged"
)

// Log is the log of one machine, open for writing. Its methods may be called
// from several goroutines.
type Log struct {
	machine string
	path    string
	now     func() time.Time

	mu      sync.Mutex
	file    *os.File
	size    int64
	seq     int64
	prev    [sha256.Size]byte
	tokens  float64
	filled  time.Time
	left    int // lines that were left out since the last
	denials map[denial]int
	more    int // denials beyond maxDenials kinds
	err     error
}

// errDamaged means that a log cannot be continued.
var errDamaged = errors.New("its last line is none of ours")

// Open begins or continues the log of machine at path. What a crash left of a
// line is cut off. One that cannot be continued is set aside, and a new one says so:
// a machine must not depend on it.
func Open(path, machine string) (*Log, error) {
	l := &Log{machine: machine, path: path, now: time.Now, tokens: linesBurst, denials: make(map[denial]int)}
	l.filled = l.now()
	err := l.open()
	if errors.Is(err, errDamaged) {
		err = l.setAside()
	}
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	return l, nil
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := l.resume(f); err != nil {
		f.Close()
		return err
	}
	l.file = f
	return nil
}

// setAside begins anew in the place of files that cannot be continued.
func (l *Log) setAside() error {
	for _, suffix := range []string{Suffix, ""} {
		err := os.Rename(l.path+suffix, l.path+suffix+DamagedSuffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := l.open(); err != nil {
		return err
	}
	l.Record(Event{Kind: Note, Reason: "the log before this one was damaged, and is set aside"})
	return nil
}

// resume finds the end of what is in f.
func (l *Log) resume(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	// A line and a half are enough.
	from := max(0, fi.Size()-tail)
	data := make([]byte, fi.Size()-from)
	if _, err := f.ReadAt(data, from); err != nil {
		return err
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	if whole == 0 && from > 0 {
		return errDamaged
	}
	l.size = from + int64(whole)
	if err := f.Truncate(l.size); err != nil {
		return err
	}
	if _, err := f.Seek(l.size, io.SeekStart); err != nil {
		return err
	}
	last := data[:whole]
	if l.size == 0 {
		// The old file goes before a new one.
		if last, err = os.ReadFile(l.path + Suffix); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	last = bytes.TrimSuffix(last, []byte("\n"))
	last = last[bytes.LastIndexByte(last, '\n')+1:]
	var e Event
	if err := json.Unmarshal(last, &e); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	l.seq, l.prev = e.Seq, sha256.Sum256(last)
	return nil
}

// Record adds a line. Seq, Time, Machine and Prev are filled in. It never waits
// for more than the disk; an error is kept for Close.
func (l *Log) Record(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(e)
	now := l.now()
	l.tokens = min(linesBurst, l.tokens+now.Sub(l.filled).Seconds()*linesPerSec)
	l.filled = now
	if l.tokens < 1 {
		l.left++
		return
	}
	if l.left > 0 {
		l.writeLocked(Event{Kind: Note, Reason: "lines were left out: too many at once", Count: l.left}, now)
		l.left = 0
		l.tokens--
	}
	l.tokens--
	l.writeLocked(e, now)
}

func (l *Log) writeLocked(e Event, now time.Time) {
	if l.err != nil || l.file == nil {
		return
	}
	l.seq++
	e.Seq, e.Time, e.Machine, e.Prev = l.seq, now.UTC(), l.machine, hex.EncodeToString(l.prev[:])
	for _, field := range []*string{&e.Name, &e.Addr, &e.Method, &e.Path, &e.Rule, &e.Reason, &e.Proto} {
		*field = clip(*field)
	}
	line, err := json.Marshal(e)
	if err != nil {
		l.err = err
		return
	}
	if l.size+int64(len(line)) > MaxFileSize {
		if l.err = l.rotateLocked(); l.err != nil {
			return
		}
	}
	l.prev = sha256.Sum256(line)
	n, err := l.file.Write(append(line, '\n'))
	l.size += int64(n)
	if err != nil {
		l.err = fmt.Errorf("write the audit log: %w", err)
	}
}

// rotateLocked makes the file the old one and begins another.
func (l *Log) rotateLocked() error {
	f, err := os.OpenFile(l.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("rotate the audit log: %w", err)
	}
	err = errors.Join(os.Rename(l.path, l.path+Suffix), os.Rename(l.path+".new", l.path), l.file.Close())
	if err != nil {
		f.Close()
		return fmt.Errorf("rotate the audit log: %w", err)
	}
	l.file, l.size = f, 0
	return nil
}

// clip shortens text of the guest's. encoding/json escapes what is no text.
func clip(s string) string {
	if len(s) > maxText {
		return s[:maxText] + "…"
	}
	return s
}

// Close writes what was left out, and returns the first error of all.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return l.err
	}
	if l.left > 0 {
		l.writeLocked(Event{Kind: Note, Reason: "lines were left out: too many at once", Count: l.left}, l.now())
	}
	err := errors.Join(l.err, l.file.Close())
	l.file = nil
	return err
}

// denial is what denied lines are counted by.
type denial struct {
	host string
	port int
}

// maxDenials bounds the kinds of denials that are counted apart.
const maxDenials = 1000

func (l *Log) count(e Event) {
	if e.Verdict != Deny {
		return
	}
	d := denial{e.Name, e.Port}
	if d.host == "" {
		d.host = e.Addr
	}
	if d.host == "" {
		d.host = e.Proto
	}
	d.host = clip(d.host)
	if _, ok := l.denials[d]; !ok && len(l.denials) >= maxDenials {
		l.more++
		return
	}
	l.denials[d] += max(1, e.Count)
}

// Denied is how often the machine was refused one thing.
type Denied struct {
	Host  string `json:"host"` // name, address, or what kind of packet
	Port  int    `json:"port,omitempty"`
	Count int    `json:"count"`
}

// Denials returns what was refused since the log was opened, in no order, and
// how many refusals there were beside.
func (l *Log) Denials() (all []Denied, more int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for d, n := range l.denials {
		all = append(all, Denied{d.host, d.port, n})
	}
	return all, l.more
}
