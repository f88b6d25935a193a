package share

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Guard is what of a directory a guest does not see, or cannot change: paths relative to
// it, whose parents are directories.
type Guard struct {
	Hide    [][]byte `json:"hide,omitempty"` // any bytes
	Protect [][]byte `json:"protect,omitempty"`
}

// Empty reports whether nothing is guarded.
func (g Guard) Empty() bool { return len(g.Hide)+len(g.Protect) == 0 }

// Bounds of the search for what is guarded.
const (
	mostEntries = 1_000_000
	mostTime    = 30 * time.Second
	mostGuarded = 1000     // paths
	mostBytes   = 64 << 10 // of them, since they are an argument of the server
)

// hooksDir is where git's hooks are by default.
const hooksDir = ".git/hooks"

// FindGuard finds what the patterns of a share match now, and returns the patterns that
// match nothing. Other names of the same files, by symbolic links and hard links, are
// guarded as well. What cannot be guarded is an error.
func FindGuard(ctx context.Context, s plan.Share) (g Guard, unmatched []string, err error) {
	if len(s.Hide)+len(s.Protect) == 0 && !s.Hooks {
		return g, nil, nil
	}
	f, err := newFinder(ctx, s)
	if err != nil {
		return g, nil, err
	}
	defer unix.Close(f.root)
	if err := f.find(); err != nil {
		return g, nil, err
	}
	if err := f.otherNames(); err != nil {
		return g, nil, err
	}
	if s.Hooks {
		if err := f.hooks(); err != nil {
			return g, nil, err
		}
	}
	bytes := 0
	for p, how := range f.guarded {
		bytes += len(p)
		if how == hidden {
			g.Hide = append(g.Hide, []byte(p))
		} else {
			g.Protect = append(g.Protect, []byte(p))
		}
	}
	if len(f.guarded) > mostGuarded || bytes > mostBytes {
		return g, nil, f.refuse("", fmt.Sprintf("%d paths match; the most are %d: name the directories that they are in", len(f.guarded), mostGuarded))
	}
	for i := range f.patterns {
		if p := &f.patterns[i]; p.matched == 0 {
			unmatched = append(unmatched, p.text)
		}
	}
	return g, unmatched, nil
}

// guarding is how a path is guarded; hidden is more than protected.
type guarding int

const (
	protected guarding = iota + 1
	hidden
)

// pattern is one of the user's.
type pattern struct {
	text    string
	how     guarding
	matcher workspace.Matcher
	matched int
}

// finder looks for what is guarded in a directory.
type finder struct {
	ctx      context.Context
	share    plan.Share
	root     int
	patterns []pattern
	guarded  map[string]guarding
	left     int
	end      time.Time
}

func newFinder(ctx context.Context, s plan.Share) (*finder, error) {
	f := &finder{ctx: ctx, share: s, guarded: make(map[string]guarding), left: mostEntries, end: time.Now().Add(mostTime)}
	for _, list := range []struct {
		texts []string
		how   guarding
	}{{s.Hide, hidden}, {s.Protect, protected}} {
		for _, text := range list.texts {
			m, err := workspace.NewMatcher([]string{text})
			if err != nil {
				return nil, err
			}
			f.patterns = append(f.patterns, pattern{text: text, how: list.how, matcher: m})
		}
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, s.Source, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	f.root = fd
	return f, nil
}

// refuse is the error for what cannot be guarded.
func (f *finder) refuse(p, why string) error {
	dir := f.share.Source
	if p != "" {
		why = termsafe.Quote(p) + " " + why
	}
	return fault.New(fault.ShareUnguarded, fault.Args{"dir": dir}, "hide and protect in %s: %s", termsafe.Quote(dir), why)
}

// find finds what the patterns match. Where each names one path, nothing else is looked at.
func (f *finder) find() error {
	var exact []string
	for i := range f.patterns {
		paths, ok := f.patterns[i].matcher.Paths()
		if !ok {
			return f.walk(".", f.judge)
		}
		exact = append(exact, paths...)
	}
	for _, p := range exact {
		st, err := f.look(p)
		if errors.Is(err, unix.ELOOP) {
			return f.refuse(p, "is behind a symbolic link: name the directory that it leads to")
		}
		if err != nil {
			continue // it is not there
		}
		if _, err := f.judge(p, &st); err != nil {
			return err
		}
	}
	return nil
}

// hooks protects git's hooks, as far as that can be done: nobody asked for it.
func (f *finder) hooks() error {
	st, err := f.look(hooksDir)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || f.guarded[hooksDir] > 0 || f.below(hooksDir, protected) {
		return nil
	}
	f.guarded[hooksDir] = protected
	asked := maps.Clone(f.guarded)
	err = f.otherNames()
	if fault.CodeOf(err) == fault.ShareUnguarded || len(f.guarded) > mostGuarded {
		f.guarded, err = asked, nil // by other names they can be changed
	}
	return err
}

// judge guards a path that a pattern matches, and reports whether what is below is to be
// looked at.
func (f *finder) judge(p string, st *unix.Stat_t) (bool, error) {
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	for i := range f.patterns {
		pat := &f.patterns[i]
		if !pat.matcher.Match(p, dir) {
			continue
		}
		pat.matched++
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			if err := f.link(p, pat.how); err != nil {
				return false, err
			}
			continue
		}
		f.guarded[p] = max(f.guarded[p], pat.how)
	}
	return f.guarded[p] != hidden, nil
}

