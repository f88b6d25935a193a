// Package review says what a change set would do to the host if it were applied.
//
// It is pure: changes, their old and new contents and facts of the host go in, a verdict
// for each change comes out. It reads no file and runs no program. A verdict is a class
// with the rules that led to it, each with a reason for people. What no rule matches is
// ordinary, which is not a promise: the code of an ordinary file runs when its program
// does.
//
// The rules are one table, in parts by subject (git.go, shell.go, …). They match at every
// depth, without regard to case or Unicode form, since that is how the programs and file
// systems of some hosts find their files.
package review

import (
	"context"
	"io"
	"slices"
	"unsafe"
)

// Class is what applying a change means for the host, from least to gravest.
type Class uint8

// The classes.
const (
	Ordinary   Class = iota
	Builds           // runs when the user builds, tests, installs or pushes
	Runs             // runs or is obeyed by itself: on cd, git status, opening the folder, the next agent
	Suspicious       // whatever the file is
)

var classNames = [...]string{"ordinary", "builds", "runs", "suspicious"}

func (c Class) String() string { return classNames[c] }

// Kind is what a path is.
type Kind uint8

// The kinds.
const (
	None Kind = iota // nothing is there
	Regular
	Dir
	Symlink
	Gitlink // a submodule's commit, in changes that are commits
)

// Node is one half of a change: what was at its path, or is to be there.
type Node struct {
	Kind   Kind
	Mode   uint32 // permission bits
	Size   int64  // bytes, of a regular file
	Target string // of a symbolic link, or a submodule's commit in hex
	// Open opens the content of a regular file. It is nil where that is not at hand; then
	// the rules that need it take the worst for granted.
	Open func() (io.ReadCloser, error)
}

// Change is one path that differs.
type Change struct {
	Path     string // relative to the workspace, with slashes; all bytes but NUL may be in it
	From     string // the old path of what was renamed, else ""
	Old, New Node
	Ignored  bool // the host's git ignores it

	implied bool // a directory that is only there because of others
}

// Finding is one rule that a change matches.
type Finding struct {
	Rule   string `json:"rule"` // stable, such as "git-hook"
	Class  Class  `json:"-"`
	Reason string `json:"reason"`         // at most twelve words, for people; not escaped for terminals
	Key    string `json:"key,omitempty"`  // the setting that it is about
	Line   int    `json:"line,omitempty"` // of the new content, from 1
	// Detail is what Reason leaves out: the value of the setting, the name of a host. It is
	// the guest's text, bounded but not escaped.
	Detail string `json:"detail,omitempty"`
	// Alone has the change asked about by itself although its class is asked about as a group.
	Alone bool `json:"alone,omitempty"`
}

// Verdict is what the rules say of one change.
type Verdict struct {
	Class    Class     // the gravest of the findings
	Findings []Finding // gravest first
	// Hidden says that git on the host will not show the change: it is ignored, or inside of
	// a repository's own directory.
	Hidden bool
	// Generated says that tools produce the tree which the change is in: it comes back only
	// where the user asks for such trees.
	Generated bool
	// Withheld says that the change does not come back as a file, whatever the user says.
	Withheld bool
}

// Review is a change set with its verdicts.
type Review struct {
	Verdicts []Verdict // of the changes, in their order
}

// Input is what a review is made of.
type Input struct {
	Changes []Change
	Host    Host
	// Extra are the user's own rules. They raise a class, or lower that of an exact path.
	Extra []Extra
}

// Bounds of what is read of contents.
const (
	// MostContent is the size of a file up to which its content is looked into, in bytes.
	MostContent = 8 << 20
	// MostScanned is the size of all contents together that are looked into, in bytes.
	MostScanned = 256 << 20
)

