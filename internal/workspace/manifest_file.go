package workspace

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// The manifest's file: this line, the root, the start, the image's size, the number of entries,
// the entries, and the CRC-32C of all that. Numbers are varints. An entry's
// path is stored as what differs from the path before it.
const manifestMagic = "mayfly workspace manifest 1\n"

// manifestMagicGit is the first line where .git was made for the copy. After the size of the
// image comes the prefix then.
const manifestMagicGit = "mayfly workspace manifest 2\n"

var (
	errManifest = errors.New("corrupt workspace manifest")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// WriteTo writes the manifest as ReadManifest reads it.
func (m *Manifest) WriteTo(w io.Writer) (int64, error) {
	sum := crc32.New(castagnoli)
	count := &countingWriter{w: w}
	bw := bufio.NewWriterSize(io.MultiWriter(count, sum), 64<<10)
	out := &entryWriter{bw: bw}
	magic := manifestMagic
	if m.GitCarried {
		magic = manifestMagicGit
	}
	bw.WriteString(magic)
	out.str(m.Root)
	out.uint(uint64(m.Started))
	out.uint(uint64(m.ImageSize))
	if m.GitCarried {
		out.str(m.GitPrefix)
	}
	out.uint(uint64(len(m.Entries)))
	for i := range m.Entries {
		out.entry(&m.Entries[i])
	}
	if err := bw.Flush(); err != nil {
		return count.n, err
	}
	_, err := count.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	return count.n, err
}

// entryWriter writes the parts of a manifest. bw keeps its first error.
type entryWriter struct {
	bw   *bufio.Writer
	num  [binary.MaxVarintLen64]byte
	prev string // the path of the last entry
}

func (w *entryWriter) uint(v uint64) { w.bw.Write(binary.AppendUvarint(w.num[:0], v)) }

func (w *entryWriter) str(s string) {
	w.uint(uint64(len(s)))
	w.bw.WriteString(s)
}

func (w *entryWriter) entry(e *Entry) {
	shared := sharedPrefix(w.prev, e.Path)
	w.prev = e.Path
	w.uint(uint64(shared))
	w.str(e.Path[shared:])
	w.uint(uint64(e.Kind))
	w.uint(uint64(e.Mode))
	switch e.Kind {
	case File:
		w.uint(uint64(e.Size))
	case Symlink:
		w.str(e.Target)
	}
	w.uint(e.ID.Dev)
	w.uint(e.ID.Ino)
	w.uint(uint64(e.ID.MTime))
	w.uint(uint64(e.ID.CTime))
}

// ReadManifest reads what WriteTo wrote. It never allocates more than what
// it has read by then accounts for.
func ReadManifest(r io.Reader) (*Manifest, error) { return readManifest(r, maxEntryBytes) }

func readManifest(r io.Reader, maxBytes int64) (*Manifest, error) {
	d := &manifestReader{r: bufio.NewReaderSize(r, 64<<10)}
	m := &Manifest{}
	switch got := string(d.bytes(len(manifestMagic))); {
	case d.err != nil || got == manifestMagic:
	case got == manifestMagicGit:
		m.GitCarried = true
	default:
		return nil, fmt.Errorf("%w: it does not begin as one", errManifest)
	}
	m.Root = d.str(maxPath)
	m.Started = int64(d.uint(1<<63 - 1))
	m.ImageSize = int64(d.uint(plan.DiskSize))
	if m.GitCarried {
		m.GitPrefix = d.str(maxPath)
	}
	err := d.entries(maxBytes, func(e Entry) { m.Entries = append(m.Entries, e) })
	if err != nil {
		return nil, err
	}
	return m, nil
}

// manifestReader reads the parts of a manifest. After an error every part is
// zero.
type manifestReader struct {
	r    *bufio.Reader
	buf  []byte
	sum  uint32
	err  error
	gone bool // entries may be of nothing
}

func (d *manifestReader) ReadByte() (byte, error) {
	b, err := d.r.ReadByte()
	if err == nil {
		d.sum = crc32.Update(d.sum, castagnoli, []byte{b})
	}
	return b, err
}

// bytes returns the next n bytes, valid until the next call.
func (d *manifestReader) bytes(n int) []byte {
	if cap(d.buf) < n {
		d.buf = make([]byte, n)
	}
	b := d.buf[:n]
	if d.err == nil {
		_, d.err = io.ReadFull(d.r, b)
	}
	if d.err != nil {
		clear(b)
	}
	d.sum = crc32.Update(d.sum, castagnoli, b)
	return b
}

func (d *manifestReader) uint(limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	v, err := binary.ReadUvarint(d)
	if err == nil && v > limit {
		err = fmt.Errorf("a number is %d, at most %d is possible", v, limit)
	}
	if err != nil {
		d.err = err
		return 0
	}
	return v
}

func (d *manifestReader) str(limit uint64) string {
	return string(d.bytes(int(d.uint(limit))))
}

// entries reads how many entries there are, the entries, of which each gets one, and the
// checksum of all. What follows an entry is each's to read.
func (d *manifestReader) entries(maxBytes int64, each func(e Entry)) error {
	n := int(d.uint(maxEntries))
	prev := ""
	bytes := int64(0) // a few in the file can stand for many of a path
	for i := range n {
		e := d.entry(prev)
		if d.err != nil {
			break
		}
		bytes += int64(len(e.Path) + len(e.Target))
		if err := checkTotal(i+1, bytes, maxBytes); err != nil {
			return fmt.Errorf("%w: %w", errManifest, err)
		}
		if err := checkPath(e.Path); err != nil {
			return fmt.Errorf("%w: %w", errManifest, err)
		}
		if prev != "" && comparePaths(prev, e.Path) >= 0 {
			return fmt.Errorf("%w: %s is out of order", errManifest, termsafe.Quote(e.Path))
		}
		prev = e.Path
		each(e)
	}
	want := d.sum
	if got := d.bytes(4); d.err == nil && binary.LittleEndian.Uint32(got) != want {
		return fmt.Errorf("%w: wrong checksum", errManifest)
	}
	if d.err != nil {
		return fmt.Errorf("%w: %w", errManifest, d.err)
	}
	return nil
}

func (d *manifestReader) entry(prev string) Entry {
	var e Entry
	shared := d.uint(uint64(len(prev)))
	e.Path = prev[:shared] + d.str(maxPath)
	e.Kind = Kind(d.uint(uint64(Symlink)))
	e.Mode = uint32(d.uint(0o7777))
	switch e.Kind {
	case File:
		e.Size = int64(d.uint(1<<63 - 1))
	case Dir:
	case Symlink:
		e.Target = d.str(maxTarget)
	default:
		if d.err == nil && !d.gone {
			d.err = errors.New("an entry has no kind")
		}
	}
	e.ID.Dev = d.uint(1<<64 - 1)
	e.ID.Ino = d.uint(1<<64 - 1)
	e.ID.MTime = int64(d.uint(1<<64 - 1)) // may be before 1970
	e.ID.CTime = int64(d.uint(1<<64 - 1))
	return e
}

// sharedPrefix returns how many bytes a and b begin with in common.
func sharedPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

var _ io.WriterTo = (*Manifest)(nil)
