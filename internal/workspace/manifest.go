package workspace

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/erofs"
)

// Bounds of a manifest, and with it of the memory that a workspace costs.
const (
	maxEntries    = 4 << 20
	maxEntryBytes = 512 << 20 // of all paths and targets
)

// checkTotal refuses a manifest of so many entries with so many bytes of paths and targets.
func checkTotal(entries int, bytes, maxBytes int64) error {
	if entries <= maxEntries && bytes <= maxBytes {
		return nil
	}
	return fault.New(fault.WorkspaceTooManyFiles, fault.Args{"limit": strconv.Itoa(maxEntries)},
		"more than %d files or %d MiB of their paths", maxEntries, maxBytes>>20)
}

// Manifest is what Pack saw on the host: the state that the guest's changes
// start from, and the one in which a host file has to be to be replaced.
type Manifest struct {
	Root      string  // path of the workspace on the host
	Started   int64   // when packing began, in nanoseconds since 1970
	ImageSize int64   // bytes of the image, without what pads it to plan.DiskSize
	Entries   []Entry // in the order of comparePaths, without the root

	// GitCarried says that .git in the image was made for the copy; see CarriedGit.
	GitCarried bool
	GitPrefix  string
}

// Files returns how many files the workspace had.
func (m *Manifest) Files() int {
	n := 0
	for i := range m.Entries {
		if m.Entries[i].Kind == File {
			n++
		}
	}
	return n
}

// Entry is one path of a manifest.
type Entry struct {
	Path   string
	Kind   Kind   // File, Dir or Symlink
	Mode   uint32 // permission bits and setuid, setgid, sticky, as on the host
	Size   int64  // of a file
	Target string // of a symbolic link
	ID     Identity
}

// Identity tells whether a host file is the one that was packed and has not
// been touched since, without reading it.
type Identity struct {
	Dev, Ino     uint64
	MTime, CTime int64 // nanoseconds since 1970
}

func identity(st *unix.Stat_t) Identity {
	return Identity{
		Dev:   uint64(st.Dev),
		Ino:   st.Ino,
		MTime: unix.TimespecToNsec(st.Mtim),
		CTime: unix.TimespecToNsec(st.Ctim),
	}
}

func kindOf(st *unix.Stat_t) Kind {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return File
	case unix.S_IFDIR:
		return Dir
	case unix.S_IFLNK:
		return Symlink
	}
	return Other
}

// OpenImage opens the image that Pack wrote together with the manifest.
func (m *Manifest) OpenImage(r io.ReaderAt) (*erofs.Image, error) {
	im, err := erofs.Open(r, m.ImageSize)
	if err != nil {
		return nil, fmt.Errorf("open the packed workspace: %w", err)
	}
	return im, nil
}

// Find returns the entry of a path, nil when it was not packed.
func (m *Manifest) Find(path string) *Entry {
	i, ok := slices.BinarySearchFunc(m.Entries, path, func(e Entry, p string) int {
		return comparePaths(e.Path, p)
	})
	if !ok {
		return nil
	}
	return &m.Entries[i]
}

// Below returns the entries in the directory dir.
func (m *Manifest) Below(dir string) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		i, _ := slices.BinarySearchFunc(m.Entries, dir+"/", func(e Entry, p string) int { return comparePaths(e.Path, p) })
		for ; i < len(m.Entries) && below(m.Entries[i].Path, dir) && yield(&m.Entries[i]); i++ {
		}
	}
}

// trusts reports whether e's times can tell a later change. A file that was
// changed just before packing began may be changed again without its times
// moving on: the kernel's clock for them ticks only every few milliseconds,
// that of some network file systems every second or two.
func (m *Manifest) trusts(e *Entry) bool {
	return e.ID.CTime < m.Started-int64(granularity)
}
