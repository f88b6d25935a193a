package dashboard

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/terminal/grid"
)

var update = flag.Bool("update", false, "write the golden screens")

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func machine(name, state string, sessions ...mayfly.Session) mayfly.Info {
	return mayfly.Info{Name: name, State: state, Network: "user", Workspace: "/home/ada/" + name, Sessions: sessions, DiskUsed: 40 << 20}
}

func defined(i mayfly.Info) mayfly.Info {
	i.Defined = true
	return i
}

// example is a model of machines in all states. Their guests say what hostile ones might.
func example() *Model {
	m := New()
	m.Tick(noon.Add(-2 * time.Hour))
	works := mayfly.Session{Name: "codex", State: mayfly.SessionWorks, Title: "Running go test ./..."}
	list := []mayfly.Info{
		defined(machine("web", "running", mayfly.Session{Name: "claude", State: mayfly.SessionWorks, Title: "✳ 漢字 in a title"}, mayfly.Session{Name: "shell", State: mayfly.SessionDone, Exited: true})),
		defined(machine("api", "running", works)),
		machine("run-3f9a2c", "running"),
		defined(machine("docs", "running", mayfly.Session{Name: "gemini", State: mayfly.SessionDone, Since: noon.Add(-30 * time.Minute), Last: "All tests pass."})),
		machine("run-77aa01", "dead"),
		defined(machine("old", mayfly.StateStopped)),
		defined(machine("full", mayfly.StatePaused)),
	}
	m.SetMachines(list)
	m.Tick(noon.Add(-5 * time.Minute))
	list[0].Sessions[0].State = mayfly.SessionNeedsPermission
	list[0].Sessions[0].Last = "Bash: make 漢字"
	list[0].Ports = []mayfly.Port{{Address: "127.0.0.1", HostPort: 8080, GuestPort: 80}}
	list[4].Reason = "its VMM ended"
	list[6].Reason = "the host's disk is full"
	list = append(list, defined(machine("evil", "running", mayfly.Session{Name: "claude", State: mayfly.SessionWorks, Title: "\x1b[2J\x1b]0;x\a\u202egnp.exe\nq" + strings.Repeat("e\u0301\u0301\u0301", 400)})))
	m.SetMachines(list)
	m.SetUsage([]mayfly.Usage{
		{Name: "web", CPU: 0.031, Memory: 900 << 20, Disk: 300 << 20},
		{Name: "api", CPU: 1.87, Memory: 2 << 30, Disk: 1500 << 20},
		{Name: "run-3f9a2c", CPU: 0, Memory: 210 << 20, Disk: 12 << 20},
	})
	m.SetNetwork("api", mayfly.NetworkState{
		Egress: "allowlist", Allow: []mayfly.Rule{{Host: "registry.example.org"}}, MoreDenied: 3,
		Denied: []mayfly.Denied{
			{Host: "registry.example.org", Port: 443, Count: 20}, {Host: "git.example.org", Port: 22, Count: 4}, {Host: "*.tracker.example", Port: 443, Count: 2},
			{Host: "stats.example.com", Port: 443, Count: 9, Needless: "codex"}, {Host: "bad\x1b[2Jhost.example", Count: 1}, {Host: "ICMP", Count: 1}, {Host: "2001:db8::1", Port: 80, Count: 1},
		},
	})
	m.SetChanges("api", 17, nil)
	m.Tick(noon)
	press(m, "g")
	return m
}

// press types keys, given by their names, and returns the last action.
func press(m *Model, keys ...string) (a Action) {
	for _, k := range keys {
		a = m.Press(Key{Name: k})
	}
	return a
}

// terminalOf is a terminal that gets what is drawn.
type terminalOf struct {
	drawn, shown *grid.Grid
}

func newTerminal(m *Model, rows, cols int) *terminalOf {
	m.Resize(rows, cols)
	t := &terminalOf{grid.New(rows, cols), grid.New(rows, cols)}
	m.Draw(t.drawn)
	t.shown.Write(t.drawn.All())
	return t
}

