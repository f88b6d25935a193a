package proc

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// DropBounding takes all capabilities but keep from what programs that the
// thread executes can ever get, capabilities(7).
func DropBounding(keep ...uintptr) error {
next:
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		for _, k := range keep {
			if c == k {
				continue next
			}
		}
		// EINVAL: a kernel that does not know it; EPERM: a container's
		// root who has too little left to give up.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("drop capabilities: %w", err)
		}
	}
	return nil
}

// LockRoot makes uid 0 an ordinary user to the programs that the thread executes,
// for ever.
func LockRoot() error {
	// linux/securebits.h
	const (
		noRoot, noRootLocked                  = 1 << 0, 1 << 1
		noSetuidFixup, noFixupLocked          = 1 << 2, 1 << 3
		keepCapsLocked                        = 1 << 5
		noAmbientRaise, noRaiseLocked         = 1 << 6, 1 << 7
		bits                          uintptr = noRoot | noRootLocked | noSetuidFixup | noFixupLocked | keepCapsLocked | noAmbientRaise | noRaiseLocked
	)
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, bits, 0, 0, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("make root an ordinary user: %w", err)
	}
	return nil
}

// NoNewPrivileges makes setuid programs ordinary ones to the thread, and lets an
// ordinary user limit it.
func NoNewPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	return nil
}
