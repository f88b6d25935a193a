package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Bounds of the lines about refusals. A guest can cause them as fast as it can ask, and may
// take its time, too: lines that are written one by one must not displace older ones.
const (
	refusalBurst = 1 << 20   // bytes that are written at once
	refusalRate  = 512       // bytes a second in the long run: both files last for more than four hours
	maxOfKind    = 384 << 10 // bytes that may wait to be written
	maxSamples   = 16        // destinations that a line for many names
	maxSample    = 100       // bytes of one of them
)

// level is how much the refusals of one line have in common.
type level int

const (
	levelLine   level = iota // all that a line says
	levelNear                // reason and site
	levelReason              // reason
	levelSite                // site
	levelKind                // only the kind
)

// most is how many lines there may be of what has so much in common, before it is counted
// in one.
func (l level) most() int { return [...]int{1, 100, 300, 150, 400}[l] }

// more is how many lines for many there may be beyond that, of a kind.
const more = 200

// target is what refusals are counted by.
type target struct {
	level level
	kind  Kind

	proto        string
	status       int
	rule, reason string
	name, addr   string // beyond levelLine, patterns
	port         int
	method, path string
}

// above returns the targets of lines that could stand for that of t, too.
func (t target) above() []target {
	name, addr := siteOf(t.name, t.addr)
	all := []target{
		{level: levelNear, kind: t.kind, proto: t.proto, status: t.status, rule: t.rule, reason: t.reason, name: name, addr: addr},
		{level: levelReason, kind: t.kind, proto: t.proto, status: t.status, rule: t.rule, reason: t.reason},
		{level: levelSite, kind: t.kind, name: name, addr: addr},
		{level: levelKind, kind: t.kind},
	}
	switch t.level {
	case levelLine:
		return all
	case levelNear:
		return all[1:]
	case levelKind:
		return nil
	}
	return all[3:]
}

// siteOf returns a pattern for a name, or an address where there is no name, and those near
// to it. Both are empty where there is none.
func siteOf(name, addr string) (string, string) {
	if name != "" {
		labels := strings.Split(strings.TrimSuffix(name, "."), ".")
		if len(labels) < 2 {
			return "", ""
		}
		return "*." + strings.Join(labels[len(labels)-2:], "."), ""
	}
	if strings.Contains(addr, "/") {
		return "", addr // one already
	}
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return "", ""
	}
	bits := 16
	if a.Is6() {
		bits = 32
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "", ""
	}
	return "", p.String()
}

// waiting is a line that was written, or will be, with what came since.
type waiting struct {
	base   Event // what it begins with: empty for one target
	event  Event // with sums; Count is 0 while there is nothing to write
	until  time.Time
	window time.Duration
	cost   int // bytes that writing it takes, at most
}

// refusals bounds the lines about refusals. Each new target has a line at once, and what is
// alike is counted in a line that follows. In a flood, targets that have much in common are
// counted together: a flood neither hides what is refused beside it, nor takes the file from
// what was refused before.
type refusals struct {
	write  func(Event, time.Time) (bytes int)
	tokens float64 // bytes
	filled time.Time
	lines  map[target]*waiting
	below  map[target]load // of each that could stand for others
}

// load is what is kept of lines.
type load struct{ lines, bytes int }

func newRefusals(now time.Time, write func(Event, time.Time) int) *refusals {
	return &refusals{write: write, tokens: refusalBurst, filled: now, lines: make(map[target]*waiting), below: make(map[target]load)}
}

// record writes e, or keeps it to be written with others.
func (r *refusals) record(e Event, now time.Time) {
	e.clip()
	own := target{levelLine, e.Kind, e.Proto, e.Status, e.Rule, e.Reason, e.Name, e.Addr, e.Port, e.Method, e.Path}
	if w, ok := r.lines[own]; ok {
		w.add(e)
		return
	}
	cost, above := lineCost(e), own.above()
	t := own
	for _, a := range above {
		if l := r.below[a]; l.lines >= a.level.most() || a.level == levelKind && l.bytes+cost > maxOfKind {
			t = a
			break
		}
	}
	if t == own {
		w := r.keep(own, e, cost, now)
		w.event.Count = max(1, e.Count)
		if r.take(now) {
			w.event.Count = e.Count
			r.writeLine(own, w, now)
		}
		return
	}
	if rest := above[len(above)-1]; r.lines[t] == nil && r.below[rest].lines >= levelKind.most()+more {
		t = rest
	}
	w := r.lines[t]
	if w == nil {
		base := Event{Kind: e.Kind, Verdict: e.Verdict, Proto: t.proto, Status: t.status, Name: t.name, Addr: t.addr, Rule: t.rule, Reason: t.reason}
		if t.reason == "" {
			base.Reason = "for many reasons"
		}
		w = r.keep(t, base, lineCost(base), now)
		w.base = base
	}
	r.addMany(t, w, e)
}

