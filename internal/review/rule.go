package review

import "slices"

// rule is one row of the table.
type rule struct {
	id     string
	class  Class
	reason string // at most twelve words
	// paths are patterns of folded paths, of which one must match; none match all paths. See match.
	paths []string
	// kinds limits the rule to new nodes of these kinds; none means all but a deletion.
	kinds []Kind
	// deleted has the rule match the deletion of a path, too: of what guards something.
	deleted bool
	// when looks closer. It returns the findings with what differs from the rule's own
	// (class, reason, key, line, detail); their Rule is filled in. nil is one finding as the rule says.
	when func(*subject) []Finding
	// withholds says that what matches does not come back as a file.
	withholds bool
}

// table is all rules.
var table = slices.Concat(
	gitRules,
	nameRules,
	linkRules,
	agentRules,
	textRules,
	pipelineRules,
	buildRules,
	manifestRules,
	containerRules,
	lockRules,
)

// matches reports whether the rule is about the change at all.
func (r *rule) matches(s *subject) bool {
	kind := s.change.New.Kind
	switch {
	case kind == None && !r.deleted:
		return false
	case len(r.kinds) > 0 && !slices.Contains(r.kinds, kind) && kind != None:
		return false
	}
	return len(r.paths) == 0 || slices.ContainsFunc(r.paths, s.matches)
}

// judge returns the rule's findings.
func (r *rule) judge(s *subject) []Finding {
	if r.when == nil {
		return []Finding{{Rule: r.id, Class: r.class, Reason: r.reason}}
	}
	found := r.when(s)
	for i := range found {
		f := &found[i]
		f.Rule = r.id
		if f.Reason == "" {
			f.Class, f.Reason = r.class, r.reason
		}
	}
	return found
}

// Extra is a rule of the user's configuration.
type Extra struct {
	Pattern string
	Class   Class
	Reason  string
}

// judge returns the finding of a rule that raises.
func (e *Extra) judge(s *subject) (Finding, bool) {
	if !s.matches(e.Pattern) {
		return Finding{}, false
	}
	return Finding{Rule: "own", Class: e.Class, Reason: e.Reason}, e.Class > Ordinary
}

// lowers reports whether e names exactly this path: only so a class is lowered.
func (e *Extra) lowers(s *subject) bool { return e.Pattern == s.change.Path }
