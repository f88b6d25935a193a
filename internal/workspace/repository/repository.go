// Package repository finds out whether git works in a copy of a directory: git needs
// files that may lie outside of it. It reads what a repository says of itself, runs
// nothing and trusts nothing of it.
package repository

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is the reason why git does not find everything in a directory alone.
type Kind string

// The kinds. See gitrepository-layout(5), git-worktree(1) and git-clone(1).
const (
	Worktree     Kind = "worktree"     // a linked worktree: its repository is that of another directory
	Submodule    Kind = "submodule"    // its repository is in the superproject's
	Subdirectory Kind = "subdirectory" // its repository begins further up
	Elsewhere    Kind = "elsewhere"    // its repository was put elsewhere, by a link or by --separate-git-dir
	Alternates   Kind = "alternates"   // its repository borrows objects from another one
)

// Outside is what git needs and does not find in the directory.
type Outside struct {
	Kind Kind
	Path string // the directory that has it; for a worktree and a submodule, the one to work in
}

// Holds reports whether dir is the working tree above, or in it.
func (o Outside) Holds(dir string) bool {
	return o.Kind == Subdirectory && dir != "" && within(dir, o.Path)
}

// Place is where the parts of a repository are, by absolute paths.
type Place struct {
	Top    string // of the working tree
	Dir    string // what is of this working tree alone: HEAD and the index
	Common string // what all its working trees share: objects and references
}

// Locate returns the place of the repository whose working tree the directory dir, an
// absolute path without links, is in. ok is false if there is none, or a bare one.
func Locate(dir string) (p Place, ok bool) {
	if isRepository(dir) {
		return Place{}, false
	}
	dev, ok := device(dir)
	for ok {
		path := filepath.Join(dir, ".git")
		if fi, err := os.Lstat(path); err == nil {
			if fi.Mode().IsRegular() {
				if path, ok = gitFile(dir); !ok {
					return Place{}, false
				}
			}
			if path, err = filepath.EvalSymlinks(path); err == nil {
				if p, ok := place(dir, path); ok {
					return p, true
				}
			}
		}
		if dir == "/" {
			break
		}
		dir = filepath.Dir(dir)
		var now uint64
		if now, ok = device(dir); now != dev {
			break
		}
	}
	return Place{}, false
}

// place returns the place of the repository of the working tree top in the directory git.
func place(top, git string) (Place, bool) {
	p := Place{Top: top, Dir: git, Common: git}
	if common, ok := line(filepath.Join(git, "commondir")); ok {
		real, err := filepath.EvalSymlinks(absolute(git, common))
		if err != nil {
			return Place{}, false
		}
		p.Common = real
		_, err = os.Lstat(filepath.Join(git, "HEAD"))
		return p, err == nil && isRepository(real)
	}
	return p, isRepository(git)
}

// ReadHead returns the content of HEAD in the directory of a repository: a line that
// names a branch, or a commit. It may be a symbolic link to a branch, as old git made it.
func ReadHead(dir string) (string, bool) {
	path := filepath.Join(dir, "HEAD")
	if ref, err := os.Readlink(path); err == nil {
		return "ref: " + ref + "\n", strings.HasPrefix(ref, "refs/")
	}
	return read(path)
}

// maxFile bounds the files of a repository that are read here, in bytes.
const maxFile = 64 << 10

// Find returns what the git repository of dir, an absolute path without links, needs
// outside of dir. ok is false if it needs nothing, or if there is no repository.
func Find(dir string) (o Outside, ok bool) {
	fi, err := os.Lstat(filepath.Join(dir, ".git"))
	if err != nil {
		return above(dir)
	}
	switch {
	case fi.IsDir():
		return borrowed(dir, filepath.Join(dir, ".git"))
	case fi.Mode().IsRegular():
		return pointed(dir)
	case fi.Mode()&os.ModeSymlink != 0:
		real, err := filepath.EvalSymlinks(filepath.Join(dir, ".git"))
		if err != nil || !isRepository(real) {
			return Outside{}, false
		}
		if within(real, dir) {
			return borrowed(dir, real)
		}
		return Outside{Elsewhere, real}, true
	}
	return Outside{}, false
}

