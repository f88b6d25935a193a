package workspace

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// Placed is what applies of a machine have put at paths of its workspace: where the host
// still has that, a later change of the machine begins there, and not at what was packed.
type Placed struct {
	at map[string][]placed // of one path, the newest last
	n  int
}

// placed is what a path has become.
type placed struct {
	Path   []byte `json:"path"` // only in the file
	Kind   Kind   `json:"kind"` // None, File or Symlink
	Mode   uint32 `json:"mode,omitempty"`
	Size   int64  `json:"size,omitempty"`
	Sum    []byte `json:"sum,omitempty"` // of a file
	Target []byte `json:"target,omitempty"`
	// Here says that it was put there, and that no undo has been since.
	Here bool `json:"here,omitempty"`
}

// Bounds of a record. What is not in it is a conflict if the machine changes it once more.
const (
	maxPlaced      = 100_000
	maxPlacedAt    = 4 // of one path: an undo brings an earlier one back
	maxPlacedBytes = 64 << 20
)

// Has reports whether something was put at a path.
func (p *Placed) Has(path string) bool { return len(p.at[path]) > 0 }

func newPlaced() *Placed { return &Placed{at: make(map[string][]placed)} }

// ReadPlaced reads a record; without the file it is empty.
func ReadPlaced(name string) (*Placed, error) {
	p := newPlaced()
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was applied: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxPlacedBytes))
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		var one placed
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return nil, fmt.Errorf("read what was applied: %w", err)
		}
		path := string(one.Path)
		one.Path = nil
		p.add(path, one)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read what was applied: %w", err)
	}
	return p, nil
}

func (p *Placed) add(key string, one placed) {
	same := func(other placed) bool {
		return one.Kind == other.Kind && one.Mode == other.Mode && bytes.Equal(one.Sum, other.Sum) && bytes.Equal(one.Target, other.Target)
	}
	list := slices.DeleteFunc(p.at[key], same)
	p.n -= len(p.at[key]) - len(list)
	if len(list) == maxPlacedAt {
		list = slices.Delete(list, 0, 1)
		p.n--
	}
	if p.n < maxPlaced {
		list = append(list, one)
		p.n++
	}
	p.at[key] = list
}

// Add notes what edits will have put at their paths. It may be noted before they are
// applied: what the host does not have then is of no account.
func (p *Placed) Add(edits []*Edit) {
	for _, e := range edits {
		if e.Skipped != "" || e.NewKind == Dir || e.NewKind == None && e.OldKind == Dir || e.NewKind == File && !e.summed() {
			continue
		}
		one := placed{Kind: e.NewKind}
		switch e.NewKind {
		case File:
			one.Mode, one.Size, one.Sum = e.NewMode&0o777, e.NewSize, e.Sum[:]
		case Symlink:
			one.Target = []byte(e.NewTarget)
		}
		p.add(e.Path, one)
	}
}

// summed reports whether Sum is that of the new file.
func (e *Edit) summed() bool { return e.NewKind == File && e.Sum != [sparse.Size]byte{} }

// Write writes the record as ReadPlaced reads it.
func (p *Placed) Write(name string) error {
	f, err := atomicfile.Create(name, 0o600)
	if err != nil {
		return fmt.Errorf("write what is applied: %w", err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	out := json.NewEncoder(w)
	for path, list := range p.at {
		for _, one := range list {
			one.Path = []byte(path)
			if err := out.Encode(one); err != nil {
				return fmt.Errorf("write what is applied: %w", err)
			}
		}
	}
	err = w.Flush()
	if err == nil {
		err = f.Commit()
	}
	if err != nil {
		return fmt.Errorf("write what is applied: %w", err)
	}
	return nil
}

// Confirm notes that edits, which were added, are applied, but for conflicts.
func (p *Placed) Confirm(edits []*Edit, conflicts []Conflict) {
	not := make(map[string]bool, len(conflicts))
	for _, c := range conflicts {
		not[c.Path] = true
	}
	for _, e := range edits {
		// The last one is that of the edit, unless there was no room for it.
		if list := p.at[e.Path]; len(list) > 0 && e.Skipped == "" && !not[e.Path] {
			last := &list[len(list)-1]
			last.Here = last.Kind == e.NewKind && (last.Kind != File || string(last.Sum) == string(e.Sum[:]))
		}
	}
}

// TakeBack notes that all of it may have been taken back on the host. It reports whether
// that is new.
func (p *Placed) TakeBack() (changed bool) {
	for _, list := range p.at {
		for i := range list {
			changed = changed || list[i].Here
			list[i].Here = false
		}
	}
	return changed
}

// Forget forgets the paths of what was sent into the machine: that is newer there. It reports
// whether there was anything to forget.
func (p *Placed) Forget(sent []Sent) (changed bool) {
	for i := range sent {
		if list, ok := p.at[sent[i].Path]; ok {
			p.n -= len(list)
			delete(p.at, sent[i].Path)
			changed = true
		}
	}
	return changed
}

// states returns what was put at a path and not taken back.
func (p *Placed) states(path string) (all []State) {
	if p == nil {
		return nil
	}
	for _, one := range p.at[path] {
		if !one.Here {
			continue
		}
		s := State{Kind: one.Kind, Target: string(one.Target), AnyMode: true} // an apply may have given it another mode
		if one.Kind == File {
			s.Mode, s.Size = one.Mode&0o777, one.Size
			copy(s.Sum[:], one.Sum)
		}
		all = append(all, s)
	}
	return all
}
