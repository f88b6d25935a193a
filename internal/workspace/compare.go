package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Compare completes edits by what the host says of them: what is new gets no permission
// that umask, or the default ACL of its directory, takes from all that its user makes, and
// a file with several names has its Parts counted.
func Compare(ctx context.Context, dir string, edits []Edit, umask uint32) error {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		mask(edits, func(string) uint32 { return 0o777 &^ umask })
		return nil // without it there is nothing to part from; an apply says so
	}
	defer unix.Close(root)
	mask(edits, newPermissions(root, edits, umask).in)
	ids := make(map[int][2]uint64) // by the number of the edit
	others := make(map[[2]uint64]int)
	for i := range edits {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := &edits[i]
		if e.OldKind != File || e.Skipped != "" {
			continue
		}
		parent, name := splitPath(e.Packed())
		fd, err := openBeneath(root, parent, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		now, err := look(fd, name)
		unix.Close(fd)
		if err != nil || now.kind != File || now.links < 2 {
			continue
		}
		id := [2]uint64{now.id.Dev, now.id.Ino}
		if _, ok := others[id]; !ok {
			others[id] = int(min(now.links, 1<<20))
		}
		others[id]--
		ids[i] = id
	}
	for i, id := range ids {
		if e := &edits[i]; e.Op == Modify && e.NewKind == File {
			e.Parts = int32(max(others[id], 0))
		}
	}
	return nil
}

// noMode is none.
const noMode = ^uint32(0)

// mask leaves what is new the permissions that are given in its directory. What the guest has given another
// mode keeps it, as after a chmod on the host; it is in the list.
func mask(edits []Edit, given func(dir string) uint32) {
	isNew := func(e *Edit) bool {
		return e.OldKind != e.NewKind && (e.NewKind == File || e.NewKind == Dir)
	}
	modes := make(map[string]uint32) // of new files that have more names
	for i := range edits {
		if link := edits[i].Link; link != "" {
			modes[link] = noMode
		}
	}
	for i := range edits {
		if e := &edits[i]; isNew(e) && e.Link == "" {
			dir, _ := splitPath(e.Path)
			e.NewMode &= given(dir)
			if _, ok := modes[e.Path]; ok {
				modes[e.Path] = e.NewMode
			}
		}
	}
	// The names of one file have one mode.
	for i := range edits {
		if e := &edits[i]; e.Link != "" {
			if mode := modes[e.Link]; mode != noMode {
				e.NewMode = mode
			}
		}
	}
}

// Umask returns the process's umask.
func Umask() (uint32, error) {
	// The system call can only set it, for all threads.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("read the umask: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "Umask:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 8, 32)
			if err != nil {
				return 0, fmt.Errorf("read the umask: %w", err)
			}
			return uint32(n) & 0o777, nil
		}
	}
	return 0, errors.New("the kernel does not tell the umask")
}
