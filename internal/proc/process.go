package proc

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Limits are a thread's. A program that meets a guest itself, and so has to limit
// itself while it runs, must put them on all of its threads: one that is left out can
// be made to do what the others may not.

// OnAllThreads makes a system call on every thread of this process, those that the
// runtime will start included. It must have the same result on all, or the runtime
// ends the process.
//
// The error wraps unix.ENOTSUP in a program that is linked with C, as one with the
// race detector is: there the threads are not the runtime's alone.
//
//go:uintptrescapes
func OnAllThreads(trap, a1, a2, a3 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3); errno != 0 {
		return errno
	}
	return nil
}

// NoNewPrivilegesProcess is NoNewPrivileges for all threads of this process.
func NoNewPrivilegesProcess() error {
	if err := OnAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	return nil
}

// KeepCapabilities takes all capabilities from all threads of this process but keep, as
// far as it has them. What can be had by executing a program is not changed.
func KeepCapabilities(keep ...uintptr) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities: %w", err)
	}
	var mask [2]uint32
	for _, c := range keep {
		mask[c/32] |= 1 << (c % 32)
	}
	for i := range data {
		permitted := data[i].Permitted & mask[i]
		data[i] = unix.CapUserData{Effective: permitted, Permitted: permitted}
	}
	if err := OnAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// WritableWithoutCapabilities reports whether this process could use and change the
// directories dirs if it had no capability.
func WritableWithoutCapabilities(dirs []string) (bool, error) {
	writable := true
	result := make(chan error)
	OnThread(func() {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			result <- err
			return
		}
		for _, dir := range dirs {
			// The kernel's own call looks at the real user's rights, which for us are
			// the same. With a flag it is not the kernel's, but the library's.
			if unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK) != nil {
				writable = false
			}
		}
		result <- nil
	})
	if err := <-result; err != nil {
		return false, err
	}
	return writable, nil
}

// BecomeUser makes all threads of this process user, in a group of its own and in no other,
// with the capabilities keep. The effective user is another one: signals that this process
// sends, and those that the kernel sends for it when a thread ends, go to processes of that
// user, while those may not signal it: whom one may signal follows from the real and the
// saved user. Files are used as user, credentials(7).
func BecomeUser(user, effective int, keep ...uintptr) error {
	u := uintptr(user)
	for _, call := range []struct{ trap, a1, a2, a3 uintptr }{
		{unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0},
		{unix.SYS_SETGROUPS, 0, 0, 0},
		{unix.SYS_SETRESGID, u, u, u},
		{unix.SYS_SETRESUID, u, uintptr(effective), u},
		{unix.SYS_SETFSUID, u, 0, 0}, // which no call says the success of; the next one has
		{unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0, 0},
	} {
		if err := OnAllThreads(call.trap, call.a1, call.a2, call.a3); err != nil {
			return fmt.Errorf("become user %d: %w", user, err)
		}
	}
	if err := KeepCapabilities(keep...); err != nil {
		return err
	}
	// A change of users makes the memory what fs.suid_dumpable says.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close our memory to other processes: %w", err)
	}
	return nil
}