func (t *terminalOf) update(m *Model) string {
	m.Draw(t.drawn)
	t.shown.Write(t.drawn.Update())
	return t.shown.String() + "\n"
}

// The screens are as they were looked at when they were written down, on terminals of all
// sizes, and an update shows the same as a new screen.
func TestScreens(t *testing.T) {
	for _, size := range [][2]int{{24, 80}, {60, 200}, {5, 20}} {
		for _, tt := range []struct {
			name string
			keys []string
		}{
			{"list", nil},
			{"moved", []string{"down", "down", " ", "down"}},
			{"network", []string{"down", "down", "n", "down"}}, // api
			{"help", []string{"?"}},
			{"filter", []string{"/", "w", "o", "r", "k"}},
			{"stop", []string{" ", "x"}},
		} {
			name := fmt.Sprintf("%s-%dx%d", tt.name, size[1], size[0])
			t.Run(name, func(t *testing.T) {
				m := example()
				term := newTerminal(m, size[0], size[1])
				press(m, tt.keys...)
				got := term.update(m)
				golden := filepath.Join("testdata", name+".txt")
				if *update {
					if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(want), got); d != "" {
					t.Errorf("%s differs (-want +got; go test -update writes it):\n%s", golden, d)
				}
				fresh := newTerminal(m, size[0], size[1])
				if fresh := fresh.shown.String() + "\n"; fresh != got {
					t.Errorf("an update shows\n%s\nand a new screen\n%s", got, fresh)
				}
			})
		}
	}
}

// No size of a terminal breaks it, and no text of a guest gets out of its row.
func TestAllSizes(t *testing.T) {
	for _, rows := range []int{1, 2, 3, 4, 5, 6, 7, 11, 24} {
		for _, cols := range []int{1, 2, 3, 4, 5, 6, 7, 9, 13, 20, 33, 51, 66, 79, 80, 81, 99} {
			for _, keys := range [][]string{nil, {"G"}, {"down", "down", "n", "down", "down"}, {"?", "j", "j"}, {"/", "x"}, {"x"}} {
				m := example()
				newTerminal(m, rows, cols)
				press(m, keys...)
				screen := m.screen()
				if len(screen) != rows {
					t.Fatalf("%d×%d, keys %q: %d rows; want %d", cols, rows, keys, len(screen), rows)
				}
				for _, s := range screen {
					text := cells(s.text, cols)
					if width(text) != cols || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u202e' }) {
						t.Fatalf("%d×%d, keys %q: the row %q has %d cells", cols, rows, keys, text, width(text))
					}
				}
			}
		}
	}
}

// A program of a machine's that ends while its user types gets no command out of that, also
// not from the rest of a paste, which no longer looks like one.
func TestHold(t *testing.T) {
	m := example()
	m.Resize(24, 80)
	m.Hold()
	var keys Keys
	for _, k := range keys.Read([]byte("always finally\r\nq x y\x1b[201~ n y a y\r")) {
		if do := m.Press(k); do.Kind != None {
			t.Errorf("%q does %+v; want nothing", k.Name, do)
		}
	}
	if screen := fmt.Sprint(m.screen()); !strings.Contains(screen, "Ctrl-L goes on") {
		t.Errorf("the screen does not say how to go on:\n%s", screen)
	}
	if do := m.Press(Key{Name: "ctrl-l"}); do.Kind != Redraw {
		t.Errorf("Ctrl-L does %+v", do)
	}
	if do := m.Press(Key{Name: "q"}); do.Kind != Quit {
		t.Errorf("after Ctrl-L, q does %+v; want the end", do)
	}
}

