package audit

import (
	"strings"
	"time"
)

// Bounds of lines about what was allowed. A guest can cause them as fast as it can connect.
const (
	linesBurst  = 2000 // at once
	linesPerSec = 200  // in the long run; what is more is merged
	maxKinds    = 1000 // that are merged at once
	firstWindow = time.Second
	maxWindow   = 5 * time.Minute
)

// rate is how many lines may be written by themselves.
type rate struct {
	tokens float64
	filled time.Time
}

func (r *rate) take(now time.Time) bool {
	r.tokens = min(linesBurst, r.tokens+now.Sub(r.filled).Seconds()*linesPerSec)
	r.filled = now
	if r.tokens < 1 {
		return false
	}
	r.tokens--
	return true
}

// kind is what lines have in common that are merged into one.
type kind struct {
	kind         Kind
	verdict      Verdict
	proto        string
	name, addr   string
	port, status int
	rule         string
	secrets      string
}

// merged are lines that are not written yet.
type merged struct {
	event  Event // with the sums
	until  time.Time
	window time.Duration
}

func (m *merged) add(e Event) {
	count := m.event.Count + max(1, e.Count)
	up, down := m.event.Up+e.Up, m.event.Down+e.Down
	if m.event.Count == 0 {
		m.event = e
	}
	m.event.Count, m.event.Up, m.event.Down = count, up, down
}

// merger merges the lines of one file.
type merger struct {
	rate
	write func(Event, time.Time) (bytes int)
	kinds map[kind]*merged
}

func newMerger(now time.Time, write func(Event, time.Time) int) *merger {
	return &merger{rate: rate{linesBurst, now}, write: write, kinds: make(map[kind]*merged)}
}

// record writes e, or keeps it to be written with others.
func (m *merger) record(e Event, now time.Time) {
	if m.take(now) {
		m.write(e, now)
		return
	}
	// Too many: what is of one destination is one line.
	e.clip()
	e.Method, e.Path, e.Millis = "", "", 0
	k := kind{
		kind: e.Kind, verdict: e.Verdict, proto: e.Proto, name: e.Name, addr: e.Addr, port: e.Port, status: e.Status,
		rule: e.Rule, secrets: strings.Join(e.Secrets, " "),
	}
	if p, ok := m.kinds[k]; ok {
		p.add(e)
		return
	}
	if len(m.kinds) >= maxKinds {
		m.flush(now, true)
	}
	p := &merged{until: now.Add(firstWindow), window: firstWindow}
	p.add(e)
	m.kinds[k] = p
}

// flush writes what is due, or all.
func (m *merger) flush(now time.Time, all bool) {
	for k, p := range m.kinds {
		if !all && now.Before(p.until) {
			continue
		}
		if p.event.Count == 0 || all {
			delete(m.kinds, k)
		}
		if p.event.Count > 0 {
			m.write(p.event, now)
			// Who goes on gets fewer and fewer lines.
			p.window = min(2*p.window, maxWindow)
			p.until, p.event = now.Add(p.window), Event{}
		}
	}
}
