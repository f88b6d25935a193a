package workspace

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// The record of an Apply, by which it can be taken back, is a directory of its own: a log,
// and what the Apply replaced or deleted, each under the number of its edit.
//
// The log has one JSON object a line. Up to the line that begins the Apply it is on the
// disk before anything is changed: so the record of an Apply that was killed is whole. What
// follows is what only happens then: a line for each rename, before it is made, for each
// edit that was not carried out, and for the end. A line that a crash of the host has cut is
// the last.
const (
	undoVersion = 1
	undoLog     = "log"
	maxUndoLine = 64 << 10
)

var errUndoLog = errors.New("corrupt record of an apply")

// undoLine is one line; exactly one of its fields is set.
type undoLine struct {
	Head  *undoHead `json:"head,omitempty"`
	Dir   *undoDir  `json:"dir,omitempty"`
	Edit  *undoEdit `json:"edit,omitempty"`
	Begin bool      `json:"begin,omitempty"`
	Move  *undoMove `json:"move,omitempty"`
	Not   *int      `json:"not,omitempty"` // the number of an edit that was not carried out
	After *undoDir  `json:"after,omitempty"`
	End   bool      `json:"end,omitempty"`
}

// undoHead is the first line.
type undoHead struct {
	Version int       `json:"version"`
	Name    string    `json:"name"` // of the machine
	Root    []byte    `json:"root"` // paths need not be UTF-8, which JSON strings are
	Journal []byte    `json:"journal"`
	Time    time.Time `json:"time"`
}

// undoDir is a directory of the host in which the Apply works, before it or after it.
type undoDir struct {
	Path  []byte `json:"path"`
	Mode  uint32 `json:"mode"`
	MTime int64  `json:"mtime"`
	Dev   uint64 `json:"dev"`
	Ino   uint64 `json:"ino"`
}

// undoEdit is an edit, with what was there before.
type undoEdit struct {
	N       int       `json:"n"`
	Op      string    `json:"op"`
	Path    []byte    `json:"path"`
	Implied bool      `json:"implied,omitempty"`
	InPlace bool      `json:"in_place,omitempty"` // a new mode for what was there
	Old     undoState `json:"old"`
	New     undoState `json:"new"`
}

// undoState is what a path is, before or after.
type undoState struct {
	Kind   Kind   `json:"kind"`
	Mode   uint32 `json:"mode,omitempty"`
	Size   int64  `json:"size,omitempty"`
	MTime  int64  `json:"mtime,omitempty"`
	Dev    uint64 `json:"dev,omitempty"`
	Ino    uint64 `json:"ino,omitempty"`
	Target []byte `json:"target,omitempty"`
	Sum    []byte `json:"sum,omitempty"` // see sparse.SumOf
	// Other is another name of the file in the workspace, which the apply leaves alone.
	Other []byte `json:"other,omitempty"`
}

// undoMove is a directory that was, or was about to be, renamed.
type undoMove struct {
	From []byte `json:"from"`
	To   []byte `json:"to"`
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
}

// undoRecord is a log that was read.
type undoRecord struct {
	head  undoHead
	dirs  []undoDir
	edits []undoEdit // without those that were not carried out
	moves []undoMove
	after map[string]undoDir
	ended bool

	brief   bool // only count the edits, of which there may be very many
	counted []countedEdit
}

// countedEdit is an edit of a record that is brief.
type countedEdit struct {
	n       int32
	implied bool
}

// changes returns how many edits a user would count, of a record that is brief.
func (r *undoRecord) changes(not map[int]bool) int {
	n := 0
	for _, e := range r.counted {
		if !e.implied && !not[int(e.n)] {
			n++
		}
	}
	return n
}

// readUndoLog reads a log, but for its edits, which are counted as a user would. The error is
// fs.ErrNotExist or errUndoLog for one of an Apply that had not begun.
func readUndoLog(dir string) (r *undoRecord, changes int, err error) {
	f, err := os.Open(filepath.Join(dir, undoLog))
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	r = &undoRecord{brief: true}
	not, err := r.parse(f)
	return r, r.changes(not), err
}

func parseUndoLog(from io.Reader) (*undoRecord, error) {
	r := &undoRecord{after: make(map[string]undoDir)}
	not, err := r.parse(from)
	if err != nil {
		return nil, err
	}
	kept := r.edits[:0]
	for _, e := range r.edits {
		if !not[e.N] {
			kept = append(kept, e)
		}
	}
	r.edits = kept
	return r, nil
}

// parse reads a log. It returns the numbers of the edits that were not carried out.
func (r *undoRecord) parse(from io.Reader) (not map[int]bool, err error) {
	begun := false
	not = make(map[int]bool)
	lines := bufio.NewReaderSize(from, maxUndoLine)
	for !r.ended {
		text, err := lines.ReadSlice('\n')
		var line undoLine
		if err != nil || decodeUndoLine(text, &line) != nil {
			break // it ends here, or was cut
		}
		if err := r.add(&line, begun, not); err != nil {
			return nil, fmt.Errorf("%w: %w", errUndoLog, err)
		}
		begun = begun || line.Begin
	}
	if !begun {
		return nil, fmt.Errorf("%w: it has no beginning", errUndoLog)
	}
	return not, nil
}

func decodeUndoLine(text []byte, line *undoLine) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(line)
}

// add takes one line, which has come after the beginning or before it.
func (r *undoRecord) add(line *undoLine, begun bool, not map[int]bool) error {
	switch {
	case line.Head != nil:
		if r.head.Version != 0 || line.Head.Version != undoVersion || !filepath.IsAbs(string(line.Head.Root)) {
			return errors.New("its first line")
		}
		r.head = *line.Head
	case r.head.Version == 0:
		return errors.New("it has no first line")
	case line.Dir != nil && !begun:
		if err := line.Dir.check(); err != nil {
			return err
		}
		r.dirs = append(r.dirs, *line.Dir)
	case line.Edit != nil && !begun:
		if err := line.Edit.check(); err != nil {
			return err
		}
		if len(r.edits)+len(r.counted) == maxChanges {
			return fmt.Errorf("more than %d edits", maxChanges)
		}
		if r.brief {
			r.counted = append(r.counted, countedEdit{int32(line.Edit.N), line.Edit.Implied})
			return nil
		}
		r.edits = append(r.edits, *line.Edit)
	case line.Begin && !begun:
	case line.Move != nil && begun:
		if err := errors.Join(checkPath(string(line.Move.From)), checkPath(string(line.Move.To))); err != nil {
			return err
		}
		r.moves = append(r.moves, *line.Move)
	case line.Not != nil && begun:
		not[*line.Not] = true
	case line.After != nil && begun:
		if err := line.After.check(); err != nil {
			return err
		}
		if !r.brief {
			r.after[string(line.After.Path)] = *line.After
		}
	case line.End && begun:
		r.ended = true
	default:
		return errors.New("a line out of place")
	}
	return nil
}

func (d *undoDir) check() error {
	if string(d.Path) == "." {
		return nil
	}
	return checkPath(string(d.Path))
}

func (e *undoEdit) check() error {
	if err := checkPath(string(e.Path)); err != nil {
		return err
	}
	for _, s := range []undoState{e.Old, e.New} {
		if s.Kind > Symlink || s.Size < 0 {
			return fmt.Errorf("%s is of %v", termsafe.Quote(string(e.Path)), s.Kind)
		}
		if len(s.Other) > 0 {
			if err := checkPath(string(s.Other)); err != nil {
				return err
			}
		}
	}
	return nil
}