// Keys do what commands do, to the machine that is chosen or to those that are marked, and
// ask before they change anything.
func TestKeys(t *testing.T) {
	run := func(read bool, commands ...string) Action {
		a := Action{Kind: Run, Read: read}
		for _, c := range commands {
			a.Commands = append(a.Commands, strings.Fields(c))
		}
		return a
	}
	for _, tt := range []struct {
		keys    string
		want    Action
		message string // a part of what is said
	}{
		{"enter", run(false, "attach web claude"), ""},
		{"down down enter", run(false, "attach api codex"), ""},
		{"s", run(false, "shell web"), ""},
		{"d", run(true, "diff web"), ""},
		{"D", run(true, "diff --patch web"), ""},
		{"l", run(true, "logs web"), ""},
		{"a", Action{}, "apply what is ordinary of web? y/n"},
		{"a y", run(true, "apply web"), ""},
		{"a n", Action{}, ""},
		{"a enter", Action{}, ""},
		{"x y", run(false, "stop web"), ""},
		{"x n", Action{}, ""},
		{"G up x", Action{}, "remove run-77aa01, with everything in it? y/n"},
		{"G up space g space x", Action{}, "stop web, run-77aa01, and remove those of mayfly run? y/n"},
		{"G x", Action{}, "old is stopped"},
		{"G up x y", run(false, "rm run-77aa01"), ""},
		{"G enter", Action{}, "start old? y/n"},
		{"G enter y", run(false, "start old"), ""},
		{"G s", Action{}, "old is stopped"},
		{"G d", Action{}, "old is stopped"},
		{"space down space d", run(true, "diff web", "diff api"), ""},
		{"space down space esc d", run(true, "diff evil"), ""},
		{"c", Action{Kind: Count, Names: []string{"web"}}, ""},
		{"n", Action{Kind: Look, Names: []string{"web"}}, ""},
		{"down down n y", Action{Kind: Policy, Names: []string{"api"}, Rule: "registry.example.org:443", Verb: Allow}, ""},
		{"down down n down y", Action{Kind: Policy, Names: []string{"api"}, Rule: "git.example.org:22", Verb: Allow}, ""},
		{"down down n down down y", Action{}, "no single public host"},
		{"down down n down o", Action{}, "no connection to git.example.org:22 waits"},
		{"down down n down d", Action{Kind: Policy, Names: []string{"api"}, Rule: "git.example.org:22", Verb: Deny}, ""},
		{"down down n down w", Action{}, "write into the file of api: allow git.example.org:22? y/n"},
		{"down down n down w y", Action{Kind: Policy, Names: []string{"api"}, Rule: "git.example.org:22", Verb: Always}, ""},
		{"down down n down w n d", Action{Kind: Policy, Names: []string{"api"}, Rule: "git.example.org:22", Verb: Deny}, ""},
		{"down down n down down w", Action{}, "no single public host"},
		{"down down n esc q", Action{Kind: Quit}, ""},
		{"? q", Action{}, ""},
		{"? q q", Action{Kind: Quit}, ""},
		{"ctrl-c", Action{Kind: Quit}, ""},
		{"x ctrl-c", Action{}, ""},
		{"ctrl-z", Action{Kind: Suspend}, ""},
		{"ctrl-l", Action{Kind: Redraw}, ""},
		{"/ q", Action{}, ""},
		{"/ a p i enter s", run(false, "shell api"), ""},
		{"/ a p i esc s", run(false, "shell api"), ""}, // all are listed again, and the cursor stays
		{"/ z z enter s", Action{}, ""},
		{"up up k pgup home g s", run(false, "shell web"), ""},
		{"pgdn end G j", Action{}, ""},
	} {
		t.Run(tt.keys, func(t *testing.T) {
			m := example()
			m.Resize(24, 80)
			var got Action
			for key := range strings.FieldsSeq(tt.keys) {
				if key == "space" {
					key = " "
				}
				got = m.Press(Key{Name: key})
			}
			if got.Kind == Run {
				got.Names = nil
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			said := m.message
			if m.mode == modeConfirm {
				said = m.question
			}
			if !strings.Contains(said, tt.message) {
				t.Errorf("it says %q; want %q", said, tt.message)
			}
		})
	}
}

// A paste is no command, and may be a filter.
func TestPaste(t *testing.T) {
	m := example()
	var k Keys
	for _, key := range k.Read([]byte("\x1b[200~xy\rq\x03\x1b[201~")) {
		if a := m.Press(key); a.Kind != None || m.mode != modeList {
			t.Fatalf("Press(%v) = %v", key, a)
		}
	}
	m.Press(Key{Name: "/"})
	for _, key := range k.Read([]byte("\x1b[200~api\rx\x1b[201~")) {
		m.Press(key)
	}
	if m.filter != "api" || m.mode != modeList {
		t.Errorf("the filter is %q", m.filter)
	}
}

// The rule that a key makes of a refusal lets exactly that host pass, whatever name the guest
// chose for it.
func TestHostRule(t *testing.T) {
	for _, tt := range []struct {
		denied mayfly.Denied
		want   string
	}{
		{mayfly.Denied{Host: "git.example.org", Port: 22}, "git.example.org:22"},
		{mayfly.Denied{Host: "1.1.1.1", Port: 443}, "1.1.1.1:443"},
		{mayfly.Denied{Host: "2606:4700::1111", Port: 443}, "[2606:4700::1111]:443"},
		{mayfly.Denied{Host: "192.168.1.1", Port: 80}, ""}, // one key is too little for the user's own network
		{mayfly.Denied{Host: "169.254.169.254", Port: 80}, ""},
		{mayfly.Denied{Host: "*.example.org", Port: 443}, ""},
		{mayfly.Denied{Host: "a*.example.org", Port: 443}, ""},
		{mayfly.Denied{Host: "GET example.org/x"}, ""},
		{mayfly.Denied{Host: "example.org/", Port: 443}, ""},
		{mayfly.Denied{Host: "example.org:22", Port: 443}, ""},
		{mayfly.Denied{Host: "a.b\x1b[2J", Port: 443}, ""},
		{mayfly.Denied{Host: "-a.example"}, ""},
		{mayfly.Denied{Host: "ICMP"}, ""},
		{mayfly.Denied{Host: ""}, ""},
	} {
		got, ok := hostRule(tt.denied)
		if ok != (tt.want != "") || ok && got != tt.want {
			t.Errorf("hostRule(%v) = %q, %t; want %q", tt.denied, got, ok, tt.want)
		}
	}
}

// A machine that asks its user is among the first, and what it asks for is the first that is
// shown. The end of a name, which says whose it is, is in sight.
func TestQuestions(t *testing.T) {
	m := example()
	m.Resize(10, 50)
	st := m.network["api"]
	st.Questions = []mayfly.Question{
		{Host: "accounts.example.com." + strings.Repeat("x", 80) + ".evil.example", Port: 443, Since: noon.Add(-10 * time.Second), Connections: 2},
		{Host: "git.example.org", Port: 22, Since: noon, Connections: 1},
	}
	m.SetNetwork("api", st)
	if !slices.Equal(m.listed[:2], []string{"web", "api"}) || m.status["api"].word != "asks" || m.age("api") != "10s" {
		t.Errorf("listed %q, api %+v", m.listed, m.status["api"])
	}
	press(m, "down", "n")
	screen := newTerminal(m, 10, 50).shown.String()
	for _, want := range []string{".evil.example:443\n", "git.example.org:22  (waits for you)"} {
		if !strings.Contains(screen, want) {
			t.Errorf("it does not show %q:\n%s", want, screen)
		}
	}
	if a := press(m, "down", "o"); a.Verb != AllowOnce || a.Rule != "git.example.org:22" {
		t.Errorf("o does %+v", a)
	}
	st.Questions = nil
	m.SetNetwork("api", st)
	if a := press(m, "o"); a.Kind != None || m.status["api"].word != "works" {
		t.Errorf("after the answer o does %+v, and api %+v", a, m.status["api"])
	}
}

// What a yes writes into a file is what the question says, whatever comes meanwhile.
func TestAlways(t *testing.T) {
	m := example()
	m.Resize(24, 60)
	long := "accounts.example.com" + strings.Repeat(".xxxxxxxx", 9) + ".evil.example"
	st := mayfly.NetworkState{Egress: "ask", Questions: []mayfly.Question{{Host: long, Port: 443, Since: noon, Connections: 1}}}
	m.SetNetwork("web", st)
	press(m, "n", "w")
	m.Say("allow good.example? y/n")
	st.Questions = append([]mayfly.Question{{Host: "other.example", Port: 443, Since: noon, Connections: 1}}, st.Questions...)
	m.SetNetwork("web", st)
	screen := newTerminal(m, 24, 60).shown.String()
	if last := strings.Split(strings.TrimRight(screen, "\n"), "\n"); !strings.HasSuffix(last[len(last)-1], ".evil.example:443? y/n") {
		t.Errorf("the question is not the last line, or not whole at its end:\n%s", screen)
	}
	want := Action{Kind: Policy, Names: []string{"web"}, Rule: long + ":443", Verb: Always}
	if got := press(m, "y"); !cmp.Equal(got, want) || m.mode != modeNetwork {
		t.Errorf("y does %+v in mode %v; want %+v", got, m.mode, want)
	}
	// A machine of mayfly run has no file.
	m.SetNetwork("run-3f9a2c", st)
	press(m, "esc", "g")
	for m.cursor != "run-3f9a2c" {
		press(m, "down")
	}
	if got := press(m, "n", "w"); got.Kind != None || m.mode != modeNetwork || !strings.Contains(m.message, "run-3f9a2c has no file") {
		t.Errorf("w for a machine without a file: %+v, %q", got, m.message)
	}
}

// A machine that tries other hosts gets none of them under the key that allows one.
func TestHostsStay(t *testing.T) {
	m := example()
	m.Resize(24, 80)
	press(m, "down", "down", "n", "down") // git.example.org
	for n := range 5 {
		st := mayfly.NetworkState{Denied: []mayfly.Denied{{Host: fmt.Sprintf("evil%d.example", n), Port: 443, Count: 100 * n}, {Host: "git.example.org", Port: 22, Count: 5 + n}}}
		m.SetNetwork("api", st)
		newTerminal(m, 24, 80)
		if a := press(m, "y"); a.Rule != "git.example.org:22" {
			t.Fatalf("it allows %q", a.Rule)
		}
	}
	if got := m.hosts[1].Count; got != 9 {
		t.Errorf("it was refused %d times; want 9", got)
	}
}

// The cursor stays on its machine, whatever happens to others. One that comes again under
// the same name has nothing of the one before.
func TestMachinesComeAndGo(t *testing.T) {
	m := example()
	m.Resize(24, 80)
	press(m, "down", "down") // api
	if m.denied("api") != 32 {
		t.Errorf("api was refused %d times; want 32: what an agent does not need is not counted", m.denied("api"))
	}
	press(m, "n", "esc")
	if m.denied("api") != 0 {
		t.Errorf("after a look api was refused %d times", m.denied("api"))
	}
	list := []mayfly.Info{machine("api", "running"), machine("a", "running", mayfly.Session{Name: "x", State: mayfly.SessionNeedsAnswer})}
	list[0].Started = noon
	m.SetMachines(list)
	if m.cursor != "api" || !slices.Equal(m.listed, []string{"a", "api"}) {
		t.Errorf("the cursor is on %q of %q", m.cursor, m.listed)
	}
	if len(m.changes)+len(m.network)+len(m.looked) > 0 {
		t.Errorf("a new machine has %v, %v, %v", m.changes, m.network, m.looked)
	}
	m.SetMachines(list[1:])
	if m.cursor != "a" {
		t.Errorf("the cursor is on %q", m.cursor)
	}
	press(m, "n")
	m.SetMachines(nil)
	if m.cursor != "" || m.mode != modeList {
		t.Errorf("with no machine the cursor is on %q", m.cursor)
	}
	for _, key := range strings.Fields("enter d a s l x c n y j k G g ? q / esc") {
		press(m, key)
	}
	m.SetNetwork("gone", mayfly.NetworkState{})
	if m.SetChanges("gone", 0, errors.New("bad\x1b[2J")); strings.Contains(m.message, "\x1b") {
		t.Errorf("it says %q", m.message)
	}
}

// The one that waits longest is the first.
func TestWaitingFirst(t *testing.T) {
	m := New()
	waits := mayfly.Session{Name: "claude", State: mayfly.SessionNeedsAnswer}
	m.Tick(noon)
	m.SetMachines([]mayfly.Info{machine("b", "running"), machine("c", "running"), machine("a", "running")})
	m.Tick(noon.Add(time.Minute))
	m.SetMachines([]mayfly.Info{machine("b", "running"), machine("c", "running", waits), machine("a", "running")})
	m.Tick(noon.Add(2 * time.Minute))
	m.SetMachines([]mayfly.Info{machine("b", "running", waits), machine("c", "running", waits), machine("a", "running")})
	if want := []string{"c", "b", "a"}; !slices.Equal(m.listed, want) {
		t.Errorf("listed %q; want %q", m.listed, want)
	}
	if got := []string{m.age("c"), m.age("b"), m.age("a")}; !slices.Equal(got, []string{"1m", "0s", "2m+"}) {
		t.Errorf("ages %q", got)
	}
}

// The session that wants its user most speaks for its machine.
func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		states []mayfly.SessionState
		want   string
	}{
		{nil, ". no agent"},
		{[]mayfly.SessionState{mayfly.SessionWorks, mayfly.SessionNeedsPermission, mayfly.SessionDone}, "! needs permission"},
		{[]mayfly.SessionState{mayfly.SessionWorks, mayfly.SessionStopped}, "! stopped"},
		{[]mayfly.SessionState{mayfly.SessionOutOfMemory, mayfly.SessionNeedsAnswer}, "! needs answer"},
		{[]mayfly.SessionState{mayfly.SessionIdle, mayfly.SessionDone}, "+ done"},
		{[]mayfly.SessionState{mayfly.SessionIdle}, ". idle"},
		{[]mayfly.SessionState{mayfly.SessionCrashed}, "! crashed"},
		{[]mayfly.SessionState{"what a newer\nguest says"}, "! what a newer guest says"},
	} {
		info := machine("m", "running")
		for _, s := range tt.states {
			info.Sessions = append(info.Sessions, mayfly.Session{Name: "x", State: s})
		}
		if st := statusOf(info); string(st.mark)+" "+st.word != tt.want {
			t.Errorf("%q: %c %s; want %s", tt.states, st.mark, st.word, tt.want)
		}
	}
}

