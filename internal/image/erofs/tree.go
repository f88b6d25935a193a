package erofs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Types of directory entries that the writer tells apart.
const (
	typeRegular = 1
	typeDir     = 2
	typeSymlink = 7
)

// inode is what the writer remembers of a file: where its inode is. It is in
// the tree once for every name.
type inode struct {
	off    int64  // in the image
	target string // of a symbolic link
	dir    *dir   // when it is a directory
	nlink  uint32
	ftype  byte
}

// dir is a directory, which is written at the end.
type dir struct {
	attrs
	children map[string]*inode
}

// attrs are the attributes of a directory.
type attrs struct {
	mode, uid, gid uint32
	mtime          time.Time
	xattrs         map[string][]byte
}

// charge accounts for an entry with strings of n bytes.
func (w *Writer) charge(n int) error {
	if w.tree += int64(treeEntry + n); w.tree > maxTree {
		return fmt.Errorf("the names in the image take more than %d bytes", int64(maxTree))
	}
	return nil
}

func (w *Writer) newDir() *inode {
	w.tree += 2 * treeEntry // seen by the next charge
	return &inode{
		ftype: typeDir,
		dir: &dir{
			attrs:    attrs{mode: unix.S_IFDIR | 0o755, mtime: w.opts.BuildTime},
			children: make(map[string]*inode),
		},
	}
}

// lookup returns the file at a clean path, or nil.
func (w *Writer) lookup(path string) *inode {
	n := w.root
	if path == "" {
		return n
	}
	for name := range strings.SplitSeq(path, "/") {
		if n.dir == nil {
			return nil
		}
		if n = n.dir.children[name]; n == nil {
			return nil
		}
	}
	return n
}

// checkParents says whether all that exists above path is a directory.
func (w *Writer) checkParents(path string) error {
	n := w.root
	for name := range strings.SplitSeq(path, "/") {
		if n.dir == nil {
			return syscall.ENOTDIR
		}
		if n = n.dir.children[name]; n == nil {
			return nil
		}
	}
	return nil
}

// makeDirs returns the directory at path and makes what is missing of it.
// checkParents has been asked.
func (w *Writer) makeDirs(path string) *dir {
	n := w.root
	if path == "" {
		return n.dir
	}
	for name := range strings.SplitSeq(path, "/") {
		next := n.dir.children[name]
		if next == nil {
			next = w.newDir()
			n.dir.children[name] = next
		}
		n = next
	}
	return n.dir
}

// dir returns the directory at path; it replaces a file that is there.
func (w *Writer) dir(path string) (*dir, error) {
	if path == "" {
		return w.root.dir, nil
	}
	if err := w.checkParents(path); err != nil {
		return nil, err
	}
	if old := w.lookup(path); old != nil && old.dir != nil {
		return old.dir, nil
	}
	n := w.newDir()
	w.put(path, n)
	return n.dir, nil
}

// put gives a file a name, and drops the one that has the name.
func (w *Writer) put(path string, n *inode) {
	parent, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	d := w.makeDirs(parent)
	if old := d.children[name]; old != nil {
		w.drop(old)
	}
	d.children[strings.Clone(name)] = n // the whole path need not stay in memory
}

// drop takes a name from a file, and from all below it.
func (w *Writer) drop(n *inode) {
	if n.dir == nil {
		n.nlink--
		w.linked = append(w.linked, n)
		return
	}
	for _, child := range n.dir.children {
		w.drop(child)
	}
}

// maxSymlinks is Linux's limit in the resolution of one path.
const maxSymlinks = 40

// resolve follows the symbolic links above the last name of path, inside the
// image, so that "lib/x" ends up in "usr/lib/x" where lib is such a link.
func (w *Writer) resolve(path string) (string, error) {
	if !w.hasLinks(path) {
		return path, nil
	}
	var names []string        // the result
	files := []*inode{w.root} // the root and the file of each name, nil where there is none
	rest := strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name { // only the targets of links have these
		case "", ".":
			continue
		case "..":
			if len(names) > 0 {
				names, files = names[:len(names)-1], files[:len(files)-1]
			}
			continue
		}
		var child *inode
		if n := files[len(files)-1]; n != nil && n.dir != nil {
			child = n.dir.children[name]
		}
		if child == nil || child.ftype != typeSymlink || len(rest) == 0 {
			names, files = append(names, name), append(files, child)
			continue
		}
		if links++; links > maxSymlinks {
			return "", errors.New("too many levels of symbolic links")
		}
		if strings.HasPrefix(child.target, "/") {
			names, files = nil, files[:1]
		}
		rest = append(strings.Split(child.target, "/"), rest...)
	}
	return strings.Join(names, "/"), nil
}

// hasLinks says whether there is a symbolic link above the last name of path.
func (w *Writer) hasLinks(path string) bool {
	n := w.root
	for name := range strings.SplitSeq(path, "/") {
		if n.dir == nil {
			return n.ftype == typeSymlink
		}
		if n = n.dir.children[name]; n == nil {
			return false
		}
	}
	return false
}

// dirent is an entry of a directory.
type dirent struct {
	name string
	ino  *inode
}

// dirList is a directory that is ready to be written.
type dirList struct {
	*dir
	ino     *inode
	entries []dirent // sorted, with "." and ".."
}

// collect lists the directories, parents before their children, and counts
// what the image holds.
func (w *Writer) collect() ([]dirList, Stats) {
	var dirs []dirList
	var s Stats
	linked := make(map[*inode]bool) // files with several names that were counted
	var visit func(n, parent *inode)
	visit = func(n, parent *inode) {
		s.Dirs++
		n.nlink = 2
		entries := make([]dirent, 0, len(n.dir.children)+2)
		entries = append(entries, dirent{".", n}, dirent{"..", parent})
		for name, child := range n.dir.children {
			entries = append(entries, dirent{name, child})
		}
		slices.SortFunc(entries, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
		dirs = append(dirs, dirList{dir: n.dir, ino: n, entries: entries})
		for _, e := range entries {
			child := e.ino
			switch {
			case e.name == "." || e.name == "..":
			case child.dir != nil:
				n.nlink++
				visit(child, n)
			case linked[child]:
				s.Links++
			case child.ftype == typeRegular:
				s.Files++
			case child.ftype == typeSymlink:
				s.Symlinks++
			default:
				s.Others++
			}
			if child.dir == nil && child.nlink > 1 {
				linked[child] = true
			}
		}
	}
	visit(w.root, w.root)
	return dirs, s
}
