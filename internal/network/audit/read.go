package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// ErrChanged is wrapped by the error for a log whose lines do not follow each
// other.
var ErrChanged = errors.New("the log was changed")

// maxLine bounds a line in bytes: that of an Event whose texts are all as long
// as they may be, and escaped.
const maxLine = 64 << 10

// chain reads the lines of a log, and checks that each follows the one before.
type chain struct {
	begun bool
	seq   int64
	prev  string
}

// read calls f for the lines of r and returns how many bytes they have. A line
// that has no end yet is being written, and is left.
func (c *chain) read(r io.Reader, f func(Event) error) (n int64, err error) {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := br.ReadSlice('\n')
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("read the audit log: %w", err)
		}
		size := int64(len(line))
		line = bytes.TrimSuffix(line, []byte("\n"))
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return n, fmt.Errorf("%w: the line after number %d is none", ErrChanged, c.seq)
		}
		if c.begun && (e.Seq != c.seq+1 || e.Prev != c.prev) {
			return n, fmt.Errorf("%w: line %d does not follow line %d", ErrChanged, e.Seq, c.seq)
		}
		sum := sha256.Sum256(line)
		c.begun, c.seq, c.prev = true, e.Seq, hex.EncodeToString(sum[:])
		n += size
		if err := f(e); err != nil {
			return n, err
		}
	}
}

// Read calls f for each line of the log at path, those of its older file first.
func Read(path string, f func(Event) error) error {
	file, _, err := new(chain).files(path, f)
	if err == nil {
		file.Close()
	}
	return err
}

// files reads the older file and the newer, which it returns open with the place
// at which its lines end.
func (c *chain) files(path string, f func(Event) error) (*os.File, int64, error) {
	if old, err := os.Open(path + Suffix); err == nil {
		_, err := c.read(old, f)
		old.Close()
		if err != nil {
			return nil, 0, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("read the audit log: %w", err)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("read the audit log: %w", err)
	}
	n, err := c.read(file, f)
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, n, nil
}

// pollTime is how often Follow looks for new lines.
const pollTime = 100 * time.Millisecond

// Follow is Read, and then goes on with the lines that are added until done is
// closed.
func Follow(path string, done <-chan struct{}, f func(Event) error) error {
	var c chain
	file, at, err := c.files(path, f)
	if err != nil {
		return err
	}
	defer func() { file.Close() }()
	ended := false
	for {
		// Asked before the rest is read: nothing is written to a file that
		// is the older one.
		rotated, err := isRotated(file, path)
		if err != nil {
			return err
		}
		n, err := c.read(io.NewSectionReader(file, at, 1<<62), f)
		at += n
		switch {
		case err != nil:
			return err
		case rotated:
			next, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("read the audit log: %w", err)
			}
			file.Close()
			file, at = next, 0
			continue
		case ended:
			return nil
		}
		select {
		case <-done:
			ended = true
		case <-time.After(pollTime):
		}
	}
}

// isRotated reports whether path is another file than the open one.
func isRotated(file *os.File, path string) (bool, error) {
	mine, err := file.Stat()
	if err != nil {
		return false, fmt.Errorf("read the audit log: %w", err)
	}
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // in the middle of it, or removed
	}
	if err != nil {
		return false, fmt.Errorf("read the audit log: %w", err)
	}
	return !os.SameFile(mine, now), nil
}
