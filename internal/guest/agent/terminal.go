package agent

import (
	"fmt"
	"os"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// openTerminal opens a new pseudo terminal. Package pty leaves its files in
// blocking mode. A read of the master must end at its deadline, since a
// background process may hold the slave open for ever; the slave, whose mode
// the program inherits, stays as it is.
func openTerminal() (master, slave *os.File, err error) {
	m, slave, err := pty.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	defer m.Close()
	fd, err := unix.FcntlInt(m.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		if err = unix.SetNonblock(fd, true); err == nil {
			return os.NewFile(uintptr(fd), m.Name()), slave, nil
		}
		unix.Close(fd)
	}
	slave.Close()
	return nil, nil, fmt.Errorf("open a terminal: %w", err)
}

// setWinsize does not use package pty, which would make tty blocking again.
func setWinsize(tty *os.File, ws unix.Winsize) {
	conn, err := tty.SyscallConn()
	if err != nil {
		return
	}
	conn.Control(func(fd uintptr) {
		unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &ws)
	})
}
