package audit

import (
	"strings"
	"time"
)

// Bounds of lines that are alike. A guest can cause lines as fast as it can connect.
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
	method, path string
	rule, reason string
	secrets      string
	omitted      bool // stands for many destinations
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
	write func(Event, time.Time)
	// once is whether the first line of a kind stands for those that follow soon, also
	// where there are few.
	once  bool
	kinds map[kind]*merged
}

func newMerger(now time.Time, once bool, write func(Event, time.Time)) *merger {
	return &merger{rate: rate{linesBurst, now}, write: write, once: once, kinds: make(map[kind]*merged)}
}

// record writes e, or keeps it to be written with others.
func (m *merger) record(e Event, now time.Time) {
	exact := kind{
		kind: e.Kind, verdict: e.Verdict, proto: e.Proto, name: e.Name, addr: e.Addr, port: e.Port,
		method: e.Method, path: clip(e.Path), rule: e.Rule, reason: clip(e.Reason), secrets: strings.Join(e.Secrets, " "),
	}
	if m.once {
		if p, ok := m.kinds[exact]; ok {
			p.add(e)
			return
		}
	}
	if m.take(now) {
		m.write(e, now)
		if m.once && len(m.kinds) < maxKinds {
			m.kinds[exact] = &merged{until: now.Add(firstWindow), window: firstWindow}
		}
		return
	}
	// Too many: what is of one destination is one line.
	rough := exact
	rough.status, rough.method, rough.path, rough.reason = e.Status, "", "", ""
	e.Method, e.Path, e.Millis = "", "", 0
	if p, ok := m.kinds[rough]; ok {
		p.add(e)
		return
	}
	if len(m.kinds) >= maxKinds {
		if !m.once {
			m.flush(now, true)
		} else {
			rough = kind{kind: e.Kind, verdict: e.Verdict, proto: e.Proto, omitted: true}
			e.Name, e.Addr, e.Port, e.Rule, e.Reason = "", "", 0, "", "many destinations"
			if p, ok := m.kinds[rough]; ok {
				p.add(e)
				return
			}
		}
	}
	p := &merged{until: now.Add(firstWindow), window: firstWindow}
	p.add(e)
	m.kinds[rough] = p
}

// flush writes what is due, or all, and reports whether anything is left to wait for.
func (m *merger) flush(now time.Time, all bool) bool {
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
	return len(m.kinds) > 0
}
