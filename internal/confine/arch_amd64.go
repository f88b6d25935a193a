package confine

import "golang.org/x/sys/unix"

// auditArch is the architecture of the calls that a filter was written for, and
// foreignBit the first number of another table of calls under the same name: x32.
const (
	auditArch  = unix.AUDIT_ARCH_X86_64
	foreignBit = 0x40000000
)
