package share

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts are those by which a server's directory is guarded.
type mounts struct {
	table *os.File // /proc/PID/mountinfo
	paths map[string]string
}

// openMounts opens the table of the mounts of a server that has just begun.
func openMounts(pid int) (*mounts, error) {
	name := fmt.Sprintf("/proc/%d/mountinfo", pid)
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0) // os.Open would take the events of the table
	if err != nil {
		return nil, fmt.Errorf("watch the guards: %w", err)
	}
	m := &mounts{table: os.NewFile(uintptr(fd), name)}
	if m.paths, err = m.read(); err != nil {
		m.table.Close()
		return nil, err
	}
	return m, nil
}

// read returns the mount points by the numbers of the mounts.
func (m *mounts) read() (map[string]string, error) {
	if _, err := m.table.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("watch the guards: %w", err)
	}
	data, err := io.ReadAll(m.table)
	if err != nil {
		return nil, fmt.Errorf("watch the guards: %w", err)
	}
	paths := make(map[string]string)
	for line := range bytes.Lines(data) {
		if words := strings.Fields(string(line)); len(words) > 4 {
			paths[words[0]] = unescape(words[4])
		}
	}
	return paths, nil
}

// unescape returns a path of mountinfo, whose blanks and such are octal.
func unescape(text string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#").Replace(text)
}

// WatchGuards tells of each path of the directory that loses its guard, until ctx or the
// server ends: a program of the host has replaced or removed what it was mounted on.
func (p *Process) WatchGuards(ctx context.Context, lost func(path string)) error {
	if p.mounts == nil {
		return nil
	}
	stopR, stopW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("watch the guards: %w", err)
	}
	defer stopR.Close()
	defer stopW.Close()
	stop := context.AfterFunc(ctx, func() { stopW.Write([]byte{0}) })
	defer stop()
	// A change of the table is an event of it, proc_pid_mountinfo(5).
	fds := []unix.PollFd{{Fd: int32(p.mounts.table.Fd()), Events: unix.POLLPRI}, {Fd: int32(stopR.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("watch the guards: %w", err)
		}
		if fds[1].Revents != 0 {
			return nil
		}
		now, err := p.mounts.read()
		if err != nil || len(now) == 0 {
			return nil // the server has ended, and its mounts with it
		}
		for id, path := range p.mounts.paths {
			if _, there := now[id]; !there {
				delete(p.mounts.paths, id)
				lost(strings.TrimPrefix(strings.TrimPrefix(path, treeDir), "/"))
			}
		}
	}
}
