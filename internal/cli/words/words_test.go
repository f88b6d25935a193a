package words

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly"
)

func TestNext(t *testing.T) {
	for _, tt := range []struct {
		info          mayfly.Info
		next, problem string
	}{
		{mayfly.Info{Name: "a", State: "running", Image: mayfly.ImageCurrent}, "", ""},
		{mayfly.Info{Name: "a", State: "dead"}, "mayfly gc removes dead machines", ""},
		{mayfly.Info{Name: "a", State: "dead", Defined: true}, "mayfly logs a, or mayfly start a", ""},
		{mayfly.Info{Name: "a", State: "running", Changed: true, Image: mayfly.ImageStale}, "mayfly restart a uses its file as it is now", ""},
		{mayfly.Info{Name: "a", Image: mayfly.ImageStale}, "mayfly restart a", ""},
		{mayfly.Info{Name: "a", Image: mayfly.ImageOutdated}, "mayfly check a", ""},
		{mayfly.Info{Name: "a", State: "dead", FileError: errors.New("bad")}, "mayfly edit a", "bad"},
	} {
		if next, problem := Next(tt.info); next != tt.next || problem != tt.problem {
			t.Errorf("Next(%+v) = %q, %q; want %q, %q", tt.info, next, problem, tt.next, tt.problem)
		}
	}
}

// Names that a user's files have, also within a reason, are on one line and write nothing else.
func TestSettingsAreSafe(t *testing.T) {
	var r rows
	r.settings([]mayfly.AgentSettings{{Agent: "claude", Left: []mayfly.LeftSetting{{What: "a\x1b[2J\nb", Why: "its c\x1b[2J\nd may hold credentials"}}}})
	for _, row := range r {
		if strings.ContainsAny(row.Text, "\x1b\n") {
			t.Errorf("a row is not safe: %q", row.Text)
		}
	}
}

// What coding agents try and do not need is told apart, and not counted.
func TestDenied(t *testing.T) {
	st := mayfly.NetworkState{Mode: "user", Denied: []mayfly.Denied{
		{Host: "stats.example", Port: 443, Count: 5, Needless: "claude"}, {Host: "x.example", Count: 2},
	}}
	if n, text := DeniedCount(st), Denied(st); n != 2 || text != "x.example (2)" {
		t.Errorf("denied: %d, %q", n, text)
	}
	if text := Needless(st); text != "stats.example:443 (5)" {
		t.Errorf("needless: %q", text)
	}
	rows := Policy(st)
	if last := rows[len(rows)-1]; last != (Row{"needless", "stats.example:443 (5)"}) {
		t.Errorf("Policy() = %q; want what is needless, too", rows)
	}
}

