package engine

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// mostCompared bounds the bytes of files that are compared with what was committed.
const mostCompared = 64 << 20

// Modes of git's.
const (
	gitFile    = 0o100644
	gitProgram = 0o100755
	gitLink    = 0o120000
)

// compareTips counts, for the branch that would go on, the files of its commits that are not
// as the machine's working tree has them: those that were shown are not those that were
// committed. What it has no content of, or no time for, it does not count.
func (c *Changes) compareTips(ctx context.Context) error {
	for _, r := range c.Committed {
		r.Differs = 0
		if r.forward == nil {
			continue
		}
		t, err := c.newTree()
		if err != nil {
			return nil // an apply says so
		}
		for _, p := range r.forward.Branch.Paths {
			if err := context.Cause(ctx); err != nil {
				t.host.Close()
				return err
			}
			same, known := t.as(r.file(p.Path), p)
			if known && !same {
				r.Differs++
			}
		}
		t.host.Close()
	}
	return nil
}

// tree is the machine's working tree as far as the host knows it.
type tree struct {
	c     *Changes
	edits map[string]*workspace.Edit
	moved []string // directories that were renamed: both paths
	host  *workspace.Host
	left  int64
}

func (c *Changes) newTree() (*tree, error) {
	t := &tree{c: c, edits: make(map[string]*workspace.Edit), left: mostCompared}
	for i := range c.Edits {
		e := &c.Edits[i]
		if t.edits[e.Path] = e; e.Op == workspace.Rename {
			t.moved = append(t.moved, e.From, e.Path)
		}
	}
	var err error
	t.host, err = workspace.OpenHost(c.manifest.Root)
	return t, err
}

// as reports whether the tree has a path as a commit has it.
func (t *tree) as(name string, p commits.Path) (same, known bool) {
	e := t.edits[name]
	switch {
	case p.NewMode != 0 && p.ID == "", p.NewMode != 0 && p.NewMode != gitFile && p.NewMode != gitProgram && p.NewMode != gitLink:
		return false, false
	case e == nil:
		return t.unchanged(name, p)
	case e.NewKind == workspace.None || p.NewMode == 0:
		return e.NewKind == workspace.None && p.NewMode == 0, true
	case e.NewKind == workspace.Symlink:
		return p.NewMode == gitLink && blob(p.ID, int64(len(e.NewTarget)), bytes.NewReader([]byte(e.NewTarget))), true
	case e.NewKind != workspace.File || p.NewMode == gitLink:
		return false, true
	case !t.c.Staged(e) || !t.take(e.NewSize):
		return false, false
	case (e.NewMode&0o100 != 0) != (p.NewMode == gitProgram):
		return false, true
	}
	f, err := t.c.OpenNew(e)
	if err != nil {
		return false, false
	}
	defer f.Close()
	return blob(p.ID, e.NewSize, f), true
}

// unchanged is as for what is in the machine as it was packed, or as the host has it now.
func (t *tree) unchanged(name string, p commits.Path) (same, known bool) {
	if slices.ContainsFunc(t.moved, func(dir string) bool { return (&workspace.Edit{Path: name}).At(dir) }) {
		return false, false
	}
	if f, err := t.host.Open(name); err == nil {
		defer f.Close()
		if fi, err := f.Stat(); err == nil && p.NewMode != 0 && t.take(fi.Size()) && blob(p.ID, fi.Size(), f) {
			return true, true
		}
	}
	entry := t.c.manifest.Find(name)
	switch {
	case entry == nil:
		return p.NewMode == 0, true
	case p.NewMode == 0:
		return false, true
	case entry.Kind == workspace.Symlink:
		return blob(p.ID, int64(len(entry.Target)), bytes.NewReader([]byte(entry.Target))), true
	case entry.Kind != workspace.File || !t.take(entry.Size):
		return false, entry.Kind != workspace.File
	}
	f, err := t.c.base.Open(name)
	if err != nil {
		return false, false
	}
	return blob(p.ID, entry.Size, f), true
}

func (t *tree) take(n int64) bool {
	if n > t.left {
		return false
	}
	t.left -= n
	return true
}

// blob reports whether a content of this size has this name as git's object.
func blob(id string, size int64, content io.Reader) bool {
	var sum hash.Hash
	switch len(id) {
	case 2 * sha1.Size:
		sum = sha1.New()
	case 2 * sha256.Size:
		sum = sha256.New()
	default:
		return false
	}
	fmt.Fprintf(sum, "blob %d\x00", size)
	n, err := io.Copy(sum, io.LimitReader(content, size))
	return err == nil && n == size && hex.EncodeToString(sum.Sum(nil)) == id
}
