package nix

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxNotes bounds what a hostile file can make us say.
const maxNotes = 500

// note adds a note about the place at, once.
func (ev *evaluator) note(at pos, kind Kind, format string, args ...any) {
	if len(ev.notes) == maxNotes {
		return
	}
	// All files are looked at, and most of a configuration defines no machine.
	if ev.machine == "" && at.src != nil && !strings.Contains(at.src.text, "microvm") {
		return
	}
	text := printable(fmt.Sprintf(format, args...))
	// A loop may come here often, and to find the line takes time.
	key := noteKey{ev.machine, at, text}
	if ev.noted[key] {
		return
	}
	ev.noted[key] = true
	ev.notes = append(ev.notes, Note{ev.machine, at.file(), at.line(), kind, text})
}

type noteKey struct {
	machine string
	at      pos
	text    string
}

// failed notes that something could not be evaluated. It is left out.
func (ev *evaluator) failed(err error) {
	if e, ok := errors.AsType[*posError](err); ok {
		ev.note(e.pos, Unknown, "%s", e.msg)
		return
	}
	ev.note(pos{}, Unknown, "%s", err.Error())
}

// sortedNotes returns the notes, those of one machine together and warnings first.
func (ev *evaluator) sortedNotes() []Note {
	order := []Kind{Warning, Unknown, Dropped}
	slices.SortStableFunc(ev.notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.Machine, b.Machine), slices.Index(order, a.Kind)-slices.Index(order, b.Kind))
	})
	return ev.notes
}
