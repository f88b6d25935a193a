package session

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// quietTime is how long a program that waits for an answer has written nothing.
// Agents that work show that they do, several times a second.
const quietTime = 10 * time.Second

// looks is how often a program is looked at before the judgement changes, and lookTime
// what is between two looks.
const (
	looks    = 4
	lookTime = 25 * time.Millisecond
)

// What ends the judgement that a program waits: that it writes for that long, without a
// pause of more than that, or that it is seen at work twice, that long apart.
const (
	workTime  = 2 * time.Second
	pauseTime = 2 * time.Second
)

// quiet judges whether a silent program waits. One that does may still draw its screen
// anew, when somebody comes to look at it, or do something for a moment: the judgement
// stays until there is more to it than that, or until the program gets input, with which
// quiet begins as its zero value.
type quiet struct {
	waits  bool
	begun  time.Time // the output that goes on, if any has since it was judged
	last   time.Time // the last of it
	worked time.Time // it was first seen at work; zero if it has been idle since
}

// wrote is told of output.
func (q *quiet) wrote(now time.Time) {
	if q.begun.IsZero() || now.Sub(q.last) > pauseTime {
		q.begun = now
	}
	q.last = now
}

// longSilent reports whether a program that did something last at since is silent for so
// long that it might wait.
func longSilent(now, since time.Time) bool { return !since.IsZero() && now.Sub(since) >= quietTime }

// judge reports whether the program waits, which was last seen to do something at since,
// and is idle now.
func (q *quiet) judge(now, since time.Time, idle bool) bool {
	if !q.waits {
		if q.waits = idle && longSilent(now, since); q.waits {
			q.begun, q.worked = time.Time{}, time.Time{}
		}
		return q.waits
	}
	switch {
	case !q.begun.IsZero() && q.last.Sub(q.begun) >= workTime:
		q.waits = false
	case idle:
		q.worked = time.Time{}
	case q.worked.IsZero():
		q.worked = now
	case now.Sub(q.worked) >= workTime:
		q.waits = false
	}
	return q.waits
}

// maxGroup bounds the processes that are looked at.
const maxGroup = 4096

// idle reports whether the process group pgrp seems to wait for input.
//
// That is a guess. A process of it that is blocked in a read of a terminal does
// wait. But most programs with a screen wait for many things at once, and the
// kernel does not tell for which: for these it is enough that the main thread of
// the group's leader is in such a wait, so that a program that waits for the
// network, silently and for long, is taken for one that waits for its user. One
// that computes, sleeps or waits for a child is not. A process that has become
// another user's cannot be looked into by anyone but root; the agent is root.
func idle(pgrp int) bool {
	if pgrp <= 0 {
		return false
	}
	if number, _, ok := blockedIn(pgrp); ok && waitsForMany(number) {
		return true
	}
	return anyOf(pgrp, func(pid int) bool {
		number, fd, ok := blockedIn(pid)
		if !ok || number != unix.SYS_READ {
			return false
		}
		file, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		return err == nil && (strings.HasPrefix(file, "/dev/pts/") || file == "/dev/tty")
	})
}

// Stopped reports whether a process of the group pgrp is stopped, as by itself. If it has
// the terminal, no shell looks after it.
func Stopped(pgrp int) bool {
	return pgrp > 0 && anyOf(pgrp, func(pid int) bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		// The name, in brackets, may be anything.
		end := bytes.LastIndexByte(b, ')')
		return err == nil && end >= 0 && bytes.HasPrefix(b[end:], []byte(") T "))
	})
}

// anyOf reports whether is holds for a process of the group pgrp.
func anyOf(pgrp int, is func(pid int) bool) bool {
	dir, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(maxGroup)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if group, err := unix.Getpgid(pid); err == nil && group == pgrp && is(pid) {
			return true
		}
	}
	return false
}

// blockedIn returns the system call that the main thread of pid is in, and its
// first argument. It is not ok for a thread that runs.
func blockedIn(pid int) (number int, first uint64, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/syscall")
	if err != nil {
		return 0, 0, false
	}
	return parseSyscall(b)
}

// parseSyscall reads a line as "0 0x3 0x7f…", proc(5).
func parseSyscall(b []byte) (number int, first uint64, ok bool) {
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0, 0, false // "running"
	}
	number, err := strconv.Atoi(string(f[0]))
	if err != nil || number < 0 {
		return 0, 0, false
	}
	first, err = strconv.ParseUint(strings.TrimPrefix(string(f[1]), "0x"), 16, 64)
	return number, first, err == nil
}

// waitsForMany reports whether a system call waits for one of several files.
func waitsForMany(number int) bool {
	switch number {
	case unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_PPOLL, unix.SYS_PSELECT6, unix.SYS_IO_URING_ENTER:
		return true
	case 7, 23, 232: // poll, select, epoll_wait, which newer architectures do without
		return runtime.GOARCH == "amd64"
	}
	return false
}

// automatic reports whether input is of a terminal and not of who sits at it:
// where the cursor is, what it is, that it came to the front, colours.
func automatic(data []byte) bool {
	for rest := data; ; {
		if len(rest) < 3 || rest[0] != 0x1b {
			return len(rest) == 0 && len(data) > 0
		}
		n := 0
		switch rest[1] {
		case '[':
			end := bytes.IndexFunc(rest[2:], func(r rune) bool { return r >= 0x40 })
			if end < 0 || !report(rest[2:2+end], rest[2+end]) {
				return false
			}
			n = 2 + end + 1
		case ']', 'P', '_':
			bell, st := bytes.IndexByte(rest, '\a'), bytes.Index(rest, []byte("\x1b\\"))
			switch {
			case bell >= 0 && (st < 0 || bell < st):
				n = bell + 1
			case st >= 0:
				n = st + 2
			default:
				return false
			}
		default:
			return false
		}
		rest = rest[n:]
	}
}

// report reports whether a control sequence is a terminal's answer and no key.
func report(params []byte, final byte) bool {
	switch final {
	case 'c', 'u':
		return len(params) > 0 && params[0] >= '<' && params[0] <= '?'
	case 'I', 'O':
		return len(params) == 0
	case 'n', 't':
		return len(params) > 0
	case 'R':
		return bytes.IndexByte(params, ';') > 0 && !bytes.HasPrefix(params, []byte("1;")) // F3 with shift is ESC [ 1 ; 2 R
	case 'y':
		return bytes.HasSuffix(params, []byte("$"))
	}
	return false
}

// signalProgram passes on a signal that the host may send.
func (s *Session) signalProgram(number byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.exited && number > 0 && number < 65 {
		s.program.Signal(syscall.Signal(number))
	}
}
