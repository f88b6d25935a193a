package crash

import (
	"slices"

	"golang.org/x/sys/unix"
)

// changing are the calls that change files.
var changing = slices.Concat(common, []uint32{
	unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_LINK, unix.SYS_UNLINK, unix.SYS_MKDIR, unix.SYS_RMDIR, unix.SYS_SYMLINK,
	unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_CREAT,
})

// opening are those that open files, with the number of the argument that holds flags.
var opening = map[uint32]uint32{unix.SYS_OPEN: 1, unix.SYS_OPENAT: 2}
