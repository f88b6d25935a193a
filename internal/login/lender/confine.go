package lender

import (
	"errors"
	"log/slog"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/proc"
)

// confineProcess limits this process to the log-ins in dir, the files that name hosts and
// authorities, and connections. A kernel that lacks a part of it leaves the others.
func confineProcess(dir string, log *slog.Logger) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Refresh tokens are in its memory.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	root := os.Geteuid() == 0
	var keep []uintptr
	if root {
		writable, err := proc.WritableWithoutCapabilities([]string{dir})
		if err != nil {
			return err
		}
		if !writable { // it is another user's
			keep = append(keep, unix.CAP_DAC_OVERRIDE)
		}
	}
	err := proc.NoNewPrivilegesProcess()
	if err == nil {
		rules := []proc.Rule{{Path: dir, Access: proc.Read | proc.Replace}}
		err = proc.RestrictProcess(append(rules, confine.HostFiles(root)...))
	}
	if err == nil {
		err = proc.KeepCapabilities(keep...)
	}
	if errors.Is(err, unix.ENOTSUP) {
		// A program that is linked with C. The filter below can be had all the same.
		log.Warn("not confined: this mayfly was not built with CGO_ENABLED=0", "err", err)
		err = proc.NoNewPrivileges()
	}
	if err != nil {
		return err
	}
	filter := confine.NetworkCalls(os.Getpid(), nil)
	if filter == nil {
		return nil
	}
	err = filter.InstallOnAllThreads()
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		log.Warn("not confined: the kernel filters no system calls", "err", err)
		return nil
	}
	return err
}
