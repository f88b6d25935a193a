package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// scanner finds out what a directory on the host has become since a manifest was made of
// it: it looks at names, kinds and times, and reads no content.
type scanner struct {
	opts     *Outgoing
	exclude  excludes
	manifest *Manifest // with what was sent
	root     int
	seen     []bool // entries of the manifest that are there, or of which nothing is known
	found    []found
	bytes    int64
}

// found is a path that may differ from the manifest.
type found struct {
	old *Entry // nil for nothing
	now Entry  // of Kind None where nothing is any more
}

// scan returns what may differ, in the order of comparePaths.
func (s *scanner) scan(ctx context.Context) ([]found, error) {
	s.seen = make([]bool, len(s.manifest.Entries))
	d, err := s.open(".")
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", termsafe.Quote(s.manifest.Root), err)
	}
	if len(names) == 0 && len(s.manifest.Entries) > 0 {
		// Far more often a disk that is not mounted than what somebody wants.
		return nil, fault.New(fault.SyncEmpty, fault.Args{"dir": s.manifest.Root}, "%s is empty, and nothing is deleted in the machine for that", termsafe.Quote(s.manifest.Root))
	}
	if len(s.opts.At) == 0 {
		if err := s.dir(ctx, ".", 0); err != nil {
			return nil, err
		}
		s.gone(0, len(s.seen))
	}
	for _, path := range s.opts.At {
		if err := s.at(ctx, path); err != nil {
			return nil, err
		}
	}
	s.placedGone()
	slices.SortFunc(s.found, func(a, b found) int { return comparePaths(a.now.Path, b.now.Path) })
	return slices.CompactFunc(s.found, func(a, b found) bool { return a.now.Path == b.now.Path }), nil
}

// at looks at one path and what is below it.
func (s *scanner) at(ctx context.Context, path string) error {
	for q := range upwards(path) {
		if s.opts.Skip(q) || q != path && s.exclude.match(q, true) {
			return nil
		}
	}
	parent, name := splitPath(path)
	fd, err := openBeneath(s.root, parent, unix.O_PATH|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		if parent != "." {
			return s.at(ctx, parent) // what became of that is what there is to say
		}
		return nil
	case err != nil:
		s.note(path, "cannot be reached: "+err.Error())
		return nil
	}
	isDir, err := s.child(fd, path, name)
	unix.Close(fd)
	if err == nil && isDir {
		err = s.dir(ctx, path, depthOf(path))
	}
	if err != nil {
		return err
	}
	i, _ := s.index(path)
	n := i
	for n < len(s.seen) && (s.manifest.Entries[n].Path == path || below(s.manifest.Entries[n].Path, path)) {
		n++
	}
	s.gone(i, n)
	return nil
}

// placedGone notes what was applied, and is in no manifest, and was removed since.
func (s *scanner) placedGone() {
	if s.opts.Placed == nil {
		return
	}
	for path := range s.opts.Placed.at {
		there := slices.ContainsFunc(s.opts.Placed.states(path), func(p State) bool { return p.Kind != None })
		if _, known := s.index(path); known || !there || checkPath(path) != nil || !s.inScope(path) {
			continue
		}
		parent, name := splitPath(path)
		fd, err := openBeneath(s.root, parent, unix.O_PATH|unix.O_DIRECTORY)
		if err == nil {
			var st unix.Stat_t
			err = unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
			unix.Close(fd)
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			s.found = append(s.found, found{nil, Entry{Path: path}})
		}
	}
}

// inScope reports whether a path that is not on the host any more is to be looked at.
func (s *scanner) inScope(path string) bool {
	for q := range upwards(path) {
		if s.opts.Skip(q) || s.exclude.match(q, true) {
			return false
		}
	}
	return len(s.opts.At) == 0 || slices.ContainsFunc(s.opts.At, func(at string) bool { return path == at || below(path, at) })
}

func depthOf(path string) int {
	n := 0
	for range upwards(path) {
		n++
	}
	return n
}

