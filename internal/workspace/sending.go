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

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
)

// Sending is what a sync is about to change in a machine. It is noted before: nobody else
// would know how far a sync came that was killed, or whose machine was.
type Sending struct {
	Of    int64  // Started of the manifest
	Items []Item // of Old, only the kind of the first is kept
}

// sendingItem is one of them in a file, and a line of it.
type sendingItem struct {
	Path []byte       `json:"path"`
	Old  Kind         `json:"old"`
	New  sendingState `json:"new"`
	Sent sendingState `json:"sent"`
	ID   Identity     `json:"id"` // of Sent
}

type sendingState struct {
	Kind   Kind   `json:"kind"`
	Mode   uint32 `json:"mode,omitempty"`
	Size   int64  `json:"size,omitempty"`
	Sum    []byte `json:"sum,omitempty"`
	Target []byte `json:"target,omitempty"`
}

func newSendingState(s State) sendingState {
	out := sendingState{Kind: s.Kind, Mode: s.Mode, Size: s.Size, Target: []byte(s.Target)}
	if s.Kind == File {
		out.Sum = s.Sum[:]
	}
	return out
}

func (s *sendingState) state() State {
	out := State{Kind: s.Kind, Mode: s.Mode & 0o7777, Size: s.Size, Target: string(s.Target)}
	copy(out.Sum[:], s.Sum)
	return out
}

// maxSendingBytes bounds the file.
const maxSendingBytes = 1 << 30

// Write notes it in a file, durably.
func (s *Sending) Write(name string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("note what is sent: %w", err)
		}
	}()
	f, err := atomicfile.Create(name, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	out := json.NewEncoder(w)
	if err := out.Encode(s.Of); err != nil {
		return err
	}
	for i := range s.Items {
		it := &s.Items[i]
		line := sendingItem{
			Path: []byte(it.Path), Old: it.Old[0].Kind,
			New: newSendingState(it.New), ID: it.Sent.ID,
			Sent: newSendingState(State{Kind: it.Sent.Kind, Mode: it.Sent.Mode, Size: it.Sent.Size, Sum: it.Sent.Sum, Target: it.Sent.Target}),
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Commit()
}

// ReadSending reads what Write wrote; without the file it is nil.
func ReadSending(name string) (*Sending, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was being sent: %w", err)
	}
	defer f.Close()
	s, err := parseSending(io.LimitReader(f, maxSendingBytes))
	if err != nil {
		return nil, fmt.Errorf("read what was being sent: %w", err)
	}
	return s, nil
}

func parseSending(r io.Reader) (*Sending, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<10)
	s := &Sending{}
	for n := 0; lines.Scan(); n++ {
		if n == 0 {
			if err := json.Unmarshal(lines.Bytes(), &s.Of); err != nil {
				return nil, err
			}
			continue
		}
		var line sendingItem
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, err
		}
		path := string(line.Path)
		if err := checkPath(path); err != nil {
			return nil, err
		}
		if bytes.IndexByte(line.New.Target, 0) >= 0 || len(line.New.Target) > maxTarget || len(line.Sent.Target) > maxTarget {
			return nil, errors.New("a link leads nowhere")
		}
		if max(line.Old, line.New.Kind, line.Sent.Kind) > Symlink || min(line.New.Size, line.Sent.Size) < 0 {
			return nil, errors.New("a file is of no kind, or smaller than nothing")
		}
		was := line.Sent.state()
		it := Item{Path: path, Old: []State{{Kind: line.Old}}, New: line.New.state()}
		it.Sent = Sent{Entry{Path: path, Kind: was.Kind, Mode: was.Mode, Size: was.Size, Target: was.Target, ID: line.ID}, was.Sum}
		s.Items = append(s.Items, it)
	}
	return s, lines.Err()
}
