package audit

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is the time of a log, for hours in a moment.
type clock struct {
	l *Log

	mu  sync.Mutex // guards now: the log's own timer looks at it, too
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func openAt(t *testing.T, path string) (*Log, *clock) {
	l := open(t, path)
	c := &clock{l: l, now: time.Now()}
	l.now = c.time
	l.deny.filled, l.keep.filled = c.now, c.now
	return l, c
}

// pass lets time pass, and writes what is due each second.
func (c *clock) pass(d time.Duration) {
	before := c.time()
	now := before.Add(d)
	c.mu.Lock()
	c.now = now
	c.mu.Unlock()
	if now.Truncate(time.Second) != before.Truncate(time.Second) {
		c.l.mu.Lock()
		c.l.keep.flush(now, false)
		c.l.deny.flush(now, false)
		c.l.mu.Unlock()
	}
}

// Whether a flood is fast or takes its time, what was refused before and beside it has lines
// of its own, and nothing is displaced.
func TestFloodHidesNoRefusal(t *testing.T) {
	floods := map[string]func(i int) Event{
		"names below one": func(i int) Event {
			return Event{Kind: Name, Verdict: Deny, Proto: "A", Name: fmt.Sprintf("flood-%d.attack.invalid", i), Reason: "no rule"}
		},
		"names of all kinds": func(i int) Event {
			return Event{Kind: Name, Verdict: Deny, Proto: "TXT", Name: fmt.Sprintf("flood-%d.invalid-%d", i, i), Reason: "not allowed"}
		},
		"addresses": func(i int) Event {
			return Event{Kind: Flow, Verdict: Deny, Proto: "tcp", Addr: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), Port: 443, Reason: "private"}
		},
		"addresses all over": func(i int) Event {
			return Event{Kind: Flow, Verdict: Deny, Proto: "tcp", Addr: fmt.Sprintf("%d.%d.9.9", i&127, i>>7&255), Port: 443, Reason: "no name"}
		},
		"ports": func(i int) Event {
			return Event{Kind: Flow, Verdict: Deny, Proto: "tcp", Addr: "192.168.127.1", Port: i, Reason: "the gateway"}
		},
		"requests": func(i int) Event {
			return Event{Kind: Request, Verdict: Deny, Proto: "h2", Name: "web.example", Port: 443, Method: "GET", Path: fmt.Sprint("/", i), Status: 421, Reason: "another host"}
		},
		"reasons": func(i int) Event {
			return Event{Kind: Request, Verdict: Deny, Proto: "h2", Name: "web.example", Port: 443, Method: "GET", Status: 403, Reason: fmt.Sprintf("in the parameter p%d", i)}
		},
		"one": func(int) Event {
			return Event{Kind: Flow, Verdict: Deny, Proto: "tcp", Addr: "10.9.9.9", Port: 443, Reason: "private"}
		},
	}
	ordinary := []func(i int) Event{
		func(i int) Event {
			return Event{Kind: Name, Verdict: Deny, Proto: "A", Name: fmt.Sprintf("host.site-%d.example", i), Reason: "no rule"}
		},
		func(i int) Event {
			return Event{Kind: Flow, Verdict: Deny, Proto: "tcp", Addr: fmt.Sprintf("172.16.0.%d", i), Port: 22, Reason: "private"}
		},
		func(i int) Event {
			return Event{Kind: Request, Verdict: Deny, Proto: "http/1.1", Name: "api.example", Port: 443, Method: "GET", Path: fmt.Sprint("/ordinary/", i), Status: 403, Reason: "no rule for the path"}
		},
		func(i int) Event {
			return Event{Kind: Packet, Verdict: Deny, Proto: fmt.Sprintf("protocol %d", 100+i)}
		},
	}
	for name, flood := range floods {
		for _, perSecond := range []int{20, 300, 20_000} {
			t.Run(fmt.Sprintf("%s, %d a second", name, perSecond), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "log")
				l, c := openAt(t, path)
				want := make(map[string]bool)
				all := 0
				refuse := func(e Event) {
					l.Record(e)
					all++
				}
				const each, floods = 20, 10_000
				for i := range floods {
					if i%(floods/each) == 0 {
						for _, f := range ordinary {
							e := f(i / (floods / each))
							e.Machine = "m"
							want[fmt.Sprint(e.Proto, e.Name, e.Addr, e.Path)] = true
							refuse(e)
						}
					}
					refuse(flood(i))
					c.pass(time.Second / time.Duration(perSecond))
				}
				l.Flush()
				lines, counted, samples := 0, 0, 0
				for _, e := range read(t, path) {
					if e.Kind == Note {
						t.Errorf("refusals were displaced: %v", e)
					}
					lines++
					counted += max(1, e.Count)
					if len(e.Samples) == 0 {
						delete(want, fmt.Sprint(e.Proto, e.Name, e.Addr, e.Path))
					}
					samples += len(e.Samples)
				}
				for w := range want {
					t.Errorf("the refusal %s has no line", w)
				}
				if counted != all {
					t.Errorf("%d refusals are counted; want %d", counted, all)
				}
				if name != "one" && lines < floods/2 && samples == 0 {
					t.Error("no line says what was refused in the flood")
				}
			})
		}
	}
}