// What a guest asked for is shown and controls no terminal.
func TestPolicy(t *testing.T) {
	got := Policy(mayfly.NetworkState{
		Mode: "user", Egress: "allowlist", MoreDenied: 2,
		Deny:    []mayfly.Rule{{Host: "bad.example"}},
		Allow:   []mayfly.Rule{{Host: "git.example", Port: 22, Private: true, From: "mayfly policy"}},
		Secrets: []mayfly.Secret{{Name: "TOKEN", Hosts: []string{"a.example", "b.example"}, Places: []string{"bearer", "header=x-api-key"}}},
		Denied:  []mayfly.Denied{{Host: "evil\x1b[2J", Port: 443, Count: 3}, {Host: "x.example", Count: 1}},
	})
	want := []Row{
		{"egress", "allowlist"},
		{"deny", "bad.example"},
		{"allow", "git.example:22  (private, mayfly policy)"},
		{"secret", "TOKEN to a.example, b.example as bearer, header=x-api-key"},
		{"denied", "evil?[2J:443 (3), x.example, 2 more"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Policy() differs (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]Row{{"network", "bridge"}}, Policy(mayfly.NetworkState{Mode: "bridge"})); d != "" {
		t.Errorf("Policy() differs on a bridge (-want +got):\n%s", d)
	}
}

// What is asked about is shown with its whole name: the end of a long one says whose it is.
func TestPolicyAsks(t *testing.T) {
	long := strings.Repeat("github.com.", 20) + "evil.example"
	st := mayfly.NetworkState{
		Mode: "user", Egress: "ask", Unattended: 1,
		Questions: []mayfly.Question{
			{Host: long, Port: 443, Since: time.Now().Add(-12 * time.Second), Connections: 3},
			{Host: "xn--gthub-jua.example", Port: 22, Since: time.Now(), Connections: 1},
		},
		Allow: []mayfly.Rule{{Host: "once.example", Port: 443, Once: true, From: "mayfly policy"}},
	}
	want := []Row{
		{"egress", "ask"},
		{"asks", long + ":443  (for 12s, 3 connections)"},
		{"asks", "xn--gthub-jua.example:22  (for 0s, 1 connection)"},
		{"allow", "once.example:443  (once, mayfly policy)"},
		{"denied", "1 connection without a question, as nobody was there to answer"},
	}
	if d := cmp.Diff(want, Policy(st)); d != "" {
		t.Errorf("Policy() differs (-want +got):\n%s", d)
	}
	e := mayfly.Event{Kind: mayfly.EventNote, Code: "egress-question", Args: map[string]string{"name": "m", "host": long, "port": "443", "text": "x"}}
	if got, want := Event(e), "m wants to reach "+long+":443: mayfly policy m allow "+long+", or deny, in another terminal"; got != want {
		t.Errorf("Event() = %q; want %q", got, want)
	}
}

// What a machine trusts of its host is shown with its end, and a subject cannot write on the
// terminal.
func TestTrusts(t *testing.T) {
	until := time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, mode := range []string{"user", "bridge"} {
		var d mayfly.Details
		d.Plan.Network = mayfly.Network{Mode: mode, Authorities: []mayfly.Authority{{Subject: "CN=Corp", Until: until}, {Subject: "CN=\x1b[2J", Until: until}}}
		var got []string
		for _, row := range Details(d) {
			if row.Name == "trusts" || row.Name == "" {
				got = append(got, row.Text)
			}
		}
		want := []string{"CN=Corp until 2031-05-01, an authority of this computer", `"CN=\x1b[2J" until 2031-05-01, an authority of this computer`}
		if !slices.Equal(got, want) {
			t.Errorf("mode %s: %q; want %q", mode, got, want)
		}
	}
}

func TestLeftOut(t *testing.T) {
	for want, files := range map[string]int{
		"1,234,567 ignored files changed, 118 MiB": 1_234_567,
		"1,000 ignored files changed, 1 MiB":       1000,
		"999 ignored files changed, 1 MiB":         999,
	} {
		if got := LeftOut(files, int64(files)*100, "ignored"); got != want {
			t.Errorf("LeftOut of %d = %q; want %q", files, got, want)
		}
	}
	if got, want := LeftOut(1, 0, "ignored"), "1 ignored file changed"; got != want {
		t.Errorf("LeftOut of one = %q; want %q", got, want)
	}
}

func TestWalls(t *testing.T) {
	for _, tt := range []struct {
		walls mayfly.Walls
		want  string
	}{
		{mayfly.Walls{Namespaces: true, Landlock: 6}, "QEMU has namespaces of its own, Landlock, a filter of system calls"},
		{mayfly.Walls{Landlock: 1}, "QEMU has Landlock, a filter of system calls; no namespaces of its own: mayfly doctor says why"},
		{mayfly.Walls{}, "QEMU has a filter of system calls; no namespaces of its own, no Landlock: mayfly doctor says why"},
	} {
		d := mayfly.Details{Walls: tt.walls}
		d.Plan.Name = "web"
		if got := Details(d); !slices.Contains(got, Row{"walls", tt.want}) {
			t.Errorf("%+v: %q; want the walls %q", tt.walls, got, tt.want)
		}
	}
}

// A session is told with what it does, for how long, and the last that it said: a little of
// that, and on one line.
func TestSession(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for want, s := range map[string]mayfly.Session{
		"claude (needs permission, 3 min: Bash: rm -rf x)": {Name: "claude", State: mayfly.SessionNeedsPermission, Since: ago(3*time.Minute + 59*time.Second), Last: "Bash: rm -rf x"},
		"claude (works, 0 s)":                              {Name: "claude", State: mayfly.SessionWorks, Since: now.Add(time.Hour)},
		"codex (done, 5 h: Shall I?)":                      {Name: "codex", State: mayfly.SessionDone, Since: ago(5 * time.Hour), Last: "Shall I?"},
		"codex (failed, exit code 1, 3 days)":              {Name: "codex", State: mayfly.SessionFailed, Exited: true, Code: 1, Since: ago(80 * time.Hour)},
		"x (needs answer)":                                 {Name: "x", State: mayfly.SessionNeedsAnswer},
		"x (needs answer: ?[2J)":                           {Name: "x", State: mayfly.SessionNeedsAnswer, Last: "\x1b[2J"},
		"x (done: " + strings.Repeat("x", 60) + "…)":       {Name: "x", State: mayfly.SessionDone, Last: strings.Repeat("x", 200)},
	} {
		if got := Session(s, now); got != want {
			t.Errorf("Session(%+v) = %q; want %q", s, got, want)
		}
	}
}

func TestListening(t *testing.T) {
	for _, tt := range []struct {
		l    mayfly.Listening
		want string
	}{
		{mayfly.Listening{Port: 3000, Published: true, Auto: true}, "port 3000 of m is localhost:3000"},
		{mayfly.Listening{Port: 3000, Published: true}, ""},
		{mayfly.Listening{Port: 3000}, "a program in m listens on port 3000: mayfly port m add 3000:3000"},
		{mayfly.Listening{Port: 80}, "a program in m listens on port 80: mayfly port m add 0:80"},
		{mayfly.Listening{Port: 3000, Why: "taken"}, "a program in m listens on port 3000, which another program here has or had: mayfly port m add 0:3000"},
	} {
		if got := Listening("m", tt.l); got != tt.want {
			t.Errorf("Listening(%+v) = %q; want %q", tt.l, got, tt.want)
		}
	}
	var many mayfly.Info
	many.Name = "m"
	for port := range 9 {
		many.Listening = append(many.Listening, mayfly.Listening{Port: 4000 + port}, mayfly.Listening{Port: 5000 + port, Published: true, Auto: port == 0})
	}
	const want = "its programs are at localhost:5000; its programs listen on ports 4000, 4001, 4002, 4003, 4004, 4005 and 3 more: mayfly port m"
	if got := ListeningOf(many); got != want {
		t.Errorf("ListeningOf() = %q; want %q", got, want)
	}
	e := mayfly.Event{Kind: mayfly.EventNote, Code: "port-listening", Args: map[string]string{"name": "m", "port": "80", "why": "low", "text": "x"}}
	if got := Event(e); got != "a program in m listens on port 80, which is below 1024 and not taken by itself: mayfly port m add 0:80" {
		t.Errorf("Event() = %q", got)
	}
}
