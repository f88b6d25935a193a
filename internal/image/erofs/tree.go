package erofs

import (
	"errors"
	"maps"
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

// inode is what the writer remembers of an inode.
type inode struct {
	off    int64  // in the image
	target string // of a symbolic link
	nlink  uint32
	ftype  byte
}

// node is a name in the tree: a file, or a directory when dir is set.
type node struct {
	ino *inode
	dir *dir
}

// dir is a directory, which is written at the end.
type dir struct {
	attrs
	children map[string]*node
}

// attrs are the attributes of a directory.
type attrs struct {
	mode, uid, gid uint32
	mtime          time.Time
	xattrs         map[string][]byte
}

func (w *Writer) newDir() *node {
	return &node{
		ino: &inode{ftype: typeDir},
		dir: &dir{
			attrs:    attrs{mode: unix.S_IFDIR | 0o755, mtime: w.opts.BuildTime},
			children: make(map[string]*node),
		},
	}
}

// lookup returns the node at a clean path, or nil.
func (w *Writer) lookup(path string) *node {
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
	w.putNode(path, n)
	return n.dir, nil
}

// put gives an inode a name; it replaces what has the name.
func (w *Writer) put(path string, ino *inode) {
	w.putNode(path, &node{ino: ino})
}

func (w *Writer) putNode(path string, n *node) {
	parent, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	// A name of its own: the path's memory need not stay.
	name = strings.Clone(name)
	d := w.makeDirs(parent)
	if old := d.children[name]; old != nil {
		w.drop(old)
	}
	d.children[name] = n
}

// drop forgets a node and all below it.
func (w *Writer) drop(n *node) {
	if n.dir == nil {
		n.ino.nlink--
		w.linked = append(w.linked, n.ino)
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
	links := 0
	rest := strings.Split(path, "/")
	var done []string
	n := w.root
	nodes := []*node{n} // of done, behind the root
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..": // only out of a link's target
			if len(done) > 0 {
				done = done[:len(done)-1]
				nodes = nodes[:len(nodes)-1]
			}
			n = nodes[len(nodes)-1]
			continue
		}
		var child *node
		if n != nil && n.dir != nil {
			child = n.dir.children[name]
		}
		if child != nil && child.ino.ftype == typeSymlink && len(rest) > 0 {
			if links++; links > maxSymlinks {
				return "", errors.New("too many levels of symbolic links")
			}
			target := child.ino.target
			if strings.HasPrefix(target, "/") {
				done, nodes, n = nil, nodes[:1], w.root
			}
			rest = append(strings.Split(target, "/"), rest...)
			continue
		}
		done = append(done, name)
		nodes = append(nodes, child)
		n = child
	}
	return strings.Join(done, "/"), nil
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
	seen := make(map[*inode]bool) // with several names
	var visit func(n, parent *node)
	visit = func(n, parent *node) {
		s.Dirs++
		n.ino.nlink = 2
		entries := make([]dirent, 0, len(n.dir.children)+2)
		entries = append(entries, dirent{".", n.ino}, dirent{"..", parent.ino})
		for name, child := range n.dir.children {
			entries = append(entries, dirent{name, child.ino})
		}
		slices.SortFunc(entries, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
		dirs = append(dirs, dirList{dir: n.dir, ino: n.ino, entries: entries})
		for _, name := range slices.Sorted(maps.Keys(n.dir.children)) {
			child := n.dir.children[name]
			if child.dir != nil {
				n.ino.nlink++
				visit(child, n)
				continue
			}
			if child.ino.nlink > 1 {
				if seen[child.ino] {
					s.Links++
					continue
				}
				seen[child.ino] = true
			}
			switch child.ino.ftype {
			case typeRegular:
				s.Files++
			case typeSymlink:
				s.Symlinks++
			default:
				s.Others++
			}
		}
	}
	visit(w.root, w.root)
	return dirs, s
}
