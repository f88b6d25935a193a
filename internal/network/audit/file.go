package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// file is a chain of lines in two files: when the newer one is full, it becomes the older.
type file struct {
	path string
	max  int64 // bytes of one of the two

	open *os.File
	size int64
	seq  int64
	prev [sha256.Size]byte
	err  error // the first
}

// errDamaged means that a chain cannot be continued.
var errDamaged = errors.New("its last line is none of ours")

// openFile begins or continues the chain at path. What a crash left of a line is cut off.
// One that cannot be continued is set aside, and said to be so.
func openFile(path string, max int64) (f *file, wasDamaged bool, err error) {
	f = &file{path: path, max: max}
	err = f.resume()
	if errors.Is(err, errDamaged) {
		wasDamaged = true
		for _, suffix := range []string{Suffix, ""} {
			if err := os.Rename(path+suffix, path+suffix+DamagedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, true, err
			}
		}
		err = f.resume()
	}
	return f, wasDamaged, err
}

func (f *file) resume() error {
	// The supervisor of an earlier run may have been taken over, and the directory is its own.
	open, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EISDIR) {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(open.Fd()), &st); err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1) {
		open.Close()
		return fmt.Errorf("%w: it is no file of its own", errDamaged)
	}
	if err := f.findEnd(open); err != nil {
		open.Close()
		return err
	}
	f.open = open
	return nil
}

// findEnd finds the end of what is in the newer file.
func (f *file) findEnd(open *os.File) error {
	fi, err := open.Stat()
	if err != nil {
		return err
	}
	// A line and a half are enough.
	from := max(0, fi.Size()-tail)
	data := make([]byte, fi.Size()-from)
	if _, err := open.ReadAt(data, from); err != nil {
		return err
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	if whole == 0 && from > 0 {
		return errDamaged
	}
	f.size = from + int64(whole)
	if err := open.Truncate(f.size); err != nil {
		return err
	}
	if _, err := open.Seek(f.size, io.SeekStart); err != nil {
		return err
	}
	last := data[:whole]
	if f.size == 0 {
		// The old file goes before a new one.
		if last, err = readEnd(f.path + Suffix); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	last = bytes.TrimSuffix(last, []byte("\n"))
	last = last[bytes.LastIndexByte(last, '\n')+1:]
	var e Event
	if err := json.Unmarshal(last, &e); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	f.seq, f.prev = e.Seq, sha256.Sum256(last)
	return nil
}

// readEnd returns the end of the file at path, which has more than its last line.
func readEnd(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errDamaged
	}
	if err != nil {
		return nil, err
	}
	data := make([]byte, min(fi.Size(), tail))
	if _, err := file.ReadAt(data, fi.Size()-int64(len(data))); err != nil {
		return nil, err
	}
	return data, nil
}

// write adds a line, and returns its bytes. Seq and Prev are filled in.
func (f *file) write(e Event) int {
	if f.err != nil || f.open == nil {
		return 0
	}
	f.seq++
	e.Seq, e.Prev = f.seq, hex.EncodeToString(f.prev[:])
	e.clip()
	line, err := json.Marshal(e)
	if err != nil {
		f.err = err
		return 0
	}
	if f.size+int64(len(line)) > f.max {
		if f.err = f.rotate(); f.err != nil {
			return 0
		}
	}
	f.prev = sha256.Sum256(line)
	n, err := f.open.Write(append(line, '\n'))
	f.size += int64(n)
	if err != nil {
		f.err = fmt.Errorf("write the audit log: %w", err)
	}
	return n
}

// rotate makes the file the old one and begins another.
func (f *file) rotate() error {
	open, err := os.OpenFile(f.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("rotate the audit log: %w", err)
	}
	err = errors.Join(os.Rename(f.path, f.path+Suffix), os.Rename(f.path+".new", f.path), f.open.Close())
	if err != nil {
		open.Close()
		return fmt.Errorf("rotate the audit log: %w", err)
	}
	f.open, f.size = open, 0
	return nil
}

// close closes the file, and returns the first error of all.
func (f *file) close() error {
	if f.open == nil {
		return f.err
	}
	err := errors.Join(f.err, f.open.Close())
	f.open = nil
	return err
}

// clip shortens what the guest chose, and copies it: a few bytes of a long text would keep
// all of it in memory.
func (e *Event) clip() {
	for _, field := range []*string{&e.Name, &e.Addr, &e.Method, &e.Path, &e.Rule, &e.Reason, &e.Proto} {
		*field = clip(*field)
	}
}

// clip shortens text of the guest's. encoding/json escapes what is no text.
func clip(s string) string {
	if len(s) > maxText {
		return s[:maxText] + "…"
	}
	return strings.Clone(s)
}
