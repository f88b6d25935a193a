package workspace

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// Synced is what was sent into a machine after its workspace was packed. Together with the
// manifest it is what the guest's changes start from. Its zero value is that of a machine
// into which nothing was sent.
type Synced struct {
	Of      int64  // Started of the manifest
	Entries []Sent // in the order of comparePaths
}

// Sent is one path of the host as it was sent. Of Kind None it is gone.
type Sent struct {
	Entry
	Sum [sparse.Size]byte // of a file's content
}

// Find returns what was sent of a path, nil for nothing.
func (s *Synced) Find(path string) *Sent {
	if s == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(s.Entries, path, func(e Sent, p string) int { return comparePaths(e.Path, p) })
	if !ok {
		return nil
	}
	return &s.Entries[i]
}

// With returns s with what was sent since, in any order. What is gone
// needs no entry if it was not packed, by m.
func (s *Synced) With(m *Manifest, sent []Sent) *Synced {
	sent = slices.Clone(sent)
	slices.SortStableFunc(sent, func(a, b Sent) int { return comparePaths(a.Path, b.Path) })
	out := &Synced{Of: s.Of, Entries: make([]Sent, 0, len(s.Entries)+len(sent))}
	old := s.Entries
	for i, e := range sent {
		if i+1 < len(sent) && sent[i+1].Path == e.Path {
			continue // the last one counts
		}
		for len(old) > 0 && comparePaths(old[0].Path, e.Path) < 0 {
			out.Entries, old = append(out.Entries, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].Path == e.Path {
			old = old[1:]
		}
		if e.Kind != None || m.Find(e.Path) != nil {
			out.Entries = append(out.Entries, e)
		}
	}
	out.Entries = append(out.Entries, old...)
	return out
}

// Over returns m as it is with what was sent.
func (s *Synced) Over(m *Manifest) *Manifest {
	if s == nil || len(s.Entries) == 0 {
		return m
	}
	over := *m
	out := &over
	out.Entries = make([]Entry, 0, len(m.Entries)+len(s.Entries))
	old := m.Entries
	for i := range s.Entries {
		e := &s.Entries[i]
		for len(old) > 0 && comparePaths(old[0].Path, e.Path) < 0 {
			out.Entries, old = append(out.Entries, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].Path == e.Path {
			old = old[1:]
		}
		if e.Kind != None {
			out.Entries = append(out.Entries, e.Entry)
		}
	}
	out.Entries = append(out.Entries, old...)
	return out
}

// moved returns what was sent by the paths that it has after renames of packed directories.
func (s *Synced) moved(m *moves) []Sent {
	if s == nil || len(m.order) == 0 {
		if s == nil {
			return nil
		}
		return s.Entries
	}
	var out []Sent
	for _, e := range s.Entries {
		to := m.where(e.Path)
		if m.origin(to) != e.Path {
			continue // something else was renamed to there
		}
		e.Path = to
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Sent) int { return comparePaths(a.Path, b.Path) })
	return slices.CompactFunc(out, func(a, b Sent) bool { return a.Path == b.Path })
}

// The file of what was sent: this line, Of, the number of entries, the entries as in a
// manifest, each file's with its sum, and the CRC-32C of all that.
const syncedMagic = "mayfly workspace sync 1\n"

// WriteTo writes s as ReadSynced reads it.
func (s *Synced) WriteTo(w io.Writer) (int64, error) {
	sum := crc32.New(castagnoli)
	count := &countingWriter{w: w}
	out := &entryWriter{bw: bufio.NewWriterSize(io.MultiWriter(count, sum), 64<<10)}
	out.bw.WriteString(syncedMagic)
	out.uint(uint64(s.Of))
	out.uint(uint64(len(s.Entries)))
	for i := range s.Entries {
		e := &s.Entries[i]
		out.entry(&e.Entry)
		if e.Kind == File {
			out.bw.Write(e.Sum[:])
		}
	}
	if err := out.bw.Flush(); err != nil {
		return count.n, err
	}
	_, err := count.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	return count.n, err
}

// ReadSynced reads what WriteTo wrote.
func ReadSynced(r io.Reader) (*Synced, error) {
	d := &manifestReader{r: bufio.NewReaderSize(r, 64<<10), gone: true}
	s := &Synced{}
	if got := d.bytes(len(syncedMagic)); d.err == nil && string(got) != syncedMagic {
		return nil, fmt.Errorf("%w: it does not begin as what was sent", errManifest)
	}
	s.Of = int64(d.uint(1<<63 - 1))
	err := d.entries(maxEntryBytes, func(e Entry) {
		sent := Sent{Entry: e}
		if e.Kind == File {
			copy(sent.Sum[:], d.bytes(len(sent.Sum)))
		}
		s.Entries = append(s.Entries, sent)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

var _ io.WriterTo = (*Synced)(nil)
