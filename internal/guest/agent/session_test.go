package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// viewer is somebody at a session.
type viewer struct {
	t      testing.TB
	stream net.Conn
	keys   *io.PipeWriter
	resize chan wire.Winsize
	done   chan struct{} // closed at the end, after code and err were set
	code   int
	err    error

	mu     sync.Mutex
	shown  strings.Builder
	wake   chan struct{}
	paused chan struct{} // output is not taken until it is closed
}

func (v *viewer) Write(p []byte) (int, error) {
	if v.paused != nil {
		<-v.paused
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shown.Write(p)
	select {
	case v.wake <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (v *viewer) screen() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.shown.String()
}

// look opens a session.
func look(t testing.TB, g *guest, req wire.Session) *viewer { return lookAfter(t, g, req, nil) }

// lookAfter takes no output before paused is closed.
func lookAfter(t testing.TB, g *guest, req wire.Session, paused chan struct{}) *viewer {
	t.Helper()
	if req.TTY == nil {
		req.TTY = &wire.Winsize{Rows: 24, Cols: 80}
	}
	if req.Exec != nil {
		exec := *req.Exec
		exec.TTY, exec.Dir = req.TTY, "/"
		req.Exec = &exec
	}
	keys, w := io.Pipe()
	begun := make(chan struct{})
	v := &viewer{
		t: t, stream: g.open(t), keys: w, resize: make(chan wire.Winsize),
		done: make(chan struct{}), wake: make(chan struct{}, 1), paused: paused,
	}
	go func() {
		defer close(v.done)
		v.code, v.err = client.Session(v.stream, &req, client.Stdio{Stdin: keys, Stdout: v, Resize: v.resize}, func(wire.SessionInfo) { close(begun) })
	}()
	t.Cleanup(func() {
		w.Close()
		v.leave()
	})
	select {
	case <-begun:
	case <-v.done:
		select {
		case <-begun: // it has ended since
		default:
			t.Fatalf("the session did not begin: %v", v.err)
		}
	}
	return v
}

// expect waits until text was shown n times.
func (v *viewer) expect(text string, n int) {
	v.t.Helper()
	late := time.After(time.Minute)
	for strings.Count(v.screen(), text) < n {
		select {
		case <-v.wake:
		case <-v.done:
			if strings.Count(v.screen(), text) < n {
				v.t.Fatalf("the session ended (%d, %v) before %q: %.2000q", v.code, v.err, text, v.screen())
			}
		case <-late:
			v.t.Fatalf("no %q: %.2000q", text, v.screen())
		}
	}
}

func (v *viewer) typeKeys(text string) {
	v.t.Helper()
	if _, err := io.WriteString(v.keys, text); err != nil {
		v.t.Fatal(err)
	}
}

// leave is the end of the viewer's process.
func (v *viewer) leave() {
	v.stream.Close()
	<-v.done
}

// exit waits for the program's end.
func (v *viewer) exit(code int) {
	v.t.Helper()
	<-v.done
	if v.code != code || v.err != nil {
		v.t.Errorf("the session ended with %d, %v; want %d", v.code, v.err, code)
	}
}

func list(t testing.TB, g *guest) []wire.SessionInfo {
	t.Helper()
	all, err := client.Sessions(g.open(t))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// waitList waits until the list of sessions is as it should be.
func waitList(t testing.TB, g *guest, what string, ok func([]wire.SessionInfo) bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		all := list(t, g)
		if ok(all) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not %s: %+v", what, all)
		}
	}
}

func detach(t testing.TB, g *guest, name string, argv ...string) wire.SessionInfo {
	t.Helper()
	return detachExec(t, g, name, &wire.Exec{Argv: argv})
}

func detachExec(t testing.TB, g *guest, name string, exec *wire.Exec) wire.SessionInfo {
	t.Helper()
	var info wire.SessionInfo
	exec.Dir = "/"
	req := &wire.Session{Name: name, Exec: exec, Detached: true}
	if _, err := client.Session(g.open(t), req, client.Stdio{}, func(i wire.SessionInfo) { info = i }); err != nil {
		t.Fatal(err)
	}
	return info
}

// bash runs script in a bash, whose read goes on after a signal.
func bash(t testing.TB, script string) []string {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("no bash")
	}
	return []string{"bash", "-c", script}
}

