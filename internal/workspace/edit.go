package workspace

import (
	"fmt"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Op is what an edit does to a path.
type Op byte

// The operations, as git names them.
const (
	Add    Op = 'A'
	Modify Op = 'M'
	Delete Op = 'D'
	Rename Op = 'R' // of a directory with all that was packed in it
)

func (o Op) String() string { return string(rune(o)) }

// Edit is one difference between what was packed and what the guest has now:
// a value that can be shown, filtered and applied. Its old half comes from
// the manifest, its new half from the guest, checked.
type Edit struct {
	Op   Op
	Path string
	// From is the path of the old half when it was packed, "" where it is Path: that of
	// a Rename, or of what is in a directory that was renamed.
	From string

	OldKind, NewKind     Kind   // None before an Add and after a Delete
	OldMode, NewMode     uint32 // permission bits only
	OldSize, NewSize     int64  // of files
	OldTarget, NewTarget string // of symbolic links

	MTime  int64    // of the new file, in nanoseconds since 1970
	SHA256 [32]byte // of the new file's content, which comes from the guest
	Copies string   // the packed file that has the new content, "" for the guest

	ModeOnly bool   // content or children are the same, only NewMode differs
	Implied  bool   // a directory that other edits in the list make obvious
	Escapes  bool   // a symbolic link that leads, or may lead, out of the workspace
	Skipped  string // why this edit will not be applied; "" when it can be
	Ignored  bool   // of what the host's git ignores; see SetIgnored
}

// needsContent reports whether applying e takes bytes from the guest.
func (e *Edit) needsContent() bool {
	return e.Skipped == "" && e.NewKind == File && !e.ModeOnly && e.Copies == ""
}

// packed returns the path of the old half when it was packed.
func (e *Edit) packed() string {
	if e.From != "" {
		return e.From
	}
	return e.Path
}

// String describes e in one line that is safe to print.
func (e Edit) String() string {
	name := termsafe.Quote(e.Path)
	kind := e.NewKind
	if e.Op == Delete {
		kind = e.OldKind
	}
	if kind == Dir {
		name += "/"
	}
	if e.Op == Rename {
		name = termsafe.Quote(e.From) + "/ -> " + name
		if e.NewMode != e.OldMode {
			name += fmt.Sprintf(" (mode %03o, was %03o)", e.NewMode, e.OldMode)
		}
	}
	s := fmt.Sprintf("%s  %s", e.Op, name)
	if kind == Symlink && e.Op != Delete {
		s += " -> " + termsafe.Quote(e.NewTarget)
		if e.Escapes {
			s += " (leads out of the workspace)"
		}
	}
	switch {
	case e.Skipped != "":
		return s + " (skipped: " + e.Skipped + ")"
	case e.Op == Modify && e.OldKind != e.NewKind:
		return fmt.Sprintf("%s (was a %s)", s, e.OldKind)
	case e.ModeOnly:
		return fmt.Sprintf("%s (mode %03o, was %03o)", s, e.NewMode, e.OldMode)
	case kind == File && e.Op == Add:
		return fmt.Sprintf("%s (%s)", s, formatSize(e.NewSize))
	case kind == File && e.Op == Modify:
		sign, delta := "+", e.NewSize-e.OldSize
		if delta < 0 {
			sign, delta = "-", -delta
		}
		if e.NewMode != e.OldMode {
			return fmt.Sprintf("%s (%s%s, mode %03o, was %03o)", s, sign, formatSize(delta), e.NewMode, e.OldMode)
		}
		return fmt.Sprintf("%s (%s%s)", s, sign, formatSize(delta))
	}
	return s
}

// formatSize returns n bytes for people.
func formatSize(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1024 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[unit])
}
