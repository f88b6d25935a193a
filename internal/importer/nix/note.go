package nix

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

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

// Concerning returns the notes that are about one of the machines with these names, or
// about none: all without names.
func Concerning(notes []Note, names []string) []Note {
	return slices.DeleteFunc(slices.Clone(notes), func(n Note) bool {
		return n.Machine != "" && len(names) > 0 && !slices.Contains(names, n.Machine)
	})
}

// Digest returns each note once, with all machines that it is about, by kind: first what
// must be known.
func Digest(notes []Note) []Note {
	about := make(map[Note][]string)
	var order []Note
	for _, n := range notes {
		key := n
		key.Machine = ""
		if len(about[key]) == 0 {
			order = append(order, key)
		}
		about[key] = append(about[key], n.Machine)
	}
	var digest []Note
	for _, kind := range []Kind{Warning, Unknown, Dropped} {
		for _, n := range order {
			if n.Kind != kind {
				continue
			}
			if machines := about[n]; !slices.Contains(machines, "") {
				n.Machine = strings.Join(machines, ", ")
			}
			digest = append(digest, n)
		}
	}
	return digest
}