func TestReadKeys(t *testing.T) {
	for _, tt := range []struct{ typed, want string }{
		{"jq", "j q"},
		{"\x1b[A\x1b[B\x1bOA\x1b[5~", "up down up pgup"},
		{"\r\n\x7f\x03\x1a", "enter enter backspace ctrl-c ctrl-z"},
		{"\x1b", "esc"},
		{"\x1bj", "esc j"},
		{"\x1b[1;5A\x1b[?1;2c\x1b[I", ""},
		{"\u6f22\xff", "\u6f22"},
		{"\x1b[|A", "up"},
		{"\x1bO|B", "down"},
		{"\xe6\xbc|\xa2", "\u6f22"},
		{"\x1b[200|~x\x1b[201~y", "x y"},
	} {
		var k Keys
		var got []string
		for part := range strings.SplitSeq(tt.typed, "|") {
			for _, key := range k.Read([]byte(part)) {
				got = append(got, key.Name)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("Read(%q) = %q; want %q", tt.typed, got, tt.want)
		}
	}
}

// FuzzKeys has a terminal send anything.
func FuzzKeys(f *testing.F) {
	f.Add([]byte("jjx\x1b[200~y\x1b[201~n/abc\r"), 3)
	f.Add([]byte("\x1b[A\x1bOB\x1b\xe6\xbc\xa2?jj"), 1)
	f.Fuzz(func(t *testing.T, typed []byte, n int) {
		m, k := example(), Keys{}
		term := newTerminal(m, 12, 50)
		n = max(n, 1)
		for len(typed) > 0 {
			part := typed[:min(n, len(typed))]
			typed = typed[len(part):]
			for _, key := range k.Read(part) {
				if a := m.Press(key); key.Pasted && a.Kind != None {
					t.Fatalf("a paste does %v", a)
				}
			}
			if len(k.rest) > maxSequence {
				t.Fatalf("%d bytes are held", len(k.rest))
			}
			term.update(m)
		}
	})
}
