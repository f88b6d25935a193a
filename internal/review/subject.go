package review

import (
	"errors"
	"hash/maphash"
	"io"
	"path"
	"slices"
	"strings"
)

// Host is what the host knows. Functions may be nil.
type Host struct {
	// Home says that the workspace is, or is kept as, a home directory.
	Home bool
	// Read returns the content of a file of the workspace as it is on the host before the
	// changes, at most max bytes, or an error.
	Read func(path string, max int) ([]byte, error)
	// Names returns the names in a directory of the workspace on the host, "." for its root.
	Names func(dir string) []string
	// Files is how many files the workspace has before the changes, 0 where that is not known.
	Files int
	// Placeholders are texts that stand for the machine's secrets.
	Placeholders []string
	// Git is what the repository of the workspace has set up on the host.
	Git GitFacts
}

// GitFacts are facts of the host's git in the workspace, from all of its configuration.
type GitFacts struct {
	Hooks     []string          // names of the hooks that are installed
	HooksPath string            // core.hooksPath relative to the workspace, where it is in it
	Drivers   map[string]string // "filter.lfs", "diff.d", "merge.m": the command
	Includes  []string          // files of the workspace that the configuration includes
	Remotes   map[string]string // name to URL
	Identity  string            // "Name <mail>"
}

// set is what all subjects of a review share.
type set struct {
	in      Input
	seed    maphash.Seed // of sums of names
	scanned int64        // bytes of contents that were read

	dirs  map[string]*directory         // see dir
	byDir map[string]map[string]*Change // see changed
	gone  map[string]map[string]bool    // names that were renamed, by directory

	index *index
	sums  *totals // see totals

	table  []rule
	extra  []extra
	single map[Finding][]Finding // see share
	said   int                   // bytes of findings, see share

	links      map[string][]string  // see elsewhere
	facts      *GitFacts            // see git
	included   map[string]bool      // see includes
	graves     []*subject           // see grave
	named      map[string]reference // see references
	trusted    []string             // see trustedDirs
	folded     map[string]bool      // see has
	repository bool                 // the host's workspace is one, so that what is not ignored is a source
}

func newSet(in Input) *set {
	index := theIndex()
	s := &set{in: in, seed: maphash.MakeSeed(), index: index, table: index.rules, extra: newExtras(in.Extra)}
	if in.Host.Names != nil {
		s.repository = slices.Contains(in.Host.Names("."), ".git")
	}
	return s
}

// subject is a change that is being judged, with what was found out of it so far.
type subject struct {
	set    *set
	change *Change
	folded string   // path, see fold
	names  []string // of folded

	rules []int // see about

	contents [2]*content          // old and new
	texts    map[string][]Finding // see scan
	text     *text                // what was scanned, nil where nothing was
	lock     *comparison          // see lockfile
}

type content struct {
	read bool
	data []byte
	err  error
}

// errTooLarge is the error of content that is larger than what is looked into.
var errTooLarge = errors.New("larger than what is looked into")

func (t *set) subject(c *Change) *subject {
	folded := fold(c.Path)
	return &subject{
		set: t, change: c, folded: folded, names: strings.Split(folded, "/"),
		contents: [2]*content{{}, {}},
	}
}

// mostAliases bounds at how many more paths a change is judged.
const mostAliases = 64

// elsewhere returns the change at the other paths that links of the change set give it. As
// there was nothing, all of it is new there. A path that a file was renamed from has lost it.
func (s *subject) elsewhere() []*subject {
	var all []*subject
	c := s.change
	if c.From != "" {
		all = append(all, s.set.subject(&Change{Path: c.From, Old: c.Old, Ignored: c.Ignored}))
	}
	links := s.set.linked()
	for at := c.Path; len(links) > 0 && at != "." && at != "/"; at = path.Dir(at) {
		for _, link := range links[at] {
			if len(all) == mostAliases {
				return all
			}
			other := s.set.subject(&Change{Path: link + c.Path[len(at):], New: c.New, Ignored: c.Ignored})
			other.contents[1] = s.contents[1]
			all = append(all, other)
		}
	}
	return all
}

// linked returns the links that the change set makes, by the path in the workspace that
// they lead to.
func (t *set) linked() map[string][]string {
	if t.links != nil {
		return t.links
	}
	t.links = map[string][]string{}
	for i := range t.in.Changes {
		c := &t.in.Changes[i]
		if c.New.Kind != Symlink {
			continue
		}
		if to, inside := t.resolve(path.Dir(c.Path), c.New.Target, mostLinks); inside && to != c.Path && to != "." {
			t.links[to] = append(t.links[to], c.Path)
		}
	}
	return t.links
}

func (s *subject) matches(text string) bool {
	p := newPattern(text)
	return p.match(s.names)
}

// about returns the rules of paths that match the path.
func (s *subject) about() []int {
	if s.rules == nil {
		s.rules = append([]int{}, s.set.index.about(s.names)...)
	}
	return s.rules
}

// inGitDir reports whether the path is in a directory of git's own.
func (s *subject) inGitDir() bool { return slices.Contains(s.names, ".git") }

// old returns the content before the change, nil where there was no regular file.
func (s *subject) old() ([]byte, error) { return s.read(0, &s.change.Old) }

// new returns the content after the change, nil where there is no regular file.
func (s *subject) new() ([]byte, error) { return s.read(1, &s.change.New) }

func (s *subject) read(i int, n *Node) ([]byte, error) {
	c := s.contents[i]
	if !c.read {
		c.read = true
		c.data, c.err = s.set.read(n)
	}
	return c.data, c.err
}

func (t *set) read(n *Node) ([]byte, error) {
	switch {
	case n.Kind != Regular:
		return nil, nil
	case n.Open == nil:
		return nil, errors.New("content is not at hand")
	case n.Size > MostContent, t.scanned+n.Size > MostScanned:
		return nil, errTooLarge
	}
	f, err := n.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, n.Size))
	t.scanned += int64(len(data))
	return data, err
}