// link guards what a link leads to. That another one takes the link's place cannot be helped:
// nothing can be mounted on a link.
func (f *finder) link(p string, how guarding) error {
	if how == protected {
		return f.refuse(p, "is a symbolic link, which cannot be protected: protect what it leads to")
	}
	to, err := filepath.EvalSymlinks(filepath.Join(f.share.Source, filepath.FromSlash(p)))
	if err != nil {
		return nil // it leads to nothing
	}
	rest, err := filepath.Rel(f.share.Source, to)
	if err != nil || rest == ".." || strings.HasPrefix(rest, "../") {
		return nil // the machine cannot get there
	}
	if rest == "." {
		return f.refuse(p, "leads to the whole directory, which cannot be hidden")
	}
	f.guarded[rest] = hidden
	return nil
}

// look returns what is at a path, without following a link.
func (f *finder) look(p string) (st unix.Stat_t, err error) {
	fd, err := openIn(f.root, p, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}

// walk visits all that is below dir. Of directories visit says whether to enter them.
func (f *finder) walk(dir string, visit func(p string, st *unix.Stat_t) (bool, error)) error {
	fd, err := openIn(f.root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EACCES) && !f.passes(dir):
		return nil // the machine, of the same user, has no way in either
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENAMETOOLONG):
		return f.refuse(dir, "cannot be searched: "+err.Error())
	}
	if err != nil {
		return fmt.Errorf("look for what is guarded: %w", err)
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	for {
		names, err := d.Readdirnames(256)
		for _, name := range names {
			if f.left--; f.left < 0 || f.left%1000 == 0 && time.Now().After(f.end) {
				return f.refuse("", "it has too many files to search: name paths from its top, such as \"/.env\"")
			}
			if err := context.Cause(f.ctx); err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				continue // it is gone
			}
			p := path.Join(dir, name)
			enter, err := visit(p, &st)
			if err == nil && enter && st.Mode&unix.S_IFMT == unix.S_IFDIR {
				err = f.walk(p, visit)
			}
			if err != nil {
				return err
			}
		}
		if len(names) == 0 || err != nil {
			return nil
		}
	}
}

// passes reports whether a directory that cannot be listed has a way in for who knows a path, or
// for who gives himself the right.
func (f *finder) passes(dir string) bool {
	st, err := f.look(dir)
	if err != nil || int(st.Uid) == os.Geteuid() {
		return true
	}
	fd, err := openIn(f.root, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false // not even to there
	}
	defer unix.Close(fd)
	return unix.Faccessat(fd, ".", unix.X_OK, 0) == nil
}

// fileID is a file, whatever its name.
type fileID struct{ dev, ino uint64 }

// otherNames guards the other names, in the directory, of files that have several: a mount
// guards a name.
func (f *finder) otherNames() error {
	files := make(map[fileID]guarding)
	for _, p := range slices.Sorted(maps.Keys(f.guarded)) {
		how := f.guarded[p]
		note := func(_ string, st *unix.Stat_t) (bool, error) {
			if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1 {
				id := fileID{st.Dev, st.Ino}
				files[id] = max(files[id], how)
			}
			return true, nil
		}
		st, err := f.look(p)
		if err == nil {
			_, err = note(p, &st)
		}
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = f.walk(p, note)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(files) == 0 {
		return nil
	}
	return f.walk(".", func(p string, st *unix.Stat_t) (bool, error) {
		how := f.guarded[p]
		if how < hidden && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1 {
			if more := files[fileID{st.Dev, st.Ino}]; more > how && !f.below(p, more) {
				f.guarded[p] = more
			}
		}
		return how < hidden, nil
	})
}

// below reports whether a path is in a directory that is guarded so.
func (f *finder) below(p string, how guarding) bool {
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if f.guarded[dir] >= how {
			return true
		}
	}
	return false
}

// openIn opens a path below an open directory without following a link on the way, and at
// the end only with O_PATH and O_NOFOLLOW, as which it returns the link.
func openIn(root int, p string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	for range 100 { // a rename elsewhere can break off a lookup
		fd, err := unix.Openat2(root, p, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}
