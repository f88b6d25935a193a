package agent

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// kernelLog has a record of all that the kernel says, dev-kmsg in the ABI documents of
// its source.
const kernelLog = "/dev/kmsg"

// maxRecord is more than a record of the kernel's log has.
const maxRecord = 8 << 10

// news tells the host what the kernel says from now on, until the host closes the stream.
func (a *agent) news(stream net.Conn) {
	// Non-blocking, so that closing it ends a read.
	log, err := os.OpenFile(kernelLog, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer log.Close()
	if _, err := log.Seek(0, io.SeekEnd); err != nil {
		return
	}
	go func() {
		io.Copy(io.Discard, stream) // ends with the stream
		log.Close()
	}()
	buf := make([]byte, maxRecord)
	for {
		n, err := log.Read(buf) // one record
		if pathErr, ok := err.(*os.PathError); ok && pathErr.Err == unix.EPIPE {
			continue // the kernel said more than we could read, and some of it is lost
		}
		if err != nil {
			return
		}
		program, ok := killed(string(buf[:n]))
		if !ok {
			continue
		}
		if wire.WriteMessage(stream, wire.News{Killed: &wire.Killed{Program: program}}) != nil {
			return
		}
	}
}

// killed returns the program that a record says was ended for want of memory.
func killed(record string) (program string, ok bool) {
	_, program, ok = killedProcess(record)
	return program, ok
}

// killedProcess returns the number, too. A record is "PRIORITY,NUMBER,TIME,FLAGS;TEXT"; one
// that a program has written has a facility, the priority without its lowest three bits, that
// is not the kernel's.
func killedProcess(record string) (pid, program string, ok bool) {
	head, text, _ := strings.Cut(record, ";")
	priority, _, _ := strings.Cut(head, ",")
	if len(priority) != 1 || priority[0] < '0' || priority[0] > '7' {
		return "", "", false
	}
	text, _, _ = strings.Cut(text, "\n")
	reason, rest, ok := strings.Cut(text, ": Killed process ")
	if !ok || reason != "Out of memory" && reason != "Memory cgroup out of memory" {
		return "", "", false
	}
	if pid, rest, ok = strings.Cut(rest, " ("); !ok {
		return "", "", false
	}
	// A name may have parentheses, and what follows has not.
	end := strings.LastIndex(rest, ") total-vm:")
	if end < 0 || end > maxName {
		return "", "", false
	}
	return pid, rest[:end], true
}

// maxName is more than the name of a process has.
const maxName = 64

// wasKilled reports whether the kernel says that it has ended the process pid for want of
// memory.
func wasKilled(pid int) bool {
	// Not an os.File, whose Read would wait for the next record.
	fd, err := unix.Open(kernelLog, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return killedIn(func(buf []byte) (int, error) { return unix.Read(fd, buf) }, pid)
}

// killedIn looks for the process pid in a log, of which read reads a record.
func killedIn(read func([]byte) (int, error), pid int) bool {
	buf := make([]byte, maxRecord)
	for range maxRecords {
		n, err := read(buf)
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR) {
			continue // the oldest are gone
		}
		if err != nil || n <= 0 {
			return false
		}
		if number, _, ok := killedProcess(string(buf[:n])); ok && number == strconv.Itoa(pid) {
			return true
		}
	}
	return false
}

// maxRecords is more than the kernel's log has.
const maxRecords = 1 << 16
