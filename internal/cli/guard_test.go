package cli

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// writing is a machine whose commands write something.
type writing struct {
	fakeStarted
	out string
}

func (w *writing) Exec(_ context.Context, cmd mayfly.Cmd) (int, error) {
	io.WriteString(cmd.Stdout, w.out)
	return 0, nil
}

// A question of a machine's is a line, unless a program draws on the terminal: then only the
// title says it.
func TestTellQuestion(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var drawn strings.Builder
	a := &app{Streams: Streams{Err: w}}
	question := mayfly.Event{Kind: mayfly.EventNote, Code: "egress-question", Args: map[string]string{"name": "m", "host": "a.example", "port": "443"}}
	a.tell(question)
	a.drawn.Store(terminal.NewGuard(&drawn, "m", "/w"))
	a.tell(question)
	question.Code = "egress-answered"
	a.tell(question)
	w.Close()
	line, _ := io.ReadAll(r)
	const want = "mayfly: m wants to reach a.example:443: mayfly policy m allow a.example, or deny, in another terminal"
	if string(line) != want+"\n" || drawn.String() != "\x1b]2;"+want+"\a\a" {
		t.Errorf("told %q, and drawn %q", line, drawn.String())
	}
}

// What a program of a machine writes reaches a terminal without what types into the shell
// after it, and what the terminal answers it does not reach the shell.
func TestGuard(t *testing.T) {
	const out = "\x1b[?2004h\x1b]0;title\a\x1b[21t\x1b]52;c;?\a\x1b[6nhello"
	for _, raw := range []bool{false, true} {
		master, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer master.Close()
		defer tty.Close()
		shown := make(chan string)
		go func() { // the terminal, which answers
			var all strings.Builder
			buf := make([]byte, 4096)
			for {
				n, err := master.Read(buf)
				if err != nil || strings.Contains(string(buf[:n]), "END") {
					shown <- all.String()
					return
				}
				all.Write(buf[:n])
				if strings.Contains(string(buf[:n]), "\x1b[6n") {
					io.WriteString(master, "\x1b[5;6R")
				}
				if strings.Contains(string(buf[:n]), "\x1b[c") {
					io.WriteString(master, "\x1b[?62;22c")
				}
			}
		}()
		a := &app{Streams: Streams{In: tty, Out: tty, Err: tty}, getenv: func(string) string { return "" }, signals: terminal.NewSignals(), raw: raw}
		code, err := a.exec(t.Context(), &writing{out: out}, mayfly.Cmd{}, false)
		a.signals.Stop()
		if code != 0 || err != nil {
			t.Fatalf("exec() = %d, %v", code, err)
		}
		left := pending(t, tty)
		io.WriteString(tty, "END")
		got := <-shown
		if raw {
			if !strings.HasPrefix(got, out) {
				t.Errorf("with --raw the terminal got %q", got)
			}
			continue
		}
		if want := "\x1b[?2004h\x1b[22;2t\x1b]0;m: title\a\x1b[6nhello"; !strings.HasPrefix(got, want) {
			t.Errorf("the terminal got %q, want %q at the beginning", got, want)
		}
		for _, want := range []string{"\x1b[?2004l", "\x1b[23;2t"} {
			if !strings.Contains(got, want) {
				t.Errorf("the terminal got %q, want %q in it", got, want)
			}
		}
		if left != 0 {
			t.Errorf("%d bytes of answers were left for the shell", left)
		}
	}
}

// pending returns how many bytes of input the terminal has, a moment later.
func pending(t *testing.T, tty *os.File) int {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(tty.Fd()), Events: unix.POLLIN}}
	unix.Poll(fds, int((50 * time.Millisecond).Milliseconds()))
	n, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
