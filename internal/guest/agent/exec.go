package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// exec runs one program and speaks the frames of wire.OpExec.
func (a *agent) exec(stream net.Conn, req *wire.Exec) {
	out := &output{w: wire.NewFrameWriter(stream)}
	m, err := a.configured()
	if err == nil {
		var p *process
		if p, err = a.execProcess(m, req); err == nil {
			defer a.programs.begin()()
			p.run(stream, out, a.lookAtPorts)
			return
		}
	}
	out.fail(err)
}

// output serialises the frames of a program's two outputs.
type output struct {
	mu sync.Mutex
	w  *wire.FrameWriter
}

func (o *output) write(t wire.FrameType, p []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(t, p)
}

func (o *output) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w.WriteError(err)
}

// process is a program that runs.
type process struct {
	pid    int
	status <-chan syscall.WaitStatus
	tty    *os.File // nil with pipes
	stdin  *os.File // the writing end, or tty
	outs   map[wire.FrameType]*os.File
}

// execProcess starts the program of req.
func (a *agent) execProcess(m *machine, req *wire.Exec) (*process, error) {
	if len(req.Argv) == 0 {
		return nil, errors.New("no command")
	}
	prog := program{argv: req.Argv, dir: req.Dir, env: mergeEnv(m.env, req.Env)}
	var err error
	if prog.path, err = lookPath(req.Argv[0], getenv(prog.env, "PATH"), req.Dir); err != nil {
		return nil, err
	}
	if req.Terminfo != nil {
		if err := addTerminfo(req.Terminfo); err != nil {
			return nil, err
		}
	}
	if ws := req.TTY; ws != nil {
		prog.terminal = func(tty, _ *os.File) error {
			setWinsize(tty, unix.Winsize{Row: ws.Rows, Col: ws.Cols})
			return nil
		}
	}
	return a.startProcess(m, prog)
}

// program is what a process is made of.
type program struct {
	path string
	argv []string
	dir  string
	env  []string
	// terminal sets up the terminal that the program gets; nil for three pipes.
	terminal func(tty, slave *os.File) error
}

// startProcess starts prog as m's user, in a session of its own.
func (a *agent) startProcess(m *machine, prog program) (_ *process, err error) {
	p := &process{outs: make(map[wire.FrameType]*os.File)}
	var child []*os.File // stdin, stdout, stderr
	defer func() {
		for _, f := range child {
			f.Close()
		}
		if err != nil {
			p.close()
		}
	}()
	if prog.terminal != nil {
		tty, slave, err := openTerminal()
		if err != nil {
			return nil, err
		}
		p.tty, p.stdin = tty, tty
		p.outs[wire.FrameStdout] = tty
		child = []*os.File{slave, slave, slave}
		slave.Chown(m.user.UID, m.user.GID)
		if err := prog.terminal(tty, slave); err != nil {
			return nil, err
		}
	} else {
		stdin, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		child, p.stdin = append(child, stdin), w
		for _, t := range []wire.FrameType{wire.FrameStdout, wire.FrameStderr} {
			r, w, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			child, p.outs[t] = append(child, w), r
		}
		for _, f := range child {
			// For who opens them by name, as /dev/stderr.
			if err := f.Chown(m.user.UID, m.user.GID); err != nil {
				return nil, fmt.Errorf("make pipes: %w", err)
			}
		}
	}
	attr := &syscall.ProcAttr{
		Dir:   prog.dir,
		Env:   prog.env,
		Files: []uintptr{child[0].Fd(), child[1].Fd(), child[2].Fd()},
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Setctty:    prog.terminal != nil, // Ctty 0: the child's standard input
			Credential: m.credential,
		},
	}
	if a.service != nil {
		a.service.programs.adopt(attr.Sys)
	}
	p.pid, p.status, err = a.reaper.start(func() (int, error) {
		return syscall.ForkExec(prog.path, prog.argv, attr)
	})
	if err != nil {
		return nil, explainStart(prog, err)
	}
	return p, nil
}

func (p *process) close() {
	if p.stdin != nil {
		p.stdin.Close()
	}
	for _, f := range p.outs {
		f.Close()
	}
}

// run moves bytes until the program has ended and its output is sent. ended is called
// before the host hears that.
func (p *process) run(stream net.Conn, out *output, ended func()) {
	inputDone := make(chan struct{})
	go func() {
		defer close(inputDone)
		p.input(stream, out)
	}()
	ws := p.wait(out.write, inputDone, func() { stream.Close() })
	ended()
	out.write(wire.FrameExit, []byte{exitCode(ws)})
	// The host closes the stream; the goroutine ends with it.
	stream.SetReadDeadline(time.Now())
	<-inputDone
}

// writeFunc takes what a program writes to one of its outputs. It may be called for
// both at once.
type writeFunc func(wire.FrameType, []byte) error

