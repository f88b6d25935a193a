package nix

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Kind says what a note asks of its reader.
type Kind string

// The kinds of notes.
const (
	Warning Kind = "warning" // look at this before the machine starts
	Unknown Kind = "unknown" // it is left out, and the machine may need it
	Dropped Kind = "dropped" // has no counterpart, or mayfly does it itself
)

// Note is something of a definition that its machine's file does not say. It may hold
// words of the flake, and can be printed.
type Note struct {
	Machine string // "": none that there can be
	File    string // in the flake's directory; "": not known
	Kind    Kind
	Text    string
}

func (n Note) String() string {
	s := string(n.Kind) + ": " + n.Text
	if n.File != "" {
		s = n.File + ": " + s
	}
	if n.Machine != "" {
		s = n.Machine + ": " + s
	}
	return s
}

// maxNotes bounds what a hostile flake can make us say of one machine.
const maxNotes = 500

// note adds a note, once.
func (m *importer) note(kind Kind, format string, args ...any) {
	m.noteAt("", kind, format, args...)
}

func (m *importer) noteAt(file string, kind Kind, format string, args ...any) {
	n := Note{m.Name, termsafe.Line(file), kind, termsafe.Line(fmt.Sprintf(format, args...))}
	if len(m.notes) < maxNotes && !slices.Contains(m.notes, n) {
		m.notes = append(m.notes, n)
	}
}

// sortedNotes returns the notes, the most important first.
func (m *importer) sortedNotes() []Note {
	order := []Kind{Warning, Unknown, Dropped}
	slices.SortStableFunc(m.notes, func(a, b Note) int { return slices.Index(order, a.Kind) - slices.Index(order, b.Kind) })
	return m.notes
}

// quote quotes words of the flake, cut so that a note stays one line.
func quote(s string) string {
	const limit = 100
	return strconv.Quote(termsafe.Clip(s, limit))
}
