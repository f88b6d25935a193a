package terminal

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Suspend stops our job, as Ctrl-Z does on a terminal that is not raw. It reports false where
// no shell would continue it: then nothing is done.
func Suspend() bool {
	session, err := unix.Getsid(0)
	if err != nil || session == unix.Getpgrp() {
		return false // who leads the session has no jobs
	}
	return syscall.Kill(0, syscall.SIGTSTP) == nil
}

// WaitJob waits for a child that shares our terminal, and stops and continues with it: a
// shell that has started us sees one job.
func WaitJob(pid int) (syscall.WaitStatus, error) {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait for process %d: %w", pid, err)
		case status.Stopped():
			syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			syscall.Kill(pid, syscall.SIGCONT)
		default:
			return status, nil
		}
	}
}