// keep begins to count t, and returns its line, which begins with e.
func (r *refusals) keep(t target, e Event, cost int, now time.Time) *waiting {
	w := &waiting{event: e, until: now.Add(firstWindow), window: firstWindow}
	r.lines[t] = w
	r.change(t, 1, 0)
	r.spend(t, w, cost)
	return w
}

func (r *refusals) drop(t target) {
	r.spend(t, r.lines[t], -r.lines[t].cost)
	r.change(t, -1, 0)
	delete(r.lines, t)
}

// spend adds to the bytes that w has at most.
func (r *refusals) spend(t target, w *waiting, bytes int) {
	w.cost += bytes
	r.change(t, 0, bytes)
}

func (r *refusals) change(t target, lines, bytes int) {
	for _, a := range t.above() {
		l := r.below[a]
		if l.lines, l.bytes = l.lines+lines, l.bytes+bytes; l == (load{}) {
			delete(r.below, a)
		} else {
			r.below[a] = l
		}
	}
}

func (w *waiting) add(e Event) {
	e.Count, e.Up, e.Down = w.event.Count+max(1, e.Count), w.event.Up+e.Up, w.event.Down+e.Down
	w.event = e
}

// addMany counts e in w, the line of t, and names it where there are few.
func (r *refusals) addMany(t target, w *waiting, e Event) {
	w.event.Count, w.event.Up, w.event.Down = w.event.Count+max(1, e.Count), w.event.Up+e.Up, w.event.Down+e.Down
	if len(w.event.Samples) < maxSamples {
		text := sample(e)
		w.event.Samples = append(w.event.Samples, text)
		r.spend(t, w, escaped(text))
	}
}

// sample names the destination of e.
func sample(e Event) string {
	host := e.Name
	if host == "" {
		host = e.Addr
	}
	if e.Port != 0 {
		host = fmt.Sprintf("%s:%d", host, e.Port)
	}
	text := host + e.Path
	if len(text) > maxSample {
		text = text[:maxSample] + "…"
	}
	return text
}

// take reports whether a line may be written now.
func (r *refusals) take(now time.Time) bool {
	r.tokens = min(refusalBurst, r.tokens+now.Sub(r.filled).Seconds()*refusalRate)
	r.filled = now
	return r.tokens > 0
}

// writeLine writes what waits for t, and begins anew.
func (r *refusals) writeLine(t target, w *waiting, now time.Time) {
	// Whoever wants to read takes more than there is.
	r.tokens = max(-refusalBurst, r.tokens-float64(r.write(w.event, now)))
	for _, text := range w.event.Samples {
		r.spend(t, w, -escaped(text))
	}
	w.event = w.base
}

// flush writes what is due, or all.
func (r *refusals) flush(now time.Time, all bool) {
	for t, w := range r.lines {
		due := !now.Before(w.until)
		switch {
		case w.event.Count == 0 && due && !r.floods(t):
			r.drop(t)
		case w.event.Count > 0 && (all || due && r.take(now)):
			r.writeLine(t, w, now)
			if due {
				// Who goes on gets fewer and fewer lines.
				w.window = min(2*w.window, maxWindow)
				w.until = now.Add(w.window)
			}
		}
	}
}

// floods reports whether lines that have much in common with that of t are counted
// together: then its place is not for the next of them.
func (r *refusals) floods(t target) bool {
	return t.level == levelLine && slices.ContainsFunc(t.above(), func(a target) bool { return r.lines[a] != nil })
}

// lineCost returns how many bytes the line of e has at most.
func lineCost(e Event) int {
	const fixed = 400
	return fixed + escaped(e.Proto) + escaped(e.Name) + escaped(e.Addr) + escaped(e.Method) + escaped(e.Path) + escaped(e.Rule) + escaped(e.Reason)
}

// escaped returns how many bytes s has in JSON at most.
func escaped(s string) int {
	n := 8
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~' || strings.IndexByte(`<>&"\`, c) >= 0:
			n += 6
		default:
			n++
		}
	}
	return n
}