// echoing is a program that tells of each change of the terminal's size and each
// line, and ends with the line "end" and the code 7.
func echoing() *wire.Exec {
	return &wire.Exec{Argv: []string{os.Args[0]}, Env: []string{helperVariable + "=" + helperEcho}}
}

func echoHelper() {
	sizes := make(chan os.Signal, 8)
	signal.Notify(sizes, syscall.SIGWINCH)
	fmt.Println("begun")
	go func() {
		for range sizes {
			if ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
				fmt.Printf("drawn %d %d\n", ws.Row, ws.Col)
			}
		}
	}()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println("got " + lines.Text())
		if lines.Text() == "end" {
			os.Exit(7)
		}
	}
	os.Exit(0)
}

func TestSession(t *testing.T) {
	g := startGuest(t)
	if i := detachExec(t, g, "one", echoing()); !i.New || i.Name != "one" || !slices.Equal(i.Argv, os.Args[:1]) || i.Started == 0 {
		t.Errorf("a new session is %+v", i)
	}
	if i := detach(t, g, "one", "false"); i.New || i.Argv[0] != os.Args[0] {
		t.Errorf("the session that runs is %+v", i)
	}
	v := look(t, g, wire.Session{Name: "one"})
	v.expect("begun\r\n", 1)
	v.typeKeys("first\r")
	v.expect("got first", 1)
	v.leave() // without a word, as a terminal that is closed

	v = look(t, g, wire.Session{Name: "one", Exec: &wire.Exec{Argv: []string{"false"}}})
	v.expect("got first", 1)
	v.expect("drawn 24 80", 1) // it was made to draw anew
	v.typeKeys("second\r")
	v.expect("got second", 1)
	// The list tells of it.
	all := list(t, g)
	if len(all) != 1 || all[0].Viewers != 1 || all[0].Exited || all[0].Input == 0 || all[0].Output < all[0].Started || all[0].Waiting {
		t.Errorf("the session is %+v", all)
	}
	v.typeKeys("end\r")
	v.exit(7)
	if all := list(t, g); len(all) != 0 {
		t.Errorf("after its end was seen there is still %+v", all)
	}
}

func TestSessionViewers(t *testing.T) {
	g := startGuest(t)
	large := look(t, g, wire.Session{Name: "s", Exec: echoing(), TTY: &wire.Winsize{Rows: 50, Cols: 100}})
	large.expect("begun", 1)
	small := look(t, g, wire.Session{Name: "s", TTY: &wire.Winsize{Rows: 60, Cols: 70}})
	for _, v := range []*viewer{large, small} {
		v.expect("drawn 50 70", 1)
	}
	reader := look(t, g, wire.Session{Name: "s", ReadOnly: true, TTY: &wire.Winsize{Rows: 40, Cols: 70}})
	reader.expect("drawn 40 70", 1)
	reader.typeKeys("not this\r")
	large.typeKeys("from large\r")
	small.typeKeys("from small\r")
	for _, v := range []*viewer{large, small, reader} {
		v.expect("got from large", 1)
		v.expect("got from small", 1)
	}
	reader.leave()
	small.expect("drawn 50 70", 2)
	small.resize <- wire.Winsize{Rows: 10, Cols: 60}
	large.expect("drawn 10 60", 1)
	small.leave()
	large.expect("drawn 50 100", 1)
	if all := list(t, g); all[0].Viewers != 1 {
		t.Errorf("%d viewers are left; want 1", all[0].Viewers)
	}
	if strings.Contains(large.screen(), "not this") {
		t.Error("one who only looks on could type")
	}
	late := look(t, g, wire.Session{Name: "s"})
	late.expect("got from small", 1)
	large.typeKeys("end\r")
	large.exit(7)
	late.exit(7)
}

// Who does not read misses output, and never holds up the program or the others.
func TestSessionSlowViewer(t *testing.T) {
	g := startGuest(t)
	paused := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(paused) })
	defer goOn()
	argv := bash(t, `echo ready; read -r; head -c 9000000 /dev/zero | tr '\0' x; echo; echo the end; read -r; exit 3`)
	fast := look(t, g, wire.Session{Name: "s", Exec: &wire.Exec{Argv: argv}})
	fast.expect("ready", 1)
	slow := lookAfter(t, g, wire.Session{Name: "s"}, paused)
	waitList(t, g, "two viewers", func(all []wire.SessionInfo) bool { return all[0].Viewers == 2 })
	fast.typeKeys("\r")
	fast.expect("the end", 1)
	goOn()
	slow.expect("the end", 1)
	if n := len(slow.screen()); n > 6<<20 {
		t.Errorf("the slow one got %d bytes; want it to miss some of 9 MB", n)
	}
	slow.typeKeys("\r")
	slow.exit(3)
	fast.exit(3)
}

// A program that does not read its input holds up nobody.
func TestSessionInputNotRead(t *testing.T) {
	g := startGuest(t)
	v := look(t, g, wire.Session{Name: "s", Exec: &wire.Exec{Argv: bash(t, "stty raw -echo; echo ready; exec sleep 1000")}})
	v.expect("ready", 1)
	typed := make(chan struct{})
	go func() {
		defer close(typed)
		for range 100 {
			if _, err := v.keys.Write(make([]byte, wire.MaxFrame)); err != nil {
				return
			}
		}
	}()
	other := look(t, g, wire.Session{Name: "s"})
	other.expect("ready", 1)
	v.leave()
	v.keys.Close()
	<-typed
	waitList(t, g, "one viewer", func(all []wire.SessionInfo) bool { return all[0].Viewers == 1 })
}

// What a program ended with is kept until somebody asks.
func TestSessionEndsAlone(t *testing.T) {
	g := startGuest(t)
	detach(t, g, "s", "sh", "-c", "echo last words; exit 5")
	waitList(t, g, "ended", func(all []wire.SessionInfo) bool { return len(all) == 1 && all[0].Exited && all[0].Code == 5 })
	v := look(t, g, wire.Session{Name: "s"})
	v.exit(5)
	v.expect("last words", 1)
	if all := list(t, g); len(all) != 0 {
		t.Errorf("there is still %+v", all)
	}
	// A new one takes the place of one that has ended.
	detach(t, g, "s", "true")
	waitList(t, g, "ended", func(all []wire.SessionInfo) bool { return len(all) == 1 && all[0].Exited })
	if i := detach(t, g, "s", "sleep", "1000"); !i.New {
		t.Errorf("it is %+v; want a new one", i)
	}
}

// Who ends a session sees its end, as all do who look on, and then it is forgotten.
func TestSessionIsEnded(t *testing.T) {
	g := startGuest(t)
	for name, tt := range map[string]struct {
		script string
		code   int
	}{
		"obeys":   {"echo begun; exec sleep 1000", 128 + int(syscall.SIGHUP)},
		"saves":   {"trap 'exit 7' HUP; echo begun; while :; do sleep 0.05; done", 7},
		"stopped": {"echo begun; kill -STOP $$; exec sleep 1000", 128 + int(syscall.SIGHUP)},
		"ignores": {"trap '' HUP TERM; echo begun; while :; do sleep 0.05; done", 128 + int(syscall.SIGKILL)},
	} {
		detach(t, g, name, bash(t, tt.script)...)
		v := look(t, g, wire.Session{Name: name})
		v.expect("begun", 1)
		req := &wire.Session{Name: name, End: true, ReadOnly: true}
		code, err := client.Session(g.open(t), req, client.Stdio{Stdout: io.Discard}, func(wire.SessionInfo) {})
		if code != tt.code || err != nil {
			t.Errorf("%s ended with %d, %v; want %d", name, code, err, tt.code)
		}
		v.exit(tt.code)
		if _, err := client.Session(g.open(t), req, client.Stdio{}, func(wire.SessionInfo) {}); err == nil || !strings.Contains(err.Error(), "no session "+name) {
			t.Errorf("ending %s again: %v", name, err)
		}
	}
	waitList(t, g, "empty", func(all []wire.SessionInfo) bool { return len(all) == 0 })
	// A request to end starts nothing.
	if _, err := client.Session(g.open(t), &wire.Session{Name: "none", End: true, Exec: echoing()}, client.Stdio{}, func(wire.SessionInfo) {}); err == nil {
		t.Error("a session was started to be ended")
	}
}