// above looks for the repository that dir is a part of. As git, it stays on the file
// system of dir.
func above(dir string) (Outside, bool) {
	if isRepository(dir) { // a bare one
		return borrowed(dir, dir)
	}
	dev, ok := device(dir)
	for ok && dir != "/" {
		dir = filepath.Dir(dir)
		var now uint64
		if now, ok = device(dir); now != dev {
			return Outside{}, false
		}
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err != nil {
			continue
		}
		if _, pointer := gitFile(dir); pointer || isRepository(filepath.Join(dir, ".git")) {
			return Outside{Subdirectory, dir}, true
		}
	}
	return Outside{}, false
}

// pointed follows the file .git of dir, which names the directory of the repository.
func pointed(dir string) (Outside, bool) {
	git, ok := gitFile(dir)
	if !ok {
		return Outside{}, false
	}
	if real, err := filepath.EvalSymlinks(git); err == nil {
		git = real
	}
	if common, ok := line(filepath.Join(git, "commondir")); ok {
		common = absolute(git, common)
		if within(git, dir) && within(common, dir) {
			return borrowed(dir, common)
		}
		return Outside{Worktree, workTree(common)}, true
	}
	if within(git, dir) {
		return borrowed(dir, git)
	}
	if super, _, ok := strings.Cut(git, "/.git/modules/"); ok {
		return Outside{Submodule, super}, true
	}
	return Outside{Elsewhere, git}, true
}

// Lost reports whether the repository of dir, a directory in the directory root such as a
// submodule, is not in a copy of root. With carried that copy has another .git than root.
func Lost(root, dir string, carried bool) bool {
	git, ok := gitFile(dir)
	if !ok {
		return false
	}
	git, err := filepath.EvalSymlinks(git)
	if err != nil {
		return false // nor does git work in dir itself
	}
	common := git
	if path, ok := line(filepath.Join(git, "commondir")); ok {
		common = absolute(git, path)
	}
	in := func(path string) bool {
		return within(path, root) && !(carried && within(path, filepath.Join(root, ".git")))
	}
	return !in(git) || !in(common)
}

// borrowed finds the first repository outside of dir that git, the directory of the
// repository of dir, borrows objects from.
func borrowed(dir, git string) (Outside, bool) {
	objects := filepath.Join(git, "objects")
	content, ok := read(filepath.Join(objects, "info", "alternates"))
	if !ok {
		return Outside{}, false
	}
	for path := range strings.Lines(content) {
		path = strings.TrimRight(path, "\r\n")
		if path == "" || path[0] == '#' {
			continue
		}
		if path = absolute(objects, path); !within(path, dir) {
			return Outside{Alternates, path}, true
		}
	}
	return Outside{}, false
}

// gitFile returns the directory that the file .git of dir names.
func gitFile(dir string) (string, bool) {
	text, ok := line(filepath.Join(dir, ".git"))
	if !ok {
		return "", false
	}
	path, ok := strings.CutPrefix(text, "gitdir: ")
	if !ok || path == "" {
		return "", false
	}
	return absolute(dir, path), true
}

// workTree returns the directory to work in of the repository in the directory git.
func workTree(git string) string {
	if filepath.Base(git) == ".git" {
		return filepath.Dir(git)
	}
	return git
}

// isRepository reports whether git takes path for the directory of a repository.
func isRepository(path string) bool {
	_, err := os.Lstat(filepath.Join(path, "HEAD"))
	for _, sub := range []string{"objects", "refs"} {
		fi, e := os.Stat(filepath.Join(path, sub))
		if e != nil || !fi.IsDir() {
			return false
		}
	}
	return err == nil
}

func device(path string) (uint64, bool) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return uint64(st.Dev), err == nil
}

// absolute returns path, which is relative to dir.
func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func within(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (rest == "" || rest[0] == '/')
}

// line returns the first line of a file.
func line(path string) (string, bool) {
	text, ok := read(path)
	text, _, _ = strings.Cut(text, "\n")
	return strings.TrimRight(text, "\r"), ok
}

// read returns the text of a regular file that is not too large.
func read(path string) (string, bool) {
	// O_NONBLOCK: to open a FIFO must not wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", false
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() > maxFile {
		return "", false
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil || bytes.IndexByte(content, 0) >= 0 {
		return "", false
	}
	return string(content), true
}
