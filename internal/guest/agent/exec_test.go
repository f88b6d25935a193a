package agent

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// result is what a command did.
type result struct {
	code           int
	stdout, stderr string
}

func run(t testing.TB, g *guest, req *wire.Exec, stdin io.Reader) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if req.Dir == "" {
		req.Dir = "/"
	}
	code, err := client.Exec(g.open(t), req, client.Stdio{Stdin: stdin, Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		t.Fatalf("exec %q: %v", req.Argv, err)
	}
	return result{code, stdout.String(), stderr.String()}
}

func shell(script string) *wire.Exec { return &wire.Exec{Argv: []string{"sh", "-c", script}} }

func TestExec(t *testing.T) {
	g := startGuest(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "prog"), []byte("#!/bin/sh\necho here \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		req   *wire.Exec
		stdin string
		want  result
	}{
		{"true", &wire.Exec{Argv: []string{"true"}}, "", result{0, "", ""}},
		{"exit code", shell("exit 3"), "", result{3, "", ""}},
		{"largest exit code", shell("exit 255"), "", result{255, "", ""}},
		{"killed", shell("kill -KILL $$"), "", result{137, "", ""}},
		{"terminated", shell("kill -TERM $$"), "", result{143, "", ""}},
		{"three pipes", shell("cat; echo err >&2"), "in", result{0, "in", "err\n"}},
		{"no input", shell("cat; echo end"), "", result{0, "end\n", ""}},
		{"arguments", &wire.Exec{Argv: []string{"printf", "%s|", "a b", "", "$x", "\n"}}, "", result{0, "a b||$x|\n|", ""}},
		{"environment", &wire.Exec{Argv: []string{"sh", "-c", "echo $KEEP $CHANGE $NEW"}, Env: []string{"CHANGE=over", "NEW=1"}}, "", result{0, "base over 1\n", ""}},
		{"directory", &wire.Exec{Argv: []string{"pwd"}, Dir: dir}, "", result{0, dir + "\n", ""}},
		{"program by path", &wire.Exec{Argv: []string{"./prog", "x"}, Dir: dir}, "", result{0, "here x\n", ""}},
		{"program in PATH", &wire.Exec{Argv: []string{"prog"}, Env: []string{"PATH=/nowhere:" + dir + ":/bin"}}, "", result{0, "here\n", ""}},
		{"session leader", shell(`test $(cut -d' ' -f6 /proc/$$/stat) = $$`), "", result{0, "", ""}},
		{"no terminal", shell("test -t 0 || test -t 1 || test -t 2"), "", result{1, "", ""}},
		{"no stray descriptors", shell("ls /proc/$$/fd; true"), "", result{0, "0\n1\n2\n", ""}},
		{"streams by name", shell("echo o >/dev/stdout; echo e >/dev/stderr"), "", result{0, "o\n", "e\n"}},
		{"no ignored signals", shell(`trap "" TERM; sh -c 'kill -PIPE $$'`), "", result{141, "", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := run(t, g, tt.req, strings.NewReader(tt.stdin)); got != tt.want {
				t.Errorf("got %+v; want %+v", got, tt.want)
			}
		})
	}
}

func TestExecNotStarted(t *testing.T) {
	g := startGuest(t)
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "noformat": 0o755} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("\x00"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		req  *wire.Exec
		want string
	}{
		{"nothing", &wire.Exec{Dir: "/"}, "no command"},
		{"empty name", &wire.Exec{Argv: []string{""}, Dir: "/"}, "command not found"},
		{"not in PATH", &wire.Exec{Argv: []string{"no-such-program"}, Dir: "/"}, "no-such-program: command not found"},
		{"not at path", &wire.Exec{Argv: []string{"/no/such"}, Dir: "/"}, "/no/such: command not found"},
		{"no directory", &wire.Exec{Argv: []string{"true"}, Dir: "/no/such"}, "start in /no/such"},
		{"a file as directory", &wire.Exec{Argv: []string{"true"}, Dir: "/etc/passwd"}, "not a directory"},
		{"not executable", &wire.Exec{Argv: []string{filepath.Join(dir, "plain")}, Dir: "/"}, "permission denied"},
		{"not executable in PATH", &wire.Exec{Argv: []string{"plain"}, Dir: "/", Env: []string{"PATH=" + dir}}, "command not found"},
		{"no program's format", &wire.Exec{Argv: []string{filepath.Join(dir, "noformat")}, Dir: "/"}, "exec format"},
		{"NUL", &wire.Exec{Argv: []string{"echo", "a\x00b"}, Dir: "/"}, "invalid argument"},
	} {
		_, err := client.Exec(g.open(t), tt.req, client.Stdio{})
		var refused *client.GuestError
		if !errors.As(err, &refused) || !strings.Contains(refused.Text, tt.want) {
			t.Errorf("%s: %v; want a GuestError with %q", tt.name, err, tt.want)
		}
		if missing := strings.Contains(tt.want, "command not found"); (fault.CodeOf(err) == fault.CommandNotFound) != missing {
			t.Errorf("%s: %v has the code %q", tt.name, err, fault.CodeOf(err))
		}
	}
	if n := openFiles(t, g.pid); n > 12 {
		t.Errorf("the agent has %d files open; want no more than at its start", n)
	}
}

