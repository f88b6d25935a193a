package agent

import (
	"bytes"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/session"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// session serves a viewer of a session, whose program it starts if need be.
func (a *agent) session(stream net.Conn, req *wire.Session) {
	m, err := a.configured()
	if err != nil {
		wire.NewFrameWriter(stream).WriteError(err)
		return
	}
	var p *process // that was started, if any
	start := func(name string, size wire.Winsize) (session.Program, error) {
		exec := *req.Exec
		exec.TTY = &size
		// Without, what it does is guessed.
		if a.takeReports(m) == nil {
			exec.Env = append(slices.Clone(exec.Env), sessionVariable+"="+name)
		}
		var err error
		if p, err = a.execProcess(m, &exec); err != nil {
			return session.Program{}, err
		}
		return session.Program{
			Input:      &keys{p: p},
			Resize:     func(ws wire.Winsize) { setWinsize(p.tty, unix.Winsize{Row: ws.Rows, Col: ws.Cols}) },
			Signal:     func(sig syscall.Signal) { syscall.Kill(-p.pid, sig) },
			Foreground: p.foreground,
		}, nil
	}
	a.sessions.Serve(stream, req, start, func(s *session.Session) {
		defer a.programs.begin()()
		p.runSession(s)
	})
}

// runSession moves the output of a program to its session until it has ended.
func (p *process) runSession(s *session.Session) {
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		copyOut(p.tty, s.Output)
	}()
	ws := <-p.status
	// As in run: others may hold the terminal open.
	p.tty.SetReadDeadline(time.Now())
	<-copied
	p.close()
	s.Exit(session.Exit{Code: exitCode(ws), OutOfMemory: ws.Signaled() && ws.Signal() == syscall.SIGKILL && wasKilled(p.pid)})
}

// keys writes to the terminal of a program. What is typed for one that is stopped continues
// it: if it has the terminal, no shell looks after it. So does Ctrl-Z itself, where the
// kernel does not let a program stop.
type keys struct {
	p        *process
	looked   time.Time
	resuming atomic.Int64 // until when it is looked at, in Unix nanoseconds; 0 for not at all
}

// lookTime is the least that is between two looks whether a program is stopped.
const lookTime = time.Second

func (k *keys) Write(b []byte) (int, error) {
	if suspends(b) && !k.p.lineMode() && k.resuming.Swap(time.Now().Add(resumeTime).UnixNano()) == 0 {
		go k.resume()
	}
	n, err := k.p.tty.Write(b)
	if now := time.Now(); now.Sub(k.looked) >= lookTime {
		k.looked = now
		if group := k.p.foreground(); session.Stopped(group) {
			continueGroup(group)
		}
	}
	return n, err
}

// suspends reports whether Ctrl-Z is in what is typed, in one of the forms that programs
// ask terminals for.
func suspends(typed []byte) bool {
	for _, key := range []string{"\x1a", "\x1b[122;5u", "\x1b[27;5;122~"} {
		if bytes.Contains(typed, []byte(key)) {
			return true
		}
	}
	return false
}

// A program has resumeTime to suspend itself, and is looked at so often.
const (
	resumeTime = 30 * time.Second
	resumeLook = 100 * time.Millisecond
)

// resume continues a program when it suspends itself on Ctrl-Z: it gives the terminal back,
// sends itself SIGTSTP, and waits for SIGCONT. The kernel drops the first in a process group
// without a parent in its session, setpgid(2), so nobody hears of it. That the program
// takes the terminal again says that it goes on.
func (k *keys) resume() {
	given := false
	for {
		until := k.resuming.Load()
		line := k.p.lineMode()
		over := time.Now().UnixNano() >= until
		switch {
		case over:
		case line && k.p.foreground() == k.p.pid: // no shell is between
			given = true
			continueGroup(k.p.pid)
		case line, given:
			over = true
		}
		// A Ctrl-Z of meanwhile begins it again.
		if over && k.resuming.CompareAndSwap(until, 0) {
			return
		}
		time.Sleep(resumeLook)
	}
}

// lineMode reports whether p's terminal gathers lines, as shells have it; also when it is
// closed.
func (p *process) lineMode() bool {
	line := true
	conn, err := p.tty.SyscallConn()
	if err != nil {
		return line
	}
	conn.Control(func(fd uintptr) {
		if t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
			line = t.Lflag&unix.ICANON != 0
		}
	})
	return line
}

// foreground is the process group that reads p's terminal, or 0.
func (p *process) foreground() (pgrp int) {
	conn, err := p.tty.SyscallConn()
	if err != nil {
		return 0
	}
	conn.Control(func(fd uintptr) {
		if n, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP); err == nil {
			pgrp = n
		}
	})
	return pgrp
}
