package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// tree is the root of a machine before it is mounted: what the overlay of upper
// and lowers will show. Whatever is written before costs a plain file in upper;
// after, the kernel would copy directories up and rename for each.
//
// Names are absolute. Symbolic links are followed within the tree.
type tree struct {
	upper  string
	lowers []string // the top one first
	seen   *seen
	known  *known
}

// known are directories of one tree, by their names without symbolic links. Each start
// writes dozens of files, most of them into a few.
type known struct {
	mu   sync.Mutex
	made map[string]bool     // they are in upper
	dirs map[string][]string // where they are, in upper and lowers, the top one first
}

// treeOf returns the tree of an overlay that is not mounted yet. Trees with the same
// lowers, which do not change, can share what is seen of them.
func treeOf(upper string, lowers []string, s *seen) tree {
	return tree{upper, lowers, s, &known{made: make(map[string]bool), dirs: make(map[string][]string)}}
}

// seen is what was found in layers that do not change.
type seen struct {
	mu    sync.Mutex
	files map[string]glimpse // by path
}

func newSeen() *seen { return &seen{files: make(map[string]glimpse)} }

// glimpse is what is to be seen of a file from outside.
type glimpse struct {
	fi     fs.FileInfo
	err    error
	opaque bool // of a directory: it hides those below it
}

// look looks at a file of a layer.
func (t tree) look(file string) glimpse {
	if isIn(file, t.upper) {
		return glimpseOf(file)
	}
	t.seen.mu.Lock()
	defer t.seen.mu.Unlock()
	g, ok := t.seen.files[file]
	if !ok {
		g = glimpseOf(file)
		t.seen.files[file] = g
	}
	return g
}

func glimpseOf(file string) (g glimpse) {
	g.fi, g.err = os.Lstat(file)
	g.opaque = g.err == nil && g.fi.IsDir() && isOpaque(file)
	return g
}

// isIn reports whether file is dir or below it.
func isIn(file, dir string) bool {
	rest, ok := strings.CutPrefix(file, dir)
	return ok && (rest == "" || rest[0] == '/')
}

// has reports whether dir is known to be in upper.
func (t tree) has(dir string) bool {
	t.known.mu.Lock()
	defer t.known.mu.Unlock()
	return t.known.made[dir]
}

// isDir reports whether name is known to be a directory, and no link to one.
func (t tree) isDir(name string) bool {
	t.known.mu.Lock()
	defer t.known.mu.Unlock()
	return t.known.dirs[name] != nil
}

// dirs returns where the directory name is, which is resolved.
func (t tree) dirs(name string) ([]string, error) {
	t.known.mu.Lock()
	defer t.known.mu.Unlock()
	return t.dirsLocked(name)
}

func (t tree) dirsLocked(name string) ([]string, error) {
	if dirs := t.known.dirs[name]; dirs != nil {
		return dirs, nil
	}
	if name == "/" {
		dirs := append([]string{t.upper}, t.lowers...)
		t.known.dirs[name] = dirs
		return dirs, nil
	}
	above, err := t.dirsLocked(path.Dir(name))
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, dir := range above {
		file := filepath.Join(dir, path.Base(name))
		g := t.look(file)
		if errors.Is(g.err, fs.ErrNotExist) {
			continue
		}
		if g.err != nil {
			return nil, g.err
		}
		if !g.fi.IsDir() {
			if len(dirs) == 0 && !isWhiteout(g.fi) {
				return nil, &fs.PathError{Op: "lookup", Path: name, Err: unix.ENOTDIR}
			}
			break
		}
		if dirs = append(dirs, file); g.opaque {
			break
		}
	}
	if dirs == nil {
		return nil, &fs.PathError{Op: "lookup", Path: name, Err: fs.ErrNotExist}
	}
	t.known.dirs[name] = dirs
	return dirs, nil
}

// maxLinks is the kernel's bound, path_resolution(7).
const maxLinks = 40

