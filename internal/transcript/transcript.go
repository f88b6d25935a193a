// Package transcript reads archives of what coding agents and their users said.
//
// Guests pack them, and each byte is hostile. Out come regular files in the places where
// an agent of the table keeps its conversations, with bounds, and nothing else: no links,
// no devices, no path that leads elsewhere, no programs. What a conversation says nobody
// checks.
package transcript

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Bounds of an archive, beside that of its bytes.
const (
	maxFiles = 100_000
	maxPath  = 4096
	maxDepth = 64
)

// File is one file of an archive.
type File struct {
	Agent string // its name in the table
	Name  string // below the agent's directory: "projects/p/t.jsonl"
	Size  int64
	Time  time.Time // as the guest says
}

// Read calls each with the files of an archive, in their order, and with their contents.
// All of them have at most limit bytes. It returns how many entries it left out.
func Read(r io.Reader, limit int64, each func(File, io.Reader) error) (left int, err error) {
	agents := codingagent.Agents()
	tr := tar.NewReader(r)
	for seen := 0; ; seen++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return left, nil
		}
		if err != nil {
			return left, fmt.Errorf("read transcripts: %w", err)
		}
		if seen >= maxFiles {
			return left, fmt.Errorf("read transcripts: there are more than %d files", maxFiles)
		}
		f, ok := fileOf(agents, h)
		if !ok {
			left++
			continue
		}
		if f.Size < 0 || f.Size > limit {
			return left, fmt.Errorf("read transcripts: %s is too large", termsafe.Quote(f.Name))
		}
		limit -= f.Size
		if err := each(f, tr); err != nil {
			return left, err
		}
	}
}

// fileOf returns the file of an entry, if it can be one of an agent's conversations.
func fileOf(agents []codingagent.Agent, h *tar.Header) (File, bool) {
	if h.Typeflag != tar.TypeReg {
		return File{}, false
	}
	for key := range h.PAXRecords {
		// A few bytes of a sparse file stand for as many zeros as the guest likes.
		if strings.HasPrefix(key, "GNU.sparse.") {
			return File{}, false
		}
	}
	name, rest, _ := strings.Cut(h.Name, "/")
	i := slices.IndexFunc(agents, func(a codingagent.Agent) bool { return a.Name == name })
	if i < 0 || !isPlain(rest) || !agents[i].Converses(rest) {
		return File{}, false
	}
	return File{name, rest, h.Size, h.ModTime}, true
}

// isPlain reports whether name is a path that leads down, in characters.
func isPlain(name string) bool {
	return len(name) <= maxPath && strings.Count(name, "/") <= maxDepth && path.Clean(name) == name && !path.IsAbs(name) &&
		utf8.ValidString(name) && !strings.ContainsRune(name, 0) && !slices.Contains(strings.Split(name, "/"), "..")
}

// Writer writes files as an archive.
type Writer struct{ tw *tar.Writer }

// NewWriter returns one that writes to w. It is to be closed.
func NewWriter(w io.Writer) Writer { return Writer{tar.NewWriter(w)} }

// Add writes one file. Nothing of its owner or its permissions is kept.
func (w Writer) Add(f File, content io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Agent + "/" + f.Name, Size: f.Size, Mode: 0o600, ModTime: f.Time, Format: tar.FormatPAX}
	if err := w.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("write transcripts: %w", err)
	}
	_, err := io.Copy(w.tw, content)
	return err
}

// Close writes the end of the archive.
func (w Writer) Close() error { return w.tw.Close() }