func (s *scanner) index(path string) (int, bool) {
	return slices.BinarySearchFunc(s.manifest.Entries, path, func(e Entry, p string) int { return comparePaths(e.Path, p) })
}

// gone notes those of the entries from i to n that were not met.
func (s *scanner) gone(i, n int) {
	for ; i < n; i++ {
		e := &s.manifest.Entries[i]
		if s.seen[i] || s.opts.Skip(e.Path) {
			continue
		}
		s.seen[i] = true
		s.found = append(s.found, found{e, Entry{Path: e.Path}})
	}
}

// unknown leaves a path and what is below it as it was.
func (s *scanner) unknown(path, why string) {
	if why != "" {
		s.note(path, why)
	}
	i, _ := s.index(path)
	for ; i < len(s.seen) && (s.manifest.Entries[i].Path == path || below(s.manifest.Entries[i].Path, path)); i++ {
		s.seen[i] = true
	}
}

func (s *scanner) note(path, why string) {
	if s.opts.Warn != nil {
		s.opts.Warn(Note{path, why})
	}
}

func (s *scanner) open(path string) (*os.File, error) {
	fd, err := openBeneath(s.root, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// dir looks at what is in a directory, one open at a time.
func (s *scanner) dir(ctx context.Context, path string, depth int) error {
	if depth >= maxDepth {
		s.unknown(path, fmt.Sprintf("more than %d directories deep; left out", maxDepth))
		return nil
	}
	d, err := s.open(path)
	if err != nil {
		if !errors.Is(err, unix.ENOENT) {
			s.unknown(path, "cannot be read; left as it is in the machine")
		}
		return nil
	}
	defer d.Close()
	if path != "." && kernelFS(int(d.Fd())) {
		s.unknown(path, "a file system of the kernel is mounted there; left out")
		return nil
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		s.unknown(path, "cannot be read; left as it is in the machine")
		return nil
	}
	slices.Sort(names)
	var dirs []string
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		isDir, err := s.child(int(d.Fd()), joinPath(path, name), name)
		if err != nil {
			return err
		}
		if isDir {
			dirs = append(dirs, name)
		}
	}
	d.Close()
	for _, name := range dirs {
		if err := s.dir(ctx, joinPath(path, name), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// child looks at one name in an open directory. It reports whether that is a directory that
// is to be looked into.
func (s *scanner) child(dir int, path, name string) (isDir bool, err error) {
	if checkPath(path) != nil {
		s.note(path, "the path is too long; left out")
		return false, nil
	}
	if s.opts.Skip(path) {
		s.unknown(path, "")
		return false, nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if !errors.Is(err, unix.ENOENT) {
			s.unknown(path, "cannot be looked at; left as it is in the machine")
		}
		return false, nil
	}
	now := Entry{Path: path, Kind: kindOf(&st), Mode: st.Mode & 0o777, ID: identity(&st)}
	if s.exclude.match(path, now.Kind == Dir) {
		s.unknown(path, "")
		return false, nil
	}
	switch now.Kind {
	case Other:
		s.unknown(path, specialName(st.Mode)+"; left out")
		return false, nil
	case File:
		now.Size = st.Size
	case Symlink:
		if now.Target, err = readlinkat(dir, name); err != nil {
			s.unknown(path, "changed while it was looked at; left out")
			return false, nil
		}
		now.Mode = 0o777
	}
	var old *Entry
	if i, ok := s.index(path); ok {
		s.seen[i] = true
		old = &s.manifest.Entries[i]
	}
	if old != nil && old.Kind == now.Kind {
		sameMode := old.Mode&0o777 == now.Mode
		switch {
		case now.Kind == Dir && sameMode,
			now.Kind == Symlink && old.Target == now.Target,
			now.Kind == File && sameMode && old.ID == now.ID && s.opts.trusts(old):
			return now.Kind == Dir, nil
		}
	}
	s.bytes += int64(len(path) + len(now.Target))
	if err := checkTotal(len(s.found)+1, s.bytes, maxEntryBytes); err != nil {
		return false, err
	}
	s.found = append(s.found, found{old, now})
	return now.Kind == Dir, nil
}
