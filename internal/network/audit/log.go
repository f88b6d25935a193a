package audit

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Bounds of a log.
const (
	MaxFileSize   = 16 << 20 // of the file that is written; then it becomes the old one
	maxDeniedSize = 4 << 20  // of that for refusals
	maxText       = 256      // bytes of one field that the guest chose
	tail          = 64 << 10 // more than a line of all fields, with what JSON makes of them
)

// Suffix is what the name of the older file of a log ends in, DamagedSuffix that of one
// that could not be continued, and DeniedSuffix that of the files for refusals.
const (
	Suffix        = ".old"
	DamagedSuffix = ".damaged"
	DeniedSuffix  = ".denied"
)

// Log is the log of one machine, open for writing. Its methods may be called
// from several goroutines.
//
// It has two chains of lines. One is for what was refused, and whoever is refused in a loop
// fills it; the other has all that was allowed, cut, used a secret or changed the policy,
// and nothing that is refused displaces it. No line of either is left out: what comes too
// fast is merged with what is alike, and counted. Neither does a flood of refusals displace
// older ones.
type Log struct {
	machine string
	now     func() time.Time

	mu      sync.Mutex
	kept    *file
	denied  *file
	keep    *merger
	deny    *refusals
	timer   *time.Timer // nil while nothing waits to be written
	closed  bool
	denials map[denial]int
	sites   map[denial]int // denials of each that are counted apart
	more    int            // denials beyond maxDenials kinds
}

// Open begins or continues the log of machine at path. What a crash left of a
// line is cut off. One that cannot be continued is set aside, and a new one says so:
// a machine must not depend on it.
func Open(path, machine string) (*Log, error) {
	l := &Log{machine: machine, now: time.Now, denials: make(map[denial]int), sites: make(map[denial]int)}
	var keptDamaged, deniedDamaged bool
	var err error
	if l.kept, keptDamaged, err = openFile(path, MaxFileSize); err == nil {
		if l.denied, deniedDamaged, err = openFile(path+DeniedSuffix, maxDeniedSize); err != nil {
			l.kept.close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	l.keep = newMerger(l.now(), func(e Event, now time.Time) int { return l.writeLocked(l.kept, e, now) })
	l.deny = newRefusals(l.now(), func(e Event, now time.Time) int { return l.writeLocked(l.denied, e, now) })
	if keptDamaged || deniedDamaged {
		l.Record(Event{Kind: Note, Reason: "the log before this one was damaged, and is set aside"})
	}
	return l, nil
}

// Record adds a line. Seq, Time, Machine and Prev are filled in. It never waits
// for more than the disk; an error is kept for Close.
func (l *Log) Record(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.count(e)
	now := l.now()
	if e.Verdict == Deny && len(e.Secrets) == 0 {
		l.deny.record(e, now)
	} else {
		l.keep.record(e, now)
	}
	l.waitLocked()
}

// waitLocked sees to it that what was merged is written.
func (l *Log) waitLocked() {
	if l.timer == nil && len(l.keep.kinds)+len(l.deny.lines) > 0 {
		l.timer = time.AfterFunc(firstWindow, l.flush)
	}
}

func (l *Log) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	now := l.now()
	l.timer = nil
	l.keep.flush(now, false)
	l.deny.flush(now, false)
	l.waitLocked()
}

// Flush writes what was merged, for somebody who wants to read it.
func (l *Log) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.keep.flush(l.now(), true)
	l.deny.flush(l.now(), true)
}

func (l *Log) writeLocked(f *file, e Event, now time.Time) (bytes int) {
	e.Time, e.Machine = now.UTC(), l.machine
	return f.write(e)
}

// Close writes what was merged, and returns the first error of all.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		if l.timer != nil {
			l.timer.Stop()
		}
		l.keep.flush(l.now(), true)
		l.deny.flush(l.now(), true)
	}
	return errors.Join(l.kept.close(), l.denied.close())
}

// denial is what denied lines are counted by.
type denial struct {
	host string
	port int
}

// Bounds of the kinds of denials that are counted apart, of all and of those that are near
// to each other.
const (
	maxDenials       = 1000
	maxDenialsOfSite = 50
)

func (l *Log) count(e Event) {
	if e.Verdict != Deny {
		return
	}
	e.clip()
	d, n := denial{cmp.Or(e.Name, e.Addr, e.Proto), e.Port}, max(1, e.Count)
	if _, ok := l.denials[d]; ok {
		l.denials[d] += n
		return
	}
	name, addr := siteOf(e.Name, e.Addr)
	site := denial{host: cmp.Or(name, addr)}
	if site.host != "" && l.sites[site] >= maxDenialsOfSite {
		d = site
	}
	if _, ok := l.denials[d]; !ok && len(l.denials) >= maxDenials {
		l.more += n
		return
	}
	if l.denials[d] += n; site.host != "" && d != site {
		l.sites[site]++
	}
}

// Denied is how often the machine was refused one thing.
type Denied struct {
	Host  string `json:"host"` // name, address, a pattern for many of them, or what kind of packet
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