// A line for many says where they were going.
func TestManyRefusalsAreNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, _ := openAt(t, path)
	for i := range 500 {
		l.Record(Event{Kind: Name, Verdict: Deny, Proto: "A", Name: fmt.Sprintf("flood-%d.attack.invalid", i), Reason: "no rule"})
		l.Record(Event{Kind: Flow, Verdict: Deny, Proto: "tcp", Addr: fmt.Sprintf("10.0.%d.%d", i/200, i%200), Port: 80, Reason: "private"})
	}
	l.Flush()
	var text strings.Builder
	for _, e := range read(t, path) {
		fmt.Fprintln(&text, e)
	}
	for _, want := range []string{
		"deny  dns A *.attack.invalid no rule such as flood-100.attack.invalid, flood-101.attack.invalid, ",
		"deny  tcp 10.0.0.0/16 private such as 10.0.0.100:80, 10.0.0.101:80, ",
		"(400 times)",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("there is no %q in the log:\n%s", want, text.String())
		}
	}
	denied, more := l.Denials()
	counts := make(map[string]int)
	for _, d := range denied {
		counts[d.Host] += d.Count
	}
	if more != 0 || counts["*.attack.invalid"] != 450 || counts["10.0.0.0/16"] != 450 || counts["flood-1.attack.invalid"] != 1 {
		t.Errorf("Denials() = %v, %d more; want most of them below one name, and one prefix", counts, more)
	}
}

// Whoever keeps a flood up, with the longest texts, does not fill the files for hours, and
// has no more in memory than the bound.
func TestRefusalsInTheLongRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, c := openAt(t, path)
	l.Record(Event{Kind: Flow, Verdict: Deny, Proto: "tcp", Addr: "10.0.0.1", Port: 80, Reason: "the first"})
	long := strings.Repeat("\x01", 1000)
	most := 0
	for i := range 4 * 3600 {
		l.Record(Event{Kind: Request, Verdict: Deny, Proto: "h2", Name: fmt.Sprintf("h%d.x%d", i, i), Method: long, Path: fmt.Sprint(i, long), Status: 403, Reason: fmt.Sprint(i%5000, long)})
		c.pass(time.Second)
		most = max(most, l.deny.below[target{level: levelKind, kind: Request}].bytes)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if e := read(t, path)[0]; e.Reason != "the first" {
		t.Errorf("the log begins with %v; want its first line", e)
	}
	if most > 2*maxOfKind || len(l.deny.lines) > 700 {
		t.Errorf("%d bytes of %d lines waited", most, len(l.deny.lines))
	}
}

// What was counted is dropped when it has ended, so that the next refusals have lines again.
func TestFloodEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, c := openAt(t, path)
	for i := range 20_000 {
		l.Record(Event{Kind: Name, Verdict: Deny, Proto: "A", Name: fmt.Sprintf("flood-%d.attack.invalid", i), Reason: "no rule"})
	}
	for range 3600 {
		c.pass(time.Second)
	}
	if len(l.deny.lines) != 0 || len(l.deny.below) != 0 {
		t.Errorf("an hour later there are %d lines and %d counts", len(l.deny.lines), len(l.deny.below))
	}
}

// Whatever a guest is refused, in whatever order: each is counted, the bounds hold, and
// nothing is kept of what has ended.
func FuzzRefusals(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x00\x00\xff\x01\x01\x01\x01"))
	f.Add(bytes.Repeat([]byte("\x01a.b\xff"), 50))
	f.Fuzz(func(t *testing.T, data []byte) {
		now := time.Unix(0, 0)
		written := 0
		r := newRefusals(now, func(e Event, _ time.Time) int {
			e.clip()
			written += max(1, e.Count)
			if len(e.Samples) > maxSamples || len(e.String()) > 20_000 {
				t.Errorf("a line of %d samples, %d bytes", len(e.Samples), len(e.String()))
			}
			return lineCost(e)
		})
		recorded := 0
		for len(data) >= 4 && recorded < 5000 {
			op, n := data[0], int(data[1])
			text := data[2:min(len(data), 2+int(data[0]&31)+2)]
			data = data[len(text)+2:]
			switch {
			case op == 0xff:
				now = now.Add(time.Duration(n) * time.Second)
				r.flush(now, false)
				continue
			case op == 0xfe:
				r.flush(now, true)
				continue
			}
			for i := range n * int(1+op>>5) {
				e := Event{Kind: Flow, Verdict: Deny, Name: string(text), Addr: "10.0.0.1", Reason: string(op)}
				switch op % 7 {
				case 0:
					e.Name = fmt.Sprintf("h%d.%s", i, text)
				case 1:
					e.Name, e.Addr = "", fmt.Sprintf("10.%d.%d.1", n, i&255)
				case 2:
					e.Kind, e.Path, e.Count = Request, fmt.Sprint("/", i, string(text)), 2
				case 3:
					e.Reason = fmt.Sprint(i, string(text))
				case 4:
					e.Kind, e.Name, e.Addr, e.Proto = Packet, "", "", fmt.Sprint(i)
				case 5:
					e.Port, e.Name = i, ""
				}
				r.record(e, now)
				recorded += max(1, e.Count)
			}
		}
		for kind, l := range r.below {
			if kind.level == levelKind && (l.lines > levelKind.most()+more+1 || l.bytes > 4*maxOfKind) {
				t.Errorf("%+v of %v", l, kind)
			}
		}
		r.flush(now, true)
		if written != recorded {
			t.Errorf("%d refusals are written; want %d", written, recorded)
		}
		for range 3 {
			now = now.Add(2 * maxWindow)
			r.flush(now, false)
		}
		if len(r.lines) > 0 || len(r.below) > 0 {
			t.Errorf("%d lines and %d counts are kept for nothing", len(r.lines), len(r.below))
		}
	})
}
