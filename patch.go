package mayfly

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"

	"github.com/mayfly-vm/mayfly/internal/linediff"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Patch is how the content of a change differs.
type Patch struct {
	// Opaque says why there are no hunks though the content differs: "binary", "large",
	// "unfetched" for what a review has left in the machine, or "lost" for what is not known
	// any more of a file in a live share.
	Opaque string
	Hunks  []Hunk
	// Added and Removed are numbers of lines.
	Added, Removed int
}

// Hunk is a part of a patch, with some equal lines around what differs.
type Hunk struct {
	Old [2]int `json:"old"` // the first line, and how many
	New [2]int `json:"new"`
	// Lines begin with " ", "-" or "+", and end with their line break, if they have one. They
	// hold what the machine or your file has, and are not fit to be printed as they are.
	Lines []string `json:"lines"`
}

// mostPatch is the size of a content that is compared line by line, in bytes.
const mostPatch = 1 << 20

// Patch compares the contents of a change of s, after a review. Links are compared by
// where they lead.
func (s *ChangeSet) Patch(c Change) (Patch, error) {
	hunks, opaque, err := s.hunks(c)
	if err != nil || opaque != "" {
		return Patch{Opaque: opaque}, public(err)
	}
	return newPatch(hunks), nil
}

func newPatch(hunks []linediff.Hunk) Patch {
	p := Patch{Hunks: make([]Hunk, len(hunks))}
	for i, h := range hunks {
		p.Hunks[i] = newHunk(h)
		for _, line := range h.Lines {
			switch line.Op {
			case linediff.Insert:
				p.Added++
			case linediff.Delete:
				p.Removed++
			}
		}
	}
	return p
}

func (s *ChangeSet) hunks(c Change) (hunks []linediff.Hunk, opaque string, err error) {
	if c.Skipped != "" || c.edit.ModeOnly {
		return nil, "", nil
	}
	old, opaque, err := s.text(c, false)
	if err != nil || opaque != "" {
		return nil, opaque, err
	}
	now, opaque, err := s.text(c, true)
	if err != nil || opaque != "" {
		return nil, opaque, err
	}
	return linediff.Diff(old, now), "", nil
}

// text returns the old or the new content of a change.
func (s *ChangeSet) text(c Change, now bool) (text, opaque string, err error) {
	e := c.edit
	kind, size, target := e.OldKind, e.OldSize, e.OldTarget
	if now {
		kind, size, target = e.NewKind, e.NewSize, e.NewTarget
	}
	switch {
	case kind == workspace.Symlink:
		return target, "", nil
	case kind != workspace.File:
		return "", "", nil
	case size > mostPatch:
		return "", "large", nil
	}
	f, opaque, err := s.open(e, now)
	if f == nil {
		return "", opaque, err
	}
	defer f.Close()
	return readText(f, size)
}

// readText reads the content of a file, as far as lines of it can be compared.
func readText(f io.Reader, size int64) (text, opaque string, err error) {
	data, err := io.ReadAll(io.LimitReader(f, size))
	if err == nil && linediff.Binary(data) {
		opaque = "binary"
	}
	return string(data), opaque, err
}

// open opens the old or the new file of an edit.
func (s *ChangeSet) open(e *workspace.Edit, now bool) (f io.ReadCloser, opaque string, err error) {
	switch {
	case s.c == nil || now && !s.c.Staged(e):
		return nil, "unfetched", nil
	case now:
		f, err = s.c.OpenNew(e)
	default:
		f, err = s.c.OpenOld(e)
	}
	return f, "", err
}

// Hash completes a change of s by the SHA-256 of its old and its new file, as far as their
// contents are at hand.
func (s *ChangeSet) Hash(ctx context.Context, c *Change) error {
	var errs []error
	hash := func(kind workspace.Kind, now bool, to *string) {
		if kind != workspace.File || c.Skipped != "" {
			return
		}
		f, _, err := s.open(c.edit, now)
		if f == nil || err != nil {
			errs = append(errs, err)
			return
		}
		defer f.Close()
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		errs = append(errs, err, context.Cause(ctx))
		*to = hex.EncodeToString(sum.Sum(nil))
	}
	hash(c.edit.OldKind, false, &c.OldSHA256)
	hash(c.edit.NewKind, true, &c.SHA256)
	return public(errors.Join(errs...))
}
