package review

import (
	"slices"
	"sync"
)

// rule is one row of the table.
type rule struct {
	id     string
	class  Class
	reason string // at most twelve words
	// paths are patterns of folded paths, of which one must match; none match all paths. See pattern.
	paths []string
	// kinds limits the rule to new nodes of these kinds; none means regular files and links
	// for rules with paths, and all for the others.
	kinds []Kind
	// deleted has the rule match the deletion of a path, too: of what guards something.
	deleted bool
	// when looks closer. It returns the findings with what differs from the rule's own
	// (class, reason, key, line, detail); their Rule is filled in. nil is one finding as the rule says.
	// Rules with paths and no kinds are not asked about links, which may lead to anything.
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
	shellRules,
	editorRules,
	homeRules,
	referenceRules,
	textRules,
	pipelineRules,
	buildRules,
	manifestRules,
	containerRules,
	lockRules,
	wholeRules,
)

// theIndex is made by the first review: most commands have none.
var theIndex = sync.OnceValue(func() *index { return newIndex(table) })

// takes reports whether the rule is about changes of this kind.
func (r *rule) takes(kind Kind) bool {
	switch {
	case kind == None:
		return r.deleted
	case len(r.kinds) > 0:
		return slices.Contains(r.kinds, kind)
	}
	return len(r.paths) == 0 || kind != Dir
}

// judge returns the rule's findings.
func (r *rule) judge(s *subject) []Finding {
	var found []Finding
	switch {
	case r.when == nil:
		found = []Finding{{}}
	case len(r.paths) > 0 && len(r.kinds) == 0 && s.change.New.Kind == Symlink:
		found = []Finding{{Detail: bounded("it is a link to " + s.change.New.Target)}}
	default:
		found = r.when(s)
	}
	for i := range found {
		f := &found[i]
		f.Rule = r.id
		if f.Reason == "" {
			f.Class, f.Reason = r.class, r.reason
		}
	}
	return found
}

// Rule is a row of the table, for people.
type Rule struct {
	ID     string
	Class  Class    // of most of what it finds
	Reason string   // of most of what it finds
	Paths  []string // patterns, in lower case; none for all paths
	// Looks says that the rule looks closer: at contents, kinds or facts of the host.
	Looks bool
	// Withholds says that what the rule finds does not come back as a file.
	Withholds bool
}

// Rules returns the table, in the order in which the rules are asked.
func Rules() []Rule {
	all := make([]Rule, len(table))
	for i, r := range table {
		all[i] = Rule{r.id, r.class, r.reason, slices.Clone(r.paths), r.when != nil, r.withholds}
	}
	return all
}
