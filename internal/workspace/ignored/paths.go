package ignored

import (
	"io"
	"maps"
	"slices"
)

// paths are what a repository is asked about, of which there may be very many, with what is
// known of each.
type paths struct {
	numbers map[string]int32
	newDirs []bool // which are directories that are not on the host
	known   []known
}

// known is what git says of a path.
type known uint8

const (
	isMatched known = 1 << iota // by rules
	isTracked                   // it is in the index, or something in it is
	isLoose                     // the rules may be about what is in it, not about itself
)

func newPaths() paths { return paths{numbers: make(map[string]int32)} }

func (p *paths) len() int { return len(p.known) }

// add has a path asked about.
func (p *paths) add(path string, newDir bool) {
	i, ok := p.numbers[path]
	if !ok {
		i = int32(len(p.known))
		p.numbers[path] = i
		p.newDirs, p.known = append(p.newDirs, false), append(p.known, 0)
	}
	p.newDirs[i] = p.newDirs[i] || newDir
}

// isNewDir reports whether a path was added as a directory that is not on the host.
func (p *paths) isNewDir(path string) bool {
	i, ok := p.numbers[path]
	return ok && p.newDirs[i]
}

// set notes something of a path, if that is asked about. It reports whether that was known.
func (p *paths) set(path []byte, is known) bool {
	i, ok := p.numbers[string(path)]
	if !ok {
		return false
	}
	was := p.known[i]
	p.known[i] |= is
	return was&is != 0
}

func (p *paths) is(path string, is known) bool {
	i, ok := p.numbers[path]
	return ok && p.known[i]&is != 0
}

// reader returns the paths as check-ignore --stdin takes them, sorted. It may be read while
// answers are noted.
func (p *paths) reader() io.Reader {
	return &pathReader{paths: p, left: slices.Sorted(maps.Keys(p.numbers))}
}

type pathReader struct {
	paths *paths
	left  []string
	part  []byte // of what is being read
}

func (r *pathReader) Read(b []byte) (int, error) {
	for len(r.part) < len(b) && len(r.left) > 0 {
		path := r.left[0]
		r.left = r.left[1:]
		r.part = append(append(r.part, "./"...), path...) // it may begin as one of git's patterns
		if r.paths.isNewDir(path) {
			r.part = append(r.part, '/')
		}
		r.part = append(r.part, 0)
	}
	if len(r.part) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.part)
	r.part = r.part[:copy(r.part, r.part[n:])]
	return n, nil
}
