package mayfly

import (
	"context"
	"runtime"
	"slices"

	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/review"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Class is what applying a change means for the host.
type Class string

// The classes, from least to gravest.
const (
	Ordinary   Class = "ordinary"
	Builds     Class = "builds"     // runs when you build, test, install or push
	Runs       Class = "runs"       // runs or is obeyed by itself: by git, a shell, an editor, a coding agent
	Suspicious Class = "suspicious" // whatever the file is
)

// Classes are all of them.
func Classes() []Class { return []Class{Ordinary, Builds, Runs, Suspicious} }

// Change is one path of a workspace that differs in a machine.
type Change struct {
	Op      string `json:"op"` // "A" added, "M" modified, "D" deleted or "R" renamed
	Path    string `json:"path"`
	From    string `json:"from,omitempty"` // of "R": the old path of the directory or file
	Kind    string `json:"kind"`           // file, directory or symbolic link
	Mode    uint32 `json:"mode,omitempty"`
	Size    int64  `json:"size,omitempty"`
	OldSize int64  `json:"old_size,omitempty"`
	Target  string `json:"target,omitempty"`
	Escapes bool   `json:"escapes,omitempty"` // a link that leads, or may lead, out of the workspace
	Skipped string `json:"skipped,omitempty"` // why it cannot be applied
	Ignored bool   `json:"ignored,omitempty"` // the host's git ignores it
	OldMode uint32 `json:"old_mode,omitempty"`
	// Likeness is, of a file that was renamed, how much of its content it had before, in percent.
	Likeness int `json:"likeness,omitempty"`
	// LeftOut says that an Apply of the selection that the change is from leaves it out, since
	// it is ignored or generated.
	LeftOut bool `json:"left_out,omitempty"`

	// What follows is there after [ChangeSet.Review].

	Class Class     `json:"class,omitempty"`
	Rules []Finding `json:"rules,omitempty"` // why it has the class, gravest first
	// Hidden says that git on the host will not show the change.
	Hidden bool `json:"hidden,omitempty"`
	// Withheld says that the change never comes back as a file.
	Withheld bool `json:"withheld,omitempty"`
	// Generated says that it is in a tree that tools make, such as node_modules, and that the
	// host's git does not track.
	Generated bool `json:"generated,omitempty"`
	// ByName says that an Apply takes the change only if it is approved, whatever classes are
	// selected: a hook of git's.
	ByName bool `json:"by_name,omitempty"`

	// What follows is there where a caller has filled it, by [ChangeSet.Hash] and
	// [ChangeSet.Patch].

	SHA256    string `json:"sha256,omitempty"` // of the new file, in hex
	OldSHA256 string `json:"old_sha256,omitempty"`
	Hunks     []Hunk `json:"hunks,omitempty"`
	// Settings are, of the change of GitConfig, what [ChangeSet.GitSettings] returns.
	Settings []GitSetting `json:"settings,omitempty"`

	edit  *workspace.Edit // nil in what no machine has changed
	index int             // of the edit
	other int             // of that which deletes the file by its old name; -1 for none
}

// Finding is why a change has its class.
type Finding struct {
	Rule   string `json:"rule"` // its name, which is stable
	Class  Class  `json:"class"`
	Reason string `json:"reason"`           // a few words, for people
	Key    string `json:"key,omitempty"`    // the setting that it is about
	Line   int    `json:"line,omitempty"`   // of the new content, from 1
	Detail string `json:"detail,omitempty"` // what the machine wrote there
	// Alone says that the change is to be decided by itself although its class is as a group.
	Alone bool `json:"alone,omitempty"`
}

// String returns the change on one line, fit to be printed.
func (c Change) String() string {
	if c.edit == nil {
		return ""
	}
	return c.edit.String()
}

// Alone reports whether the change is to be decided by itself.
func (c Change) Alone() bool {
	return c.Class == Runs || c.Class == Suspicious || slices.ContainsFunc(c.Rules, func(f Finding) bool { return f.Alone })
}

// ChangeSet is all that differs in a machine from the workspace that it has a copy of.
type ChangeSet struct {
	// Root is the directory of the host that was copied.
	Root string
	// Changes are all but directories that others of them make obvious.
	Changes []Change
	// ApplyIgnored has Review look into, and Apply take, also what the host's git ignores and
	// what is generated: build output and installed packages, which are often of use only
	// where they were made.
	ApplyIgnored bool
	// Repositories are those in which the machine committed. Their commits come back as
	// commits, never as files; see [ChangeSet.BranchOnly].
	Repositories []Repository
	// GitFiles is how many of git's own files were changed, which do not come back.
	GitFiles int
	// IgnoredFiles and IgnoredBytes are what [Machine.ChangesToApply] has only counted.
	IgnoredFiles int
	IgnoredBytes int64

	c *engine.Changes
}

// Changes asks the machine what it has changed, and checks the answer. With quiesce its
// programs are ended first, so that nothing changes meanwhile. The caller closes the set.
func (m *Machine) Changes(ctx context.Context, quiesce bool) (*ChangeSet, error) {
	return m.changes(ctx, engine.ChangesOptions{Quiesce: quiesce})
}

// ChangesToApply is Changes for a caller that leaves ApplyIgnored false and names no ignored
// file. If there are very many changes, what is in new directories that the host's git
// ignores, such as installed packages, is not among them, but counted: it costs a fraction of
// the memory.
func (m *Machine) ChangesToApply(ctx context.Context, quiesce bool) (*ChangeSet, error) {
	return m.changes(ctx, engine.ChangesOptions{Quiesce: quiesce, CountIgnored: true})
}

func (m *Machine) changes(ctx context.Context, o engine.ChangesOptions) (*ChangeSet, error) {
	c, err := m.m.Changes(ctx, o)
	if err != nil {
		return nil, public(err)
	}
	set := &ChangeSet{Root: c.Root(), GitFiles: c.Git, IgnoredFiles: c.Left.Files, IgnoredBytes: c.Left.Bytes, c: c}
	set.list()
	return set, nil
}

// list lists the changes and commits that there are now.
func (s *ChangeSet) list() {
	s.Repositories = convert(s.c.Committed, newRepository)
	gone := make(map[string]int) // of renamed files, by the old path
	n := 0
	for i := range s.c.Edits {
		e := &s.c.Edits[i]
		if e.Other != "" && e.Op == workspace.Delete {
			gone[e.Path] = i
		} else if !e.Implied {
			n++
		}
	}
	s.Changes = make([]Change, 0, n)
	for i := range s.c.Edits {
		e := &s.c.Edits[i]
		if e.Implied || e.Other != "" && e.Op == workspace.Delete {
			continue
		}
		c := Change{index: i, other: -1}
		if e.Other != "" {
			c.other = gone[e.Other]
			renamed := workspace.Renamed(&s.c.Edits[c.other], e)
			e = &renamed
			c.Likeness = int(e.Likeness)
		}
		kind := e.NewKind
		if kind == workspace.None {
			kind = e.OldKind
		}
		if e.Op == workspace.Rename {
			c.From = e.From
		}
		c.Op, c.Path, c.Kind, c.Mode, c.OldMode = e.Op.String(), e.Path, kind.String(), e.NewMode, e.OldMode
		c.Size, c.OldSize, c.Target, c.Escapes = e.NewSize, e.OldSize, e.NewTarget, e.Escapes
		c.Skipped, c.Ignored, c.edit = e.Skipped, e.Ignored, e
		s.Changes = append(s.Changes, c)
	}
}

// ReviewOptions say how a set is reviewed.
type ReviewOptions struct {
	// Whole has also the contents fetched that no rule looks into, since they are large:
	// then Apply needs the machine no more.
	Whole bool
}

// Review fetches contents, and says of each of s.Changes what it would do to the host if
// it was applied. What Apply applies is what was reviewed.
func (s *ChangeSet) Review(ctx context.Context, o ReviewOptions) error {
	if s.c == nil || len(s.Changes) == 0 && len(s.Repositories) == 0 {
		return nil
	}
	s.Changes = nil // there may be very many, and they are listed anew
	err := s.c.Review(ctx, engine.ReviewOptions{Ignored: s.ApplyIgnored, Whole: o.Whole})
	if len(s.c.Edits) >= engine.ManyChanges {
		runtime.GC() // what the review needed makes place for the list
	}
	s.list()
	if err != nil {
		return public(err)
	}
	s.judge()
	return nil
}

// judge notes the verdicts.
func (s *ChangeSet) judge() {
	rules := make(map[*review.Finding][]Finding) // which many changes may share
	for i := range s.Changes {
		c := &s.Changes[i]
		c.ByName = s.c.ByName(c.index)
		c.Generated = s.c.Generated(c.index)
		v := s.c.Verdicts[c.index]
		if c.other >= 0 {
			// What is gone there can be as grave as what is here now.
			old := &s.c.Verdicts[c.other]
			v.Findings = slices.Clone(v.Findings)
			for _, f := range old.Findings {
				v.Add(f)
			}
			v.Class, v.Withheld = max(v.Class, old.Class), v.Withheld || old.Withheld
		}
		if c.other >= 0 || len(v.Findings) != 1 {
			c.judged(v)
			continue
		}
		first := &v.Findings[0]
		if rules[first] == nil {
			rules[first] = findings(v.Findings)
		}
		c.class(v)
		c.Rules = rules[first]
	}
}

// judged notes a verdict.
func (c *Change) judged(v review.Verdict) {
	c.class(v)
	c.Rules = findings(v.Findings)
}

func (c *Change) class(v review.Verdict) {
	c.Class, c.Hidden, c.Withheld = Class(v.Class.String()), v.Hidden, v.Withheld
}

func findings(all []review.Finding) []Finding {
	return convert(all, func(f review.Finding) Finding {
		return Finding{f.Rule, Class(f.Class.String()), f.Reason, f.Key, f.Line, f.Detail, f.Alone}
	})
}

// Close gives up what is needed to apply the set.
func (s *ChangeSet) Close() error {
	if s.c == nil {
		return nil
	}
	return s.c.Close()
}

// Selection says which changes an Apply takes. Its zero value takes all that are ordinary.
type Selection struct {
	// Classes are those whose changes are taken; none stands for Ordinary.
	Classes []Class
	// Approved are the paths of changes that are taken whatever their class is.
	Approved []string
	// Only has nothing taken but what is approved.
	Only bool
	// FilesOnly leaves commits in the machine. So does a selection with Paths.
	FilesOnly bool
	// Paths limits all of that to what is there or below; none is everything.
	Paths []string
	// Except are patterns, as those of [workspace] exclude, of what is left out.
	Except []string
}

// Applied is what became of changes.
type Applied struct {
	Applied int // how many are on the host now
	Of      int // how many of those that were chosen can be applied at all
	// Conflicts were left alone: the host's file is not what was copied.
	Conflicts []Conflict
	// Notes are what of the changes that were applied is not as in the machine.
	Notes []string
	// Held are the changes that the selection's paths have and that were not chosen: because
	// of their class, if the selection names none, because they never come back, or because
	// they need one that was not chosen.
	Held []Change
}

// Conflict is a change that was not applied.
type Conflict struct {
	Path string
	Why  string
}

// String returns the conflict on one line, fit to be printed.
func (c Conflict) String() string { return workspace.Conflict(c).String() }

// Apply carries changes out on the host's directory: those that are selected, with the
// directories that they need. What is ignored is left out unless ApplyIgnored is set, and
// what a review withholds always. The contents are fetched and checked first: then all of
// them are there, or none is applied. What was done is returned also when there is an
// error.
func (s *ChangeSet) Apply(ctx context.Context, sel Selection) (Applied, error) {
	if s.c.Verdicts == nil {
		if err := s.Review(ctx, ReviewOptions{Whole: true}); err != nil {
			return Applied{}, err
		}
	}
	chosen, held, err := s.choose(sel)
	if err != nil {
		return Applied{}, public(err)
	}
	// Commits are of all that was done, not of a part of it.
	s.c.Commits = len(sel.Paths) == 0 && !sel.FilesOnly
	res, err := s.c.Apply(ctx, chosen)
	s.Repositories = convert(s.c.Committed, newRepository)
	return Applied{res.Applied, count(chosen), conflicts(res), notes(res), held}, public(err)
}

// Path returns how a path, relative to Root or below it, is named in Changes.
func (s *ChangeSet) Path(path string) string { return workspace.CleanPath(s.Root, path) }

// Selected returns those of s.Changes that the paths and patterns of a selection leave,
// whatever their class: s.Changes itself, if these name none. A path at which nothing was
// changed is an error.
func (s *ChangeSet) Selected(sel Selection) ([]Change, error) {
	in, err := s.selected(sel)
	if err != nil {
		return nil, public(err)
	}
	out := s.leftOut(sel)
	all := len(sel.Paths) == 0 && len(sel.Except) == 0
	list := s.Changes // of which there may be very many
	if !all {
		list = slices.DeleteFunc(slices.Clone(s.Changes), func(c Change) bool { return !in(c.edit) })
	}
	for i := range list {
		c := &list[i]
		c.LeftOut = out(c.edit, c.Ignored, c.Generated)
	}
	return list, nil
}

// leftOut returns a function that says of an edit whether a selection leaves it out since it
// is ignored or generated. A path with nothing but what is generated names that.
func (s *ChangeSet) leftOut(sel Selection) func(e *workspace.Edit, ignored, generated bool) bool {
	var named []string
	for _, p := range sel.Paths {
		p = workspace.CleanPath(s.Root, p)
		other := func(c Change) bool { return c.edit.At(p) && !c.Generated }
		if p != "." && !slices.ContainsFunc(s.Changes, other) {
			named = append(named, p)
		}
	}
	return func(e *workspace.Edit, ignored, generated bool) bool {
		return !s.ApplyIgnored && (ignored || generated && !slices.ContainsFunc(named, e.At))
	}
}

func (s *ChangeSet) selected(sel Selection) (func(e *workspace.Edit) bool, error) {
	for _, p := range sel.Except {
		if err := workspace.CheckExclude(p); err != nil {
			return nil, engine.InputError{Err: err}
		}
	}
	paths := make([]string, len(sel.Paths))
	for i, p := range sel.Paths {
		paths[i] = workspace.CleanPath(s.Root, p)
		if !slices.ContainsFunc(s.Changes, func(c Change) bool { return c.edit.At(paths[i]) }) {
			return nil, fault.New(fault.ChangeMissing, fault.Args{"path": p}, "%s: nothing there was changed", termsafe.Quote(p))
		}
	}
	return func(e *workspace.Edit) bool {
		return (len(paths) == 0 || slices.ContainsFunc(paths, e.At)) && (len(sel.Except) == 0 || !e.Matches(sel.Except))
	}, nil
}

// choose returns the edits of a selection, and the changes that it has and leaves out.
func (s *ChangeSet) choose(sel Selection) (chosen []*workspace.Edit, held []Change, err error) {
	in, err := s.selected(sel)
	if err != nil {
		return nil, nil, err
	}
	classes := sel.Classes
	if len(classes) == 0 {
		classes = []Class{Ordinary}
	}
	approved := make(map[string]bool)
	for _, p := range sel.Approved {
		approved[workspace.CleanPath(s.Root, p)] = true
	}
	edits := s.c.Edits
	out := s.leftOut(sel)
	shown := make([]*Change, len(edits))
	for i := range s.Changes {
		c := &s.Changes[i]
		if shown[c.index] = c; c.other >= 0 {
			shown[c.other] = c // both halves are decided as one
		}
	}
	wanted := func(i int) bool {
		e := &edits[i]
		if c := shown[i]; c != nil {
			e = c.edit
		}
		return !out(e, e.Ignored, s.c.Generated(i)) && in(e) && (!sel.Only || e.Implied || approved[e.Path])
	}
	allowed := func(i int) bool {
		class, withheld, p := Class(s.c.Verdicts[i].Class.String()), s.c.Verdicts[i].Withheld, edits[i].Path
		if c := shown[i]; c != nil {
			class, withheld, p = c.Class, c.Withheld, c.Path
		}
		return !withheld && (approved[p] || !sel.Only && !s.c.ByName(i) && slices.Contains(classes, class))
	}
	chosen = workspace.ChooseWhole(workspace.Pointers(edits), wanted, allowed)
	if len(chosen) == len(edits) {
		return chosen, nil, nil
	}
	taken := make([]bool, len(edits))
	next := 0
	for i := range edits {
		if next < len(chosen) && chosen[next] == &edits[i] {
			taken[i] = true
			next++
		}
	}
	for i := range s.Changes {
		c := &s.Changes[i]
		left := c.Withheld && c.Class == Ordinary || // bookkeeping that nobody misses
			len(sel.Classes) > 0 && !slices.Contains(sel.Classes, c.Class)
		if c.Skipped == "" && wanted(c.index) && !taken[c.index] && !left {
			held = append(held, *c)
		}
	}
	return chosen, held, nil
}

// count returns how many edits can be applied at all.
func count(edits []*workspace.Edit) int {
	n := 0
	for _, e := range edits {
		if !e.Implied && e.Skipped == "" && (e.Other == "" || e.Op != workspace.Delete) {
			n++
		}
	}
	return n
}
