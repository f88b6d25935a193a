package clone

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/suggest"
)

// Bounds of what a server says it has. The largest public repositories have
// some hundred thousand names, most of them of pull requests, which are passed
// over.
const (
	maxLine = 4 << 10
	maxRefs = 200_000
)

// refs are the branches and tags that a server has. It is written to with the
// output of git ls-remote --symref, which is the server's text.
type refs struct {
	names  map[string]string // "refs/heads/main" → commit
	head   string            // commit of HEAD
	branch string            // what HEAD stands for, if it is a branch

	line []byte
	long bool // this line is passed over
	more bool // there were more than maxRefs
}

func (r *refs) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte("\n"))
		p = rest
		if r.long = r.long || len(r.line)+len(part) > maxLine; !r.long {
			r.line = append(r.line, part...)
		}
		if ended {
			if !r.long {
				r.add(string(r.line))
			}
			r.line, r.long = r.line[:0], false
		}
	}
	return n, nil
}

func (r *refs) add(line string) {
	value, name, ok := strings.Cut(line, "\t")
	if !ok {
		return
	}
	if target, ok := strings.CutPrefix(value, "ref: "); ok {
		if branch, ok := strings.CutPrefix(target, "refs/heads/"); ok && name == "HEAD" && checkRef(branch) == nil {
			r.branch = branch
		}
		return
	}
	if !commitID.MatchString(value) {
		return
	}
	if name == "HEAD" {
		r.head = value
		return
	}
	branch, isBranch := strings.CutPrefix(name, "refs/heads/")
	tag, isTag := strings.CutPrefix(name, "refs/tags/")
	if !isBranch && !isTag || checkRef(branch) != nil || checkRef(tag) != nil {
		return // also the "^{}" of tags
	}
	if len(r.names) >= maxRefs {
		r.more = true
		return
	}
	if r.names == nil {
		r.names = make(map[string]string)
	}
	r.names[name] = value
}

// target is what is checked out.
type target struct {
	ref    string // "refs/heads/main", "refs/tags/v1", or a commit
	branch string // "" for a detached head
}

// find finds what a user asked for. A branch comes before a tag, as with git
// clone --branch.
func (r *refs) find(want string) (target, bool) {
	switch {
	case want == "" || want == "HEAD":
		if _, ok := r.names["refs/heads/"+r.branch]; ok {
			return target{"refs/heads/" + r.branch, r.branch}, true
		}
		return target{ref: r.head}, r.head != ""
	case strings.HasPrefix(want, "refs/"):
		_, ok := r.names[want]
		branch, isBranch := strings.CutPrefix(want, "refs/heads/")
		if !isBranch {
			branch = ""
		}
		return target{want, branch}, ok
	}
	if _, ok := r.names["refs/heads/"+want]; ok {
		return target{"refs/heads/" + want, want}, true
	}
	if _, ok := r.names["refs/tags/"+want]; ok {
		return target{ref: "refs/tags/" + want}, true
	}
	return target{ref: want}, commitID.MatchString(want)
}

// sha256 reports whether the repository names commits by SHA-256.
func (r *refs) sha256() bool {
	for _, id := range r.names {
		return len(id) == 64
	}
	return len(r.head) == 64
}

// near returns names that the user may have meant, the best first.
func (r *refs) near(want string) []string {
	const most = 5
	type scored struct {
		name  string
		score int
	}
	var all []scored
	want = strings.ToLower(want)
	for _, full := range slices.Sorted(maps.Keys(r.names)) {
		_, name, _ := strings.Cut(strings.TrimPrefix(full, "refs/"), "/")
		lower := strings.ToLower(name)
		score := suggest.Distance(want, lower)
		if strings.Contains(lower, want) || strings.Contains(want, lower) {
			score = 1
		}
		if score <= max(2, len(want)/3) {
			all = append(all, scored{name, score})
		}
	}
	slices.SortStableFunc(all, func(a, b scored) int { return a.score - b.score })
	var names []string
	for _, s := range all {
		if !slices.Contains(names, s.name) && len(names) < most {
			names = append(names, s.name)
		}
	}
	return names
}