// resolve returns name without symbolic links, but for its last element. What is
// not there stays as it is.
func (t tree) resolve(name string) (string, error) {
	if clean := path.Clean("/" + name); clean == name && t.has(path.Dir(name)) {
		return name, nil
	}
	done, rest := "/", strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	for links := 0; len(rest) > 1; {
		next := path.Join(done, rest[0])
		rest = rest[1:]
		if t.isDir(next) {
			done = next
			continue
		}
		file, fi, err := t.lookup(next)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err != nil || fi.Mode()&fs.ModeSymlink == 0 {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("resolve %s: %w", name, unix.ELOOP)
		}
		target, err := os.Readlink(file)
		if err != nil {
			return "", err
		}
		if !path.IsAbs(target) {
			target = path.Join(done, target)
		}
		done = "/"
		rest = append(strings.Split(strings.Trim(path.Clean(target), "/"), "/"), rest...)
	}
	return path.Join(done, rest[0]), nil
}

// lookup returns the file that the overlay will show at name, which is resolved.
func (t tree) lookup(name string) (string, fs.FileInfo, error) {
	if name == "/" {
		g := t.look(t.upper)
		return t.upper, g.fi, g.err
	}
	dirs, err := t.dirs(path.Dir(name))
	if err != nil {
		return "", nil, err
	}
	for _, dir := range dirs {
		file := filepath.Join(dir, path.Base(name))
		g := t.look(file)
		if errors.Is(g.err, fs.ErrNotExist) {
			continue
		}
		if g.err == nil && isWhiteout(g.fi) {
			break
		}
		return file, g.fi, g.err
	}
	return "", nil, &fs.PathError{Op: "lookup", Path: name, Err: fs.ErrNotExist}
}

// stat is lookup with the symbolic links on the way to name resolved.
func (t tree) stat(name string) (string, fs.FileInfo, error) {
	name, err := t.resolve(name)
	if err != nil {
		return "", nil, err
	}
	return t.lookup(name)
}

// readFile returns the content of name, nil if it does not exist.
func (t tree) readFile(name string) ([]byte, error) {
	file, _, err := t.stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return readPlain(file)
}

