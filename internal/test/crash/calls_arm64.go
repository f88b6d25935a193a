package crash

import (
	"slices"

	"golang.org/x/sys/unix"
)

// changing are the calls that change files.
var changing = slices.Concat(common, []uint32{unix.SYS_RENAMEAT})

// opening are those that open files, with the number of the argument that holds flags.
var opening = map[uint32]uint32{unix.SYS_OPENAT: 2}
