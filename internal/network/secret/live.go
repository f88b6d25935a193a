package secret

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// maxPast bounds the earlier values of a Live that are remembered.
const maxPast = 8

// Live is a value that changes while it is used, as a token does that is renewed. Its
// methods may be called from several goroutines.
type Live struct {
	mu    sync.Mutex
	now   string
	until time.Time // when now is of no use any more; zero for never
	past  []string  // the newest first
	why   string    // there is none, "" for that it has expired
}

// NewLive returns one that has the value plain until a time; the zero time stands for ever.
func NewLive(plain string, until time.Time) *Live { return &Live{now: plain, until: until} }

// Value returns the value that changes with l.
func (l *Live) Value() Value { return Value{live: l} }

// Set gives l another value, until a time.
func (l *Live) Set(plain string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if plain != l.now {
		l.remember()
	}
	l.now, l.until, l.why = plain, until, ""
}

// Clear takes its value away from l. why is for those who would have used it.
func (l *Live) Clear(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remember()
	l.now, l.why = "", why
}

// Explain says why there will be no value once the one that l has has expired.
func (l *Live) Explain(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = why
}

// remember puts the value among those that were. The caller holds mu.
func (l *Live) remember() {
	if l.now == "" {
		return
	}
	l.past = append([]string{l.now}, slices.DeleteFunc(l.past, func(p string) bool { return p == l.now })...)
	l.past = l.past[:min(len(l.past), maxPast)]
}

// get returns the value, "" and the reason if there is none at a time.
func (l *Live) get(at time.Time) (plain, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.now != "" && (l.until.IsZero() || at.Before(l.until)):
		return l.now, ""
	case l.why != "":
		return "", l.why
	}
	return "", "it has expired, and there is no new one yet"
}

// all returns the value and those before it.
func (l *Live) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == "" {
		return slices.Clone(l.past)
	}
	return append([]string{l.now}, l.past...)
}

func (*Live) String() string             { return redacted }
func (*Live) GoString() string           { return redacted }
func (*Live) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }
