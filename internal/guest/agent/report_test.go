package agent

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/guest/hook"
	"github.com/mayfly-vm/mayfly/internal/guest/session"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// The hooks in the settings of coding agents start what is there.
func TestHookProgram(t *testing.T) {
	if want := filepath.Join(reportDir, reportProgram) + " " + reportWord; codingagent.Hook != want {
		t.Errorf("the hooks start %q; want %q", codingagent.Hook, want)
	}
	if !IsReport([]string{"mayfly-guest", reportWord}) || !IsReport([]string{"mayfly-guest", reportWord, "{}"}) || IsReport([]string{"mayfly-guest"}) {
		t.Error("it is not known from its word")
	}
}

// What a hook is told becomes the state of its session. Only the user may report, and what
// is no report is of no consequence.
func TestReports(t *testing.T) {
	a := &agent{}
	started := make(chan *session.Session, 1)
	ours, theirs := net.Pipe()
	go wire.ReadMessage(ours, &struct{}{}) // the greeting, as far as it goes
	go a.sessions.Serve(theirs, &wire.Session{Name: "claude", Exec: &wire.Exec{Argv: []string{"claude"}}}, func(string, wire.Winsize) (session.Program, error) {
		return session.Program{Resize: func(wire.Winsize) {}, Foreground: func() int { return 0 }}, nil
	}, func(s *session.Session) { started <- s })
	<-started
	defer ours.Close()

	dir := filepath.Join(t.TempDir(), "session")
	l, err := listenReports(dir, os.Geteuid(), os.Getegid())
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		a.hearReports(l)
	}()
	defer func() {
		l.Close()
		<-heard
	}()
	socket := filepath.Join(dir, reportSocket)
	fi, err := os.Stat(socket)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("the socket is %v, %v; want mode 0600", fi, err)
	}

	info := func() wire.SessionInfo { return a.sessions.List()[0] }
	if i := info(); i.State != wire.StateWorks || i.Since == 0 {
		t.Errorf("before a report it is %+v", i)
	}
	const asks = `{"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"rm -rf x"}}`
	if err := sendReport(socket, "claude", nil, strings.NewReader(asks)); err != nil {
		t.Fatal(err)
	}
	if i := info(); i.State != wire.StatePermission || i.Last != "Bash: rm -rf x" || !i.Waiting || i.Why != wire.WaitHook {
		t.Errorf("after %s it is %+v", asks, i)
	}
	if err := sendReport(socket, "claude", []string{`{"type":"agent-turn-complete","last-assistant-message":"It is done."}`}, nil); err != nil {
		t.Fatal(err)
	}
	if i := info(); i.State != wire.StateDone || i.Last != "It is done." || !i.Waiting {
		t.Errorf("after Codex's it is %+v", i)
	}

	// Another session's, garbage, too much, and one that says nothing for long.
	sendReport(socket, "other", nil, strings.NewReader(asks))
	for _, text := range []string{"", "x", `{"session":"claude","state":"crashed"}`, strings.Repeat("x", 10*hook.Max)} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(text))
		conn.(*net.UnixConn).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
			t.Errorf("%.20q was taken: %v", text, err)
		}
		conn.Close()
	}
	for range maxReporters {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if err := sendReport(socket, "claude", nil, strings.NewReader(`{"hook_event_name":"UserPromptSubmit","prompt":"go on"}`)); err != nil && !os.IsTimeout(err) {
		t.Errorf("behind silent ones a report fails: %v", err)
	}
	if i := info(); i.State == wire.StatePermission || i.State == wire.StateCrashed {
		t.Errorf("after garbage it is %+v", i)
	}
}

// A program that the kernel has ended for want of memory is found by its number.
func TestKilledIn(t *testing.T) {
	log := []string{
		"6,1,1,-;hello",
		"3,2,1,-;Out of memory: Killed process 412 (claude) total-vm:1kB",
		"11,3,1,-;Out of memory: Killed process 413 (claude) total-vm:1kB",
	}
	for pid, want := range map[int]bool{412: true, 413: false, 41: false} {
		next := -1
		read := func(buf []byte) (int, error) {
			next++
			switch {
			case next == 0:
				return 0, unix.EPIPE
			case next > len(log):
				return 0, unix.EAGAIN
			}
			return copy(buf, log[next-1]), nil
		}
		if got := killedIn(read, pid); got != want {
			t.Errorf("killedIn(%d) = %v; want %v", pid, got, want)
		}
	}
}