// wait hands the program's output to write until it has ended and all is handed
// over. When gone is closed, who it runs for is gone, as a terminal that hangs up:
// write is made to fail by abandon, and the program is ended.
func (p *process) wait(write writeFunc, gone <-chan struct{}, abandon func()) (ws syscall.WaitStatus) {
	defer p.close()
	var copies sync.WaitGroup
	for t, f := range p.outs {
		copies.Go(func() { copyOut(f, func(p []byte) error { return write(t, p) }) })
	}
	select {
	case ws = <-p.status:
	case <-gone:
		// Who writes to it must not wait for it.
		abandon()
		ws = p.hangUp()
	}
	// A background process may hold the outputs open for ever. What the
	// program itself wrote is in the pipes by now.
	for _, f := range p.outs {
		f.SetReadDeadline(time.Now())
	}
	copies.Wait()
	return ws
}

// hangUp ends the program's process group.
func (p *process) hangUp() syscall.WaitStatus {
	syscall.Kill(-p.pid, syscall.SIGHUP)
	select {
	case ws := <-p.status:
		return ws
	case <-time.After(2 * time.Second):
		syscall.Kill(-p.pid, syscall.SIGKILL)
		return <-p.status
	}
}

// input serves the frames of the host until the stream ends.
func (p *process) input(stream net.Conn, out *output) {
	fr := wire.NewFrameReader(stream)
	feed := newFeeder(p, out)
	defer close(feed.queue)
	for {
		t, payload, err := fr.Next()
		if err != nil {
			return
		}
		switch t {
		case wire.FrameStdin:
			feed.queue <- bytes.Clone(payload)
		case wire.FrameStdinEOF:
			if p.tty == nil {
				feed.queue <- nil
			}
		case wire.FrameResize:
			if ws, err := wire.ParseWinsize(payload); err == nil && p.tty != nil {
				setWinsize(p.tty, unix.Winsize{Row: ws.Rows, Col: ws.Cols})
			}
		case wire.FrameSignal:
			if len(payload) == 1 {
				syscall.Kill(-p.pid, syscall.Signal(payload[0]))
			}
		}
	}
}

// copyOut sends what comes from f until f ends or its read deadline passes, and
// then what is left in it.
func copyOut(f *os.File, send func([]byte) error) {
	buf := make([]byte, wire.MaxFrame)
	for {
		n, err := f.Read(buf)
		if n > 0 && send(buf[:n]) != nil {
			// The host is gone. Go on reading: a program must not block
			// on a full pipe while it is being ended.
			io.Copy(io.Discard, f)
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			drain(f, buf, send)
			return
		}
		if err != nil {
			return
		}
	}
}

// drainLimit is more than a pipe or a terminal holds.
const drainLimit = 1 << 20

// drain hands over what f holds at this moment. A background process may fill it
// again and again, so that it need not become empty.
func drain(f *os.File, buf []byte, send func([]byte) error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	for sent := 0; sent < drainLimit; {
		var n int
		var readErr error
		// Control, unlike Read, does not ask the deadline.
		err := conn.Control(func(fd uintptr) {
			n, readErr = syscall.Read(int(fd), buf)
		})
		if readErr == syscall.EINTR {
			continue
		}
		if err != nil || readErr != nil || n <= 0 {
			return
		}
		if send(buf[:n]) != nil {
			return
		}
		sent += n
	}
}

// exitCode is the shell's: the code, or 128 and the signal.
func exitCode(ws syscall.WaitStatus) byte {
	if ws.Signaled() {
		return byte(128 + int(ws.Signal()))
	}
	return byte(ws.ExitStatus())
}

// lookPath finds the program name as execvp(3) does, with dir as the directory
// that relative names start from.
func lookPath(name, path, dir string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, nil
	}
	for _, d := range filepath.SplitList(path) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		file := filepath.Join(d, name)
		if fi, err := os.Stat(file); err == nil && !fi.IsDir() && fi.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fault.New(fault.CommandNotFound, nil, "%s: command not found", name)
}

// mergeEnv returns base with over on top; the last value of a key holds.
func mergeEnv(base, over []string) []string {
	at := make(map[string]int)
	var env []string
	for _, kv := range append(append([]string(nil), base...), over...) {
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" || strings.ContainsRune(kv, 0) {
			continue
		}
		if i, ok := at[key]; ok {
			env[i] = kv
			continue
		}
		at[key] = len(env)
		env = append(env, kv)
	}
	return env
}

func getenv(env []string, key string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v
		}
	}
	return ""
}

// feeder writes a program's standard input from a queue, so that a program
// that does not read never keeps signals and window sizes from arriving. The
// host sends at most wire.StdinWindow frames ahead of their acknowledgement,
// so that the queue never blocks.
type feeder struct {
	queue chan []byte // nil closes the input
}

func newFeeder(program *process, out *output) feeder {
	feed := feeder{queue: make(chan []byte, wire.StdinWindow+1)}
	var to io.Writer = program.stdin
	if program.tty != nil {
		to = &keys{p: program}
	}
	go func() {
		var failed error
		for p := range feed.queue {
			if p == nil {
				program.stdin.Close()
				failed = os.ErrClosed
				continue
			}
			if failed == nil {
				_, failed = to.Write(p)
			}
			out.write(wire.FrameStdinAck, nil)
		}
	}()
	return feed
}
