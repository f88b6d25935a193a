package commits

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Header is what a bundle says of itself, gitformat-bundle(5).
type Header struct {
	ObjectFormat  string   // "sha1" or "sha256"
	Prerequisites []string // commits that the bundle builds on
	Refs          []Ref    // branches, and HEAD
	Objects       uint32   // in the pack, as that says
	Size          int64    // bytes before the pack
}

// Ref is a branch of a machine's, by its full name, or HEAD.
type Ref struct {
	Name string
	ID   string
}

// Bounds of a header. MaxRefs is also that of the branches that are asked for.
const (
	maxHeader        = 1 << 20 // bytes
	maxPrerequisites = 1000
	MaxRefs          = 1000
	maxRefName       = 250 // bytes; a file of this name is made, and one with ".lock"
)

var errBundle = errors.New("not a bundle as git makes them")

func badBundle(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errBundle, fmt.Sprintf(format, args...))
}

// ReadHeader reads the header of a bundle, and the pack's behind it.
func ReadHeader(r io.Reader) (Header, error) {
	lines := &lineReader{r: bufio.NewReader(io.LimitReader(r, maxHeader))}
	h := Header{ObjectFormat: "sha1"}
	line, err := lines.next()
	if err != nil {
		return h, err
	}
	version3 := line == "# v3 git bundle"
	if !version3 && line != "# v2 git bundle" {
		return h, badBundle("it does not begin as one")
	}
	names := make(map[string]bool)
	for stage := 0; ; { // capabilities, prerequisites, refs
		line, err := lines.next()
		switch {
		case err != nil:
			return h, err
		case line == "":
			h.Size = lines.read
			h.Objects, err = packHeader(lines.r)
			if err == nil && len(h.Refs) == 0 {
				err = badBundle("no branch")
			}
			return h, err
		case line[0] == '@':
			if !version3 || stage > 0 {
				return h, badBundle("a capability where none may be")
			}
			if err := h.capability(line[1:]); err != nil {
				return h, err
			}
		case line[0] == '-':
			if stage > 1 {
				return h, badBundle("a prerequisite after a reference")
			}
			stage = 1
			id, _, _ := strings.Cut(line[1:], " ") // and the commit's subject
			if !isID(id, h.ObjectFormat) || len(h.Prerequisites) == maxPrerequisites {
				return h, badBundle("prerequisites")
			}
			h.Prerequisites = append(h.Prerequisites, id)
		default:
			stage = 2
			id, name, ok := strings.Cut(line, " ")
			if !ok || !isID(id, h.ObjectFormat) || names[name] || len(h.Refs) == MaxRefs {
				return h, badBundle("references")
			}
			if err := checkRef(name); err != nil {
				return h, err
			}
			names[name] = true
			h.Refs = append(h.Refs, Ref{name, id})
		}
	}
}

// capability takes what a bundle of version 3 wants of its reader. A filter would make
// the repository one whose objects are elsewhere.
func (h *Header) capability(text string) error {
	switch text {
	case "object-format=sha1":
	case "object-format=sha256":
		h.ObjectFormat = "sha256"
	default:
		return badBundle("it wants %s", termsafe.Quote(termsafe.Clip(text, 80)))
	}
	return nil
}

// packHeader returns the number of objects in a pack, gitformat-pack(5).
func packHeader(r io.Reader) (uint32, error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, badBundle("no pack")
	}
	if string(head[:4]) != "PACK" || binary.BigEndian.Uint32(head[4:]) != 2 {
		return 0, badBundle("no pack of version 2")
	}
	return binary.BigEndian.Uint32(head[8:]), nil
}

// lineReader reads lines that all have an end.
type lineReader struct {
	r    *bufio.Reader
	read int64
}

func (l *lineReader) next() (string, error) {
	line, err := l.r.ReadString('\n')
	if err != nil {
		return "", badBundle("its header has no end")
	}
	l.read += int64(len(line))
	line = line[:len(line)-1]
	if strings.IndexByte(line, 0) >= 0 {
		return "", badBundle("a NUL in its header")
	}
	return line, nil
}

// isID reports whether s is the full name of an object.
func isID(s, format string) bool {
	if want := map[string]int{"sha1": 40, "sha256": 64}[format]; len(s) != want {
		return false
	}
	for _, b := range []byte(s) {
		if (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return false
		}
	}
	return true
}

// headRef is the reference to a commit that no branch may have.
const headRef = "HEAD"

const branchPrefix = "refs/heads/"

// checkRef takes branches whose names git takes, git-check-ref-format(1), and HEAD. A
// name that is a flag to a program is not taken.
func checkRef(name string) error {
	if name == headRef {
		return nil
	}
	bad := func() error { return badBundle("the reference %s", termsafe.Quote(termsafe.Clip(name, 80))) }
	branch, ok := strings.CutPrefix(name, branchPrefix)
	if !ok || len(name) > maxRefName || !utf8.ValidString(name) || branch == "" || branch[0] == '-' || branch == headRef ||
		strings.Contains(name, "..") || strings.Contains(name, "@{") || strings.HasSuffix(name, ".") ||
		strings.ContainsAny(name, " ~^:?*[\\\x7f") {
		return bad()
	}
	for part := range strings.SplitSeq(branch, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") {
			return bad()
		}
	}
	for _, b := range []byte(name) {
		if b < ' ' {
			return bad()
		}
	}
	return nil
}