// Classify returns a verdict for each change.
func Classify(ctx context.Context, in Input) (Review, error) {
	set := newSet(in)
	r := Review{Verdicts: make([]Verdict, len(in.Changes))}
	for i := range in.Changes {
		if err := context.Cause(ctx); err != nil {
			return Review{}, err
		}
		v, c := &r.Verdicts[i], &in.Changes[i]
		s := set.subject(c)
		v.judge(s)
		for _, other := range s.elsewhere() {
			v.judgePlace(other)
		}
		v.Hidden = c.Ignored || s.inGitDir()
		v.Generated = s.generated()
		v.settle(s)
		v.Findings = set.share(v.Findings)
	}
	return r, nil
}

// mostSaid bounds what findings take of the memory, in bytes: their texts are the guest's.
const mostSaid = 4 << 20

// share returns one slice for all that say the same: many files may, for one reason.
func (t *set) share(findings []Finding) []Finding {
	for i := range findings {
		t.said += len(findings[i].Detail) + len(findings[i].Key)
	}
	if t.said > mostSaid && len(findings) > 0 {
		// The gravest reason will do for those that come after so many.
		findings = findings[:1:1]
		findings[0].Detail, findings[0].Key, findings[0].Line = "", "", 0
	}
	if len(findings) != 1 {
		t.said += len(findings) * int(unsafe.Sizeof(Finding{}))
		return slices.Clip(findings)
	}
	same, ok := t.single[findings[0]]
	if !ok {
		if t.single == nil {
			t.single = map[Finding][]Finding{}
		}
		same = slices.Clip(findings)
		t.single[findings[0]] = same
	}
	return same
}

// judge takes the findings of all rules.
func (v *Verdict) judge(s *subject) {
	for _, i := range s.set.index.always {
		if r := &s.set.table[i]; r.takes(s.change.New.Kind) {
			found := r.judge(s)
			v.Findings = append(v.Findings, found...)
			v.Withheld = v.Withheld || r.withholds && len(found) > 0
		}
	}
	place := s
	if s.change.From != "" {
		// What was another file's settings is new here.
		moved := *s.change
		moved.Old = Node{}
		place = s.set.subject(&moved)
		place.contents[1] = s.contents[1]
	}
	v.judgePlace(place)
}

// judgePlace takes the findings of rules that are about a place.
func (v *Verdict) judgePlace(s *subject) {
	for _, i := range s.about() {
		r := &s.set.table[i]
		if !r.takes(s.change.New.Kind) {
			continue
		}
		found := r.judge(s)
		v.Findings = append(v.Findings, found...)
		v.Withheld = v.Withheld || r.withholds && len(found) > 0
	}
}

// settle adds the user's rules, sorts the findings, and takes the class of the gravest.
func (v *Verdict) settle(s *subject) {
	for i := range s.set.extra {
		if e := &s.set.extra[i]; e.Class > Ordinary && e.pattern.match(s.names) {
			v.Findings = append(v.Findings, Finding{Rule: OwnRule, Class: e.Class, Reason: e.Reason})
		}
	}
	slices.SortStableFunc(v.Findings, func(a, b Finding) int { return int(b.Class) - int(a.Class) })
	if len(v.Findings) > 0 {
		v.Class = v.Findings[0].Class
	}
	for i := range s.set.extra {
		if e := &s.set.extra[i]; e.Pattern == s.change.Path {
			v.Class = e.Class
		}
	}
}

// Add adds a finding to those of the verdict.
func (v *Verdict) Add(f Finding) {
	same := func(g Finding) bool { return f.Rule == g.Rule && f.Key == g.Key && f.Line == g.Line }
	if slices.ContainsFunc(v.Findings, same) {
		return
	}
	i := slices.IndexFunc(v.Findings, func(g Finding) bool { return g.Class < f.Class })
	if i < 0 {
		i = len(v.Findings)
	}
	v.Findings = slices.Insert(v.Findings, i, f)
	v.Class = max(v.Class, f.Class)
}

// Without returns the findings of v that w has not, too.
func (v *Verdict) Without(w *Verdict) []Finding {
	return slices.DeleteFunc(slices.Clone(v.Findings), func(f Finding) bool {
		return slices.ContainsFunc(w.Findings, func(g Finding) bool { return f.Rule == g.Rule && f.Key == g.Key })
	})
}
