package session

import (
	"bytes"
	"os"
	"regexp"
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
		if group, err := unix.Getpgid(pid); err != nil || group != pgrp {
			continue
		}
		number, fd, ok := blockedIn(pid)
		if !ok || number != unix.SYS_READ {
			continue
		}
		file, err := os.Readlink("/proc/" + name + "/fd/" + strconv.FormatUint(fd, 10))
		if err == nil && (strings.HasPrefix(file, "/dev/pts/") || file == "/dev/tty") {
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

// reports are what terminals send without anybody typing: where the cursor is,
// what they are, that they came to the front, colours.
var reports = regexp.MustCompile(`^(?:\x1b\[[?>=]?[0-9;:]*(?:\$y|[cnRtu])|\x1b\[[IO]|\x1b[\]P_][^\x1b\a]*(?:\a|\x1b\\))+$`)

// automatic reports whether input is of a terminal and not of who sits at it.
func automatic(data []byte) bool {
	return len(data) > 2 && data[0] == 0x1b && !kittyKey(data) && reports.Match(data)
}

// kittyKey reports whether data begins with a key in kitty's protocol, which
// looks like a report of its flags.
func kittyKey(data []byte) bool {
	return bytes.HasPrefix(data, []byte("\x1b[")) && data[2] != '?' && data[len(data)-1] == 'u'
}

// signalProgram passes on a signal that the host may send.
func (s *Session) signalProgram(number byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.exited && number > 0 && number < 65 {
		s.program.Signal(syscall.Signal(number))
	}
}