// readDir returns the names of the regular files in name.
func (t tree) readDir(name string) (names []string, err error) {
	if name, err = t.resolve(name); err != nil {
		return nil, err
	}
	dirs, err := t.dirs(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if _, fi, err := t.lookup(path.Join(name, e.Name())); err == nil && fi.Mode().IsRegular() {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// mkdir makes the directory name, which is resolved, and its parents in the
// upper. Those that are there keep owner and mode; each is called for all, if it
// is not nil, with the place in the upper.
func (t tree) mkdir(name string, each func(dir, file string, isNew bool) error) error {
	var dir string
	for elem := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		dir += "/" + elem
		isNew, err := t.makeOne(dir)
		if err != nil {
			return err
		}
		if each != nil {
			if err := each(dir, filepath.Join(t.upper, dir), isNew); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeOne makes the directory dir in the upper, where its parent is. It reports whether
// there was none in the lowers either.
func (t tree) makeOne(dir string) (isNew bool, err error) {
	t.known.mu.Lock()
	defer t.known.mu.Unlock()
	if t.known.made[dir] {
		return false, nil
	}
	dirs, err := t.dirsLocked(dir)
	if isNew = errors.Is(err, fs.ErrNotExist); err != nil && !isNew {
		return false, err
	}
	file := filepath.Join(t.upper, dir)
	if isNew || dirs[0] != file {
		if err := os.Mkdir(file, 0o755); err != nil {
			return false, err
		}
		if !isNew {
			if err := own(file, t.look(dirs[0]).fi); err != nil {
				return false, err
			}
		}
		t.known.dirs[dir] = append([]string{file}, dirs...)
	}
	t.known.made[dir] = true
	return isNew, nil
}

// makePath makes name and its parents for the user u, and returns where that is
// without links. New directories below the user's home are the user's; those
// that are there are made traversable, since the user is not always who could
// pass them on the host.
func (t tree) makePath(name string, u wire.User) (string, error) {
	home, err := t.resolve(u.Home + "/.")
	if err != nil {
		return "", err
	}
	resolved, err := t.resolve(name + "/.")
	if err != nil {
		return "", err
	}
	return resolved, t.mkdir(resolved, func(dir, file string, isNew bool) error {
		if isNew {
			if dir == home || strings.HasPrefix(dir, home+"/") {
				return os.Chown(file, u.UID, u.GID)
			}
			return nil
		}
		fi, err := os.Stat(file)
		if err == nil && fi.Mode()&0o001 == 0 {
			err = os.Chmod(file, fi.Mode().Perm()|0o011)
		}
		return err
	})
}

// link makes a symbolic link for the user u, unless there is something at its place.
func (t tree) link(l wire.Link, u wire.User) error {
	name, err := t.resolve(l.Path)
	if err != nil {
		return err
	}
	if _, _, err := t.lookup(name); err == nil {
		return fs.ErrExist
	}
	dir, err := t.makePath(path.Dir(name), u)
	if err != nil {
		return err
	}
	file := filepath.Join(t.upper, dir, path.Base(name))
	if err := os.Symlink(l.Target, file); err != nil {
		return err
	}
	return os.Lchown(file, u.UID, u.GID)
}

// own gives file the owner and the mode of fi.
func own(file string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.ErrUnsupported
	}
	// In this order: a change of the owner takes setuid away.
	if err := os.Lchown(file, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Chmod(file, st.Mode&0o7777)
}

// writeFile makes name a new file, whatever stands there.
func (t tree) writeFile(name string, data []byte, perm fs.FileMode) error {
	name, err := t.resolve(name)
	if err != nil {
		return err
	}
	if dir := path.Dir(name); !t.has(dir) {
		if err := t.mkdir(dir, nil); err != nil {
			return err
		}
	}
	t.known.mu.Lock()
	delete(t.known.dirs, name) // it was an empty directory
	t.known.mu.Unlock()
	return replaceFile(filepath.Join(t.upper, name), data, perm)
}

// edit changes the content of name, which keeps its owner and mode, or makes it
// with perm.
func (t tree) edit(name string, perm fs.FileMode, edit func([]byte) []byte) error {
	name, err := t.resolve(name)
	if err != nil {
		return err
	}
	file, fi, err := t.lookup(name)
	if errors.Is(err, fs.ErrNotExist) {
		return t.writeFile(name, edit(nil), perm)
	}
	if err != nil {
		return err
	}
	data, err := readPlain(file)
	if err != nil {
		return err
	}
	if err := t.writeFile(name, edit(data), perm); err != nil {
		return err
	}
	return own(filepath.Join(t.upper, name), fi)
}

// findProgram is exec.LookPath in the tree.
func (t tree) findProgram(name string) (string, bool) {
	if strings.Contains(name, "/") {
		return name, true // whether it is there, who runs it finds out
	}
	for dir := range strings.SplitSeq(defaultPath, ":") {
		file := path.Join(dir, name)
		_, fi, err := t.stat(file)
		if err == nil && (fi.Mode()&fs.ModeSymlink != 0 || fi.Mode().IsRegular() && fi.Mode()&0o111 != 0) {
			return file, true
		}
	}
	return "", false
}

// isWhiteout reports whether a file hides what is below it,
// filesystems/overlayfs.rst.
func isWhiteout(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && fi.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0
}

// isOpaque reports whether a directory hides those below it.
func isOpaque(dir string) bool {
	var value [1]byte
	n, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

// makeHome makes the home directory of u from /etc/skel.
func (t tree) makeHome(u wire.User) error {
	home, err := t.makePath(u.Home, u)
	if err != nil {
		return err
	}
	// It may have been there, another's.
	if err := os.Chown(filepath.Join(t.upper, home), u.UID, u.GID); err != nil {
		return err
	}
	names, err := t.readDir("/etc/skel")
	if err != nil {
		return err
	}
	// A first zsh would ask its questions where no file of the user's is.
	if !slices.Contains(names, ".zshrc") {
		names = append(names, ".zshrc")
	}
	for _, name := range names {
		file := path.Join(home, name)
		if _, _, err := t.lookup(file); err == nil {
			continue // the image has one
		}
		data, err := t.readFile(path.Join("/etc/skel", name))
		if err != nil {
			return err
		}
		if err := t.writeFile(file, data, 0o644); err != nil {
			return err
		}
		if err := os.Chown(filepath.Join(t.upper, file), u.UID, u.GID); err != nil {
			return err
		}
	}
	return nil
}