func TestSessionNames(t *testing.T) {
	g := startGuest(t)
	refused := func(req *wire.Session, want string) {
		t.Helper()
		_, err := client.Session(g.open(t), req, client.Stdio{}, func(wire.SessionInfo) { t.Error("it began") })
		var refusal *client.GuestError
		if !errors.As(err, &refusal) || !strings.Contains(refusal.Text, want) {
			t.Errorf("%+v: %v; want %q", req, err, want)
		}
	}
	refused(&wire.Session{Name: "none"}, "no session none")
	refused(&wire.Session{Name: "../x"}, "bad name")
	refused(&wire.Session{Name: "s", Exec: &wire.Exec{Argv: []string{"no-such-program"}, Dir: "/"}}, "command not found")
	refused(&wire.Session{Name: "s", Exec: &wire.Exec{Dir: "/"}}, "no command")
	sleep := &wire.Exec{Argv: []string{"sleep", "1000"}, Dir: "/"}
	var names []string
	for range wire.MaxSessions {
		req := &wire.Session{Name: "s", Exec: sleep, New: true, Detached: true}
		if _, err := client.Session(g.open(t), req, client.Stdio{}, func(i wire.SessionInfo) { names = append(names, i.Name) }); err != nil {
			t.Fatal(err)
		}
	}
	if names[0] != "s" || names[1] != "s-2" || names[15] != "s-16" {
		t.Errorf("the sessions are %v", names)
	}
	refused(&wire.Session{Name: "s", Exec: sleep, New: true}, "too many")
	if all := list(t, g); len(all) != wire.MaxSessions || all[3].Name != "s-4" {
		t.Errorf("there are %+v", all)
	}
}

// What is pasted comes in brackets, if the program wants to know, and without Enter.
func TestSessionPaste(t *testing.T) {
	g := startGuest(t)
	paste := func(name string, texts ...string) error {
		var info wire.SessionInfo
		_, err := client.Session(g.open(t), &wire.Session{Name: name, Paste: texts}, client.Stdio{}, func(i wire.SessionInfo) { info = i })
		if err == nil && !info.Pasted {
			t.Errorf("it says of the session %+v", info)
		}
		return err
	}
	if err := paste("s", "/a.png"); err == nil || len(list(t, g)) > 0 {
		t.Errorf("into a session that there is not: %v, and there are %+v", err, list(t, g))
	}
	v := look(t, g, wire.Session{Name: "s", Exec: echoing()})
	v.expect("begun", 1)
	if err := paste("s", "/a.png", "/b.png"); err != nil {
		t.Fatal(err)
	}
	v.typeKeys("?\r")
	v.expect("got /a.png /b.png?", 1)
	v.typeKeys("end\r")
	v.exit(7)

	v = look(t, g, wire.Session{Name: "s", Exec: &wire.Exec{Argv: []string{"/bin/sh", "-c", `printf '\033[?2004hready'; stty -echo; read -r x; printf %s "$x" | od -An -c`}}})
	v.expect("ready", 1)
	if err := paste("s", "/a.png", "/b.png"); err != nil {
		t.Fatal(err)
	}
	v.typeKeys("\r")
	v.expect("033   [   2   0   0   ~   /   a   .   p   n   g 033   [   2   0", 1)
	v.exit(0)
}

// Somebody has to answer what programs ask their terminal before they begin.
func TestSessionAnswers(t *testing.T) {
	g := startGuest(t)
	detach(t, g, "s", bash(t, `stty -echo
printf '\033[c'; IFS= read -r -d c a; printf '\033[5n'; IFS= read -r -d n b; printf '\033[6n'; IFS= read -r -d R c
printf '%q ' "$a" "$b" "$c"; echo asked; printf '\033]2;asked\a'; read -r`)...)
	waitList(t, g, "asked", func(all []wire.SessionInfo) bool { return all[0].Title == "asked" })
	v := look(t, g, wire.Session{Name: "s"})
	v.expect(`$'\E[?62;22' $'\E[0' $'\E[1;1' asked`, 1)
	if strings.Contains(v.screen(), "\x1b[6n") {
		t.Errorf("the viewer's terminal is asked again: %q", v.screen())
	}
}

// Of several terminals the one of the last input answers.
func TestSessionAsksOne(t *testing.T) {
	g := startGuest(t)
	a := look(t, g, wire.Session{Name: "s", Exec: &wire.Exec{Argv: bash(t, `stty -echo; while read -r l; do printf 'line %s\033[6n\n' "$l"; done`)}})
	b := look(t, g, wire.Session{Name: "s"})
	for i, v := range []*viewer{a, b, a} {
		v.typeKeys(fmt.Sprintf("%d\r", i))
		for _, o := range []*viewer{a, b} {
			o.expect(fmt.Sprintf("line %d", i), 1)
		}
	}
	a.expect("\x1b[6n", 2)
	b.expect("\x1b[6n", 1)
	if strings.Count(a.screen(), "\x1b[6n") != 2 || strings.Count(b.screen(), "\x1b[6n") != 1 {
		t.Errorf("asked were %q and %q", a.screen(), b.screen())
	}
}