// What a program needs may be only where it came from: on the host, outside of the
// workspace.
func TestExecMissingPart(t *testing.T) {
	g := startGuest(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.MkdirAll(at(".venv/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		".venv/bin/python": "python3", ".venv/bin/python3": "/home/host/.local/share/uv/python",
		"loop": "loop", "gone": "../gone/tool", "data": "plain", "tool": "script",
	} {
		if err := os.Symlink(target, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{
		"plain": "text", "script": "#!/nix/store/bash/bin/bash -e\n", "spaced": "#! \t/no/such\targument\n", "crlf": "#!/bin/sh\r\n",
		"env": "#!/usr/bin/env no-such-interpreter\n", "elf": "\x7fELF",
	} {
		mode := os.FileMode(0o755)
		if name == "plain" {
			mode = 0o644
		}
		if err := os.WriteFile(at(name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		path, want string
		missing    bool
	}{
		{".venv/bin/python", "a link to /home/host/.local/share/uv/python, which is not in the machine", true},
		{"gone", "a link to " + dir + "/../gone/tool, which is not in the machine", true},
		{"script", "its interpreter /nix/store/bash/bin/bash is not in the machine", true},
		{"tool", "its interpreter /nix/store/bash/bin/bash is not in the machine", true},
		{"spaced", "its interpreter /no/such is not in the machine", true},
		{"crlf", `its interpreter "/bin/sh\r" is not in the machine`, true},
		{"loop", "too many levels of symbolic links", false},
		{"plain", "permission denied", false},
		{"data", "permission denied", false},
		{".venv", "is a directory", false},
		{"elf", "exec format error", false},
	} {
		_, err := client.Exec(g.open(t), &wire.Exec{Argv: []string{"./" + tt.path}, Dir: dir}, client.Stdio{})
		var refused *client.GuestError
		if !errors.As(err, &refused) || !strings.Contains(refused.Text, tt.want) || (fault.CodeOf(err) == fault.CommandNotFound) != tt.missing {
			t.Errorf("%s: %v with the code %q; want %q", tt.path, err, fault.CodeOf(err), tt.want)
		}
	}
}

func openFiles(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestExecNotConfigured(t *testing.T) {
	g := startHelper(t)
	_, err := client.Exec(g.open(t), shell("true"), client.Stdio{})
	var refused *client.GuestError
	if !errors.As(err, &refused) || !strings.Contains(refused.Text, "not configured") {
		t.Errorf("Exec() = %v; want a GuestError", err)
	}
	if err := client.Changes(g.open(t), wire.Changes{}, nil, nil); err == nil {
		t.Error("Changes() = nil; want an error")
	}
	hello, err := client.Hello(g.open(t))
	if err != nil || hello.Kernel == "" || hello.Uptime <= 0 {
		t.Errorf("Hello() = %+v, %v; want a kernel and its time", hello, err)
	}
	// What is no request ends its stream and nothing else.
	for _, req := range []any{wire.Request{Op: "no-such"}, wire.Request{Op: wire.OpExec}, wire.Request{Op: wire.OpFetch}, 1} {
		stream := g.open(t)
		if err := wire.WriteMessage(stream, req); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(stream); err != nil || len(b) > 0 {
			t.Errorf("%v was answered with %q, %v; want the end", req, b, err)
		}
	}
}

// 20 MB of any bytes come through a program unchanged, both ways at once.
func TestExecBinarySafe(t *testing.T) {
	g := startGuest(t)
	in := make([]byte, 20<<20)
	rand.Read(in)
	got := sha256.New()
	code, err := client.Exec(g.open(t), &wire.Exec{Argv: []string{"cat"}, Dir: "/"}, client.Stdio{Stdin: bytes.NewReader(in), Stdout: got})
	if code != 0 || err != nil {
		t.Fatalf("cat: %d, %v", code, err)
	}
	if want := sha256.Sum256(in); !bytes.Equal(got.Sum(nil), want[:]) {
		t.Error("20 MB came back different")
	}
}

// All that the program itself wrote arrives, though it ends at once.
func TestExecLastOutput(t *testing.T) {
	g := startGuest(t)
	for _, tty := range []*wire.Winsize{nil, {Rows: 24, Cols: 80}} {
		for range 20 {
			req := shell("head -c 60000 /dev/zero | tr '\\0' x; sleep 30 >/dev/null 2>&1 & exec echo end $!")
			req.TTY = tty
			got := run(t, g, req, nil)
			out, pid, ok := strings.Cut(strings.TrimSpace(got.stdout), "end ")
			if !ok || len(out) != 60000 {
				t.Errorf("terminal %v: %d bytes and the end: %v; want 60000, true", tty != nil, len(out), ok)
				continue
			}
			syscall.Kill(atoi(t, pid), syscall.SIGKILL)
		}
	}
}

// A background process that has the outputs open does not hold the command,
// also when it writes all the time.
func TestExecBackground(t *testing.T) {
	g := startGuest(t)
	for _, tt := range []struct{ name, script string }{
		{"silent", "sleep 60 & echo $!"},
		{"in a session of its own", "setsid sleep 60 & sleep 0.1; echo $!"},
		{"deaf to hang-ups", "trap '' HUP; sleep 60 & echo $!"},
		{"never silent", "{ echo $$; exec yes; } & sleep 0.2"},
	} {
		for _, tty := range []*wire.Winsize{nil, {Rows: 24, Cols: 80}} {
			t.Run(fmt.Sprintf("%s, terminal %v", tt.name, tty != nil), func(t *testing.T) {
				t.Parallel()
				req := shell(tt.script)
				req.TTY = tty
				start := time.Now()
				got := run(t, g, req, nil)
				if d := time.Since(start); got.code != 0 || d > 50*time.Second {
					t.Errorf("exit %d after %v; want 0 at once", got.code, d)
				}
				first, _, _ := strings.Cut(got.stdout, "\n")
				syscall.Kill(atoi(t, strings.TrimSpace(first)), syscall.SIGKILL)
			})
		}
	}
}

func TestExecTerminal(t *testing.T) {
	g := startGuest(t)
	for _, tt := range []struct {
		name, script, stdin string
		want                result
	}{
		{"is one", "test -t 0 && test -t 1 && test -t 2 && test -c $(tty)", "", result{0, "", ""}},
		{"controls", "echo x >/dev/tty", "", result{0, "x\r\n", ""}},
		{"size", "stty size", "", result{0, "50 132\r\n", ""}},
		{"echo", "read x; echo got $x", "in\n", result{0, "in\r\ngot in\r\n", ""}},
		{"end of input", "stty -echo; cat; echo end", "\x04", result{0, "end\r\n", ""}},
		{"interrupt", "stty -echo -echoctl; trap 'echo int; exit 9' INT; echo ready; while :; do sleep 0.01; done", "", result{9, "", ""}},
		{"bytes", "stty raw -echo; echo; head -c 3 | od -An -tx1", "\x03\x04\xff", result{0, "", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req := shell(tt.script)
			req.TTY = &wire.Winsize{Rows: 50, Cols: 132}
			switch tt.name {
			case "interrupt":
				// The byte counts only once the program expects it.
				in, out := &later{ready: make(chan struct{}), data: "\x03"}, &trigger{}
				out.when, out.do = "ready", func() { close(in.ready) }
				code, err := client.Exec(g.open(t), withDir(req), client.Stdio{Stdin: in, Stdout: out})
				if err != nil || code != 9 || !strings.HasSuffix(out.String(), "int\r\n") {
					t.Errorf("%d, %v, %q; want 9 and int", code, err, out.String())
				}
			case "bytes":
				in, out := &later{ready: make(chan struct{}), data: tt.stdin}, &trigger{}
				out.when, out.do = "\n", func() { close(in.ready) }
				code, err := client.Exec(g.open(t), withDir(req), client.Stdio{Stdin: in, Stdout: out})
				if err != nil || code != 0 || !strings.Contains(out.String(), "03 04 ff") {
					t.Errorf("%d, %v, %q; want 03 04 ff", code, err, out.String())
				}
			default:
				if got := run(t, g, req, strings.NewReader(tt.stdin)); got != tt.want {
					t.Errorf("got %+v; want %+v", got, tt.want)
				}
			}
		})
	}
}

func withDir(req *wire.Exec) *wire.Exec { req.Dir = "/"; return req }

// later is an input that says data once ready is closed.
type later struct {
	ready chan struct{}
	data  string
}

func (l *later) Read(p []byte) (int, error) {
	<-l.ready
	if l.data == "" {
		return 0, io.EOF
	}
	n := copy(p, l.data)
	l.data = l.data[n:]
	return n, nil
}

// trigger is an output that calls do when it has seen when.
type trigger struct {
	bytes.Buffer
	when string
	do   func()
}

func (t *trigger) Write(p []byte) (int, error) {
	t.Buffer.Write(p)
	if t.do != nil && strings.Contains(t.String(), t.when) {
		t.do()
		t.do = nil
	}
	return len(p), nil
}

func TestExecResize(t *testing.T) {
	g := startGuest(t)
	resize := make(chan wire.Winsize, 1)
	out := &trigger{when: "ready", do: func() { resize <- wire.Winsize{Rows: 7, Cols: 9} }}
	req := shell(`trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done`)
	req.TTY = &wire.Winsize{Rows: 24, Cols: 80}
	code, err := client.Exec(g.open(t), withDir(req), client.Stdio{Stdin: &later{ready: make(chan struct{})}, Stdout: out, Resize: resize})
	if err != nil || code != 0 || !strings.Contains(out.String(), "7 9") {
		t.Errorf("%d, %v, %q; want 0, nil, 7 9", code, err, out.String())
	}
}

func TestExecSignals(t *testing.T) {
	g := startGuest(t)
	for _, tt := range []struct {
		name, script string
		sig          byte
		stdin        io.Reader
		code         int
	}{
		{"caught", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done", 10, nil, 5},
		{"not caught", "echo ready; sleep 60", 15, nil, 143},
		{"the whole group", "sleep 60 | { echo ready; sleep 60; }", 2, nil, 130},
		{"while input is stuck", "echo ready; sleep 60", 15, zeros{}, 143},
		{"no such signal first", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done", 200, nil, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			signals := make(chan byte, 2)
			out := &trigger{when: "ready", do: func() {
				signals <- tt.sig
				if tt.sig == 200 {
					signals <- 10
				}
			}}
			code, err := client.Exec(g.open(t), withDir(shell(tt.script)), client.Stdio{Stdin: tt.stdin, Stdout: out, Signals: signals})
			if err != nil || code != tt.code {
				t.Errorf("%d, %v; want %d, nil", code, err, tt.code)
			}
		})
	}
}

// A program that stops itself goes on where no shell could continue it.
func TestExecStopsItself(t *testing.T) {
	g := startGuest(t)
	for name, req := range map[string]*wire.Exec{
		"pipes":    {Argv: bash(t, "kill -STOP $$; echo on"), Dir: "/"},
		"group":    {Argv: bash(t, "kill -STOP 0; echo on"), Dir: "/"},
		"terminal": {Argv: bash(t, "stty raw; kill -STOP $$; echo on"), Dir: "/", TTY: &wire.Winsize{Rows: 24, Cols: 80}},
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan result, 1)
			go func() { done <- run(t, g, req, nil) }()
			select {
			case r := <-done:
				if r.code != 0 || !strings.Contains(r.stdout, "on") {
					t.Errorf("it ended as %+v; want that it says on", r)
				}
			case <-time.After(time.Minute):
				t.Fatal("it stays stopped")
			}
		})
	}
}

// When the host is gone, so is the program with its group, also one that
// ignores the hang-up or that is stuck in its output.
func TestExecHangUp(t *testing.T) {
	g := startGuest(t)
	for name, script := range map[string]string{
		"sleeps":           "echo $$; sleep 60",
		"ignores it":       "trap '' HUP; echo $$; sleep 60; sleep 60",
		"group":            "sleep 60 & echo $!; sleep 60",
		"writes":           "echo $$; exec yes",
		"does not read":    "echo $$; sleep 60",
		"in a terminal":    "echo $$; sleep 60",
		"closed its pipes": "echo $$; exec >&- 2>&- <&-; sleep 60",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream := g.open(t)
			req := withDir(shell(script))
			var stdin io.Reader
			if name == "does not read" {
				stdin = zeros{}
			}
			if name == "in a terminal" {
				req.TTY = &wire.Winsize{}
			}
			out := &trigger{when: "\n", do: func() { stream.Close() }}
			if code, err := client.Exec(stream, req, client.Stdio{Stdin: stdin, Stdout: out}); err == nil {
				t.Errorf("Exec() = %d, nil; want an error", code)
			}
			pid, _, _ := strings.Cut(out.String(), "\n")
			waitGone(t, atoi(t, strings.TrimSpace(pid)))
		})
	}
}

// The reaper finds the status of every child, and nothing is left open.
func TestExecMany(t *testing.T) {
	g := startGuest(t)
	run(t, g, shell("true"), nil)
	before := openFiles(t, g.pid)
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			req := shell(fmt.Sprintf("exit %d", i))
			if i%2 == 0 {
				req.TTY = &wire.Winsize{}
			}
			if code, err := client.Exec(g.open(t), withDir(req), client.Stdio{}); code != i || err != nil {
				t.Errorf("exit %d: %d, %v", i, code, err)
			}
		})
	}
	wg.Wait()
	for deadline := time.Now().Add(time.Minute); openFiles(t, g.pid) > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the agent has %d files open; want %d", openFiles(t, g.pid), before)
		}
	}
	zombies, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", g.pid, g.pid))
	if err == nil && len(zombies) > 0 {
		t.Errorf("the agent has the children %s; want none", zombies)
	}
}
