package workspace

import (
	"fmt"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Op is what an edit does to a path.
type Op byte

// The operations, as git names them.
const (
	Add    Op = 'A'
	Modify Op = 'M'
	Delete Op = 'D'
	Rename Op = 'R' // of a directory with all that was packed in it; see Renamed for files
)

func (o Op) String() string { return string(rune(o)) }

// Edit is one difference between what was packed and what the guest has now:
// a value that can be shown, filtered and applied. Its old half comes from
// the manifest, its new half from the guest, checked.
type Edit struct {
	Path string
	// From is the path of the old half when it was packed, "" where it is Path: that of
	// a Rename, or of what is in a directory that was renamed.
	From string
	Op   Op // here and below, small fields stand together: there are very many edits

	OldKind, NewKind Kind // None before an Add and after a Delete

	// Since says that the old half is not what was packed, but what an earlier Apply has left:
	// OldSum is of its content. Partial says that the new half is not what the guest has, but
	// a part of what it changed.
	Since, Partial bool

	ModeOnly bool // content or children are the same, only NewMode differs
	Implied  bool // a directory that other edits in the list make obvious
	Escapes  bool // a symbolic link that leads, or may lead, out of the workspace
	Tracked  bool // the host's git has the path in its index, as far as is known
	Ignored  bool // of what the host's git ignores; see SetIgnored

	Attributes bool // the new file has extended attributes, which stay in the guest
	Lower      bool // Copies is as it was packed, whatever was sent since
	// Likeness is, of the Add of a file that was renamed, how much of its content was in the
	// other half, in percent; see Other.
	Likeness uint8
	// Parts is the number of other names that the host's file has, which keep the old
	// content; see Compare.
	Parts int32

	OldMode, NewMode     uint32 // permission bits only
	OldSize, NewSize     int64  // of files
	OldTarget, NewTarget string // of symbolic links

	MTime  int64              // of the new file, in nanoseconds since 1970
	Sum    [sparse.Size]byte  // of the new file's content, which comes from the guest
	OldSum *[sparse.Size]byte // see Since
	Copies string             // the packed file that has the new content, "" for the guest
	// Link is, of a new file, the path of another that it is the same file as in the guest.
	Link string
	// Other is, of a file that was renamed, the path of the other half: such a rename is an
	// Add and a Delete, of which none is applied without the other.
	Other string

	Skipped string // why this edit will not be applied; "" when it can be
}

// Pointers returns edits as what takes some of them wants them.
func Pointers(edits []Edit) []*Edit {
	out := make([]*Edit, len(edits))
	for i := range edits {
		out[i] = &edits[i]
	}
	return out
}

// needsContent reports whether applying e takes bytes from the guest.
func (e *Edit) needsContent() bool {
	return e.Skipped == "" && e.NewKind == File && !e.ModeOnly && e.Copies == ""
}

// Packed returns the path of the old half when it was packed.
func (e *Edit) Packed() string {
	if e.From != "" {
		return e.From
	}
	return e.Path
}

// Renamed returns the two halves of a file that was renamed as one edit, to be shown.
func Renamed(gone, come *Edit) Edit {
	e := *come
	e.Op, e.From = Rename, gone.Path
	e.OldKind, e.OldMode, e.OldSize = gone.OldKind, gone.OldMode, gone.OldSize
	return e
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
		from := termsafe.Quote(e.From)
		if kind == Dir {
			from += "/"
		}
		name = from + " -> " + name
	}
	s := fmt.Sprintf("%s  %s", e.Op, name)
	if kind == Symlink && e.Op != Delete {
		s += " -> " + termsafe.Quote(e.NewTarget)
	}
	if more := e.details(); more != "" {
		s += " (" + more + ")"
	}
	return s
}

// details returns what is said of e behind its name.
func (e *Edit) details() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if e.Escapes {
		add("leads out of the workspace")
	}
	if e.Skipped != "" {
		add("skipped: %s", e.Skipped)
		return strings.Join(parts, ", ")
	}
	switch {
	case e.Op == Modify && e.OldKind != e.NewKind:
		add("was a %s", e.OldKind)
	case e.NewKind == File && e.Op == Add:
		add("%s", formatSize(e.NewSize))
	case e.NewKind == File && (e.Op == Modify && !e.ModeOnly || e.Op == Rename && e.Likeness < 100):
		sign, delta := "+", e.NewSize-e.OldSize
		if delta < 0 {
			sign, delta = "-", -delta
		}
		add("%s%s", sign, formatSize(delta))
	}
	switch comparable := e.OldKind == e.NewKind && (e.NewKind == File || e.NewKind == Dir); {
	case comparable && e.NewMode != e.OldMode:
		add("mode %03o, was %03o", e.NewMode, e.OldMode)
	case !comparable && e.NewKind == File && e.NewMode&0o111 != 0:
		add("mode %03o", e.NewMode)
	}
	switch {
	case e.Link != "":
		add("hard link to %s", termsafe.Quote(e.Link))
	case e.Parts == 1:
		add("its other hard link stays as it is")
	case e.Parts > 1:
		add("its %d other hard links stay as they are", e.Parts)
	}
	if e.Attributes {
		add("extended attributes stay in the machine")
	}
	return strings.Join(parts, ", ")
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