func TestSessionWaiting(t *testing.T) {
	g := startGuest(t)
	detach(t, g, "s", bash(t, `printf '\033]2;my title\a'; stty -echo; read -r; printf '\a'; read -r; printf '\033]9;may I?\a'; read -r; echo on; sleep 1000`)...)
	v := look(t, g, wire.Session{Name: "s"})
	v.expect("my title", 1)
	for _, want := range []struct {
		why    wire.WaitReason
		notice string
	}{{"", ""}, {wire.WaitBell, ""}, {wire.WaitNotice, "may I?"}, {"", ""}} {
		waitList(t, g, string(want.why), func(all []wire.SessionInfo) bool {
			i := all[0]
			return i.Why == want.why && i.Waiting == (want.why != "") && i.Notice == want.notice && i.Title == "my title"
		})
		v.typeKeys("\x1b[I") // the terminal came to the front, which is no answer
		if want.why != "" {
			if all := list(t, g); !all[0].Waiting {
				t.Errorf("a report of the terminal is taken for an answer: %+v", all)
			}
		}
		v.typeKeys("\r")
	}
}

// A part of a program that stops itself is told of, and goes on when somebody types: also
// where the program that was started does not look after it.
func TestSessionStopped(t *testing.T) {
	g := startGuest(t)
	const script = `sh -c 'stty raw -echo; kill -STOP $$; echo on'; echo end; sleep 1000`
	detach(t, g, "s", bash(t, script)...)
	waitList(t, g, "stopped", func(all []wire.SessionInfo) bool { return all[0].Stopped && !all[0].Waiting })
	v := look(t, g, wire.Session{Name: "s"})
	v.typeKeys("x")
	v.expect("end", 1)
	if all := list(t, g); all[0].Stopped {
		t.Errorf("it goes on, and the list says %+v", all)
	}

	// The same for a program without a session.
	r, w := io.Pipe()
	done := make(chan result, 1)
	go func() {
		done <- run(t, g, &wire.Exec{Argv: bash(t, "sh -c 'kill -STOP $$; echo on'; echo end"), Dir: "/", TTY: &wire.Winsize{Rows: 24, Cols: 80}}, r)
	}()
	for ended := time.After(time.Minute); ; {
		select {
		case got := <-done:
			if got.code != 0 || !strings.Contains(got.stdout, "on") {
				t.Errorf("it ended as %+v", got)
			}
			w.Close()
			return
		case <-ended:
			t.Fatal("it stays stopped")
		case <-time.After(100 * time.Millisecond):
			w.Write([]byte("x"))
		}
	}
}

// A program that suspends itself as Claude Code does, on a key that it reads, goes on.
func TestSessionSuspended(t *testing.T) {
	const script = `stty raw -echo; echo ready; head -c 1 >/dev/null; trap 'stty raw; echo back; sleep 1000' CONT
		stty sane; kill -TSTP $$; while :; do sleep 0.1; done`
	for _, key := range []string{"\x1a", "\x1b[122;5u"} {
		g := startGuest(t)
		v := look(t, g, wire.Session{Name: "s", Exec: &wire.Exec{Argv: bash(t, script)}})
		v.expect("ready", 1)
		v.typeKeys(key)
		v.expect("back", 1)
		v.leave()
	}
}

// A pager shows the same to whoever comes later.
func TestSessionPager(t *testing.T) {
	if _, err := exec.LookPath("less"); err != nil {
		t.Skip("no less")
	}
	g := startGuest(t)
	req := wire.Session{Name: "s", Exec: &wire.Exec{Argv: []string{"less", "/etc/passwd"}, Env: []string{"TERM=xterm"}}}
	v := look(t, g, req)
	v.expect("root:", 1)
	v.leave()
	v = look(t, g, req)
	v.expect("root:", 2) // what was, and what it draws anew
	v.expect("\x1b[?1049h", 1)
	// less forgets a key that comes together with a new size.
	for ended := false; !ended; {
		v.typeKeys("q")
		select {
		case <-v.done:
			ended = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	v.exit(0)
	v.expect("\x1b[?1049l", 1)
}
