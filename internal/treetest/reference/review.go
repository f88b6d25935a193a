package reference

import (
	"fmt"

	"github.com/mayfly-vm/mayfly/internal/review"
)

func rules() string {
	p := newPage("Review rules", "the table in `internal/review`")
	p.paragraph("What mayfly says of changes before they come back. A change has the gravest class of the rules that\n" +
		"find something in it, and no rule finds anything in an ordinary one. That is not a promise: the code of an\n" +
		"ordinary file runs when its program does. Patterns match at every depth, without regard to case and to\n" +
		"Unicode form; one that begins with `/` is for the workspace's root, and `**` at the end is all below.")
	p.paragraph("A rule that looks closer may find nothing, and may find something graver or less grave than its class:\n" +
		"of a file of settings only the keys that changed count. What is withheld never comes back as a file.")
	for _, class := range []struct {
		class review.Class
		title string
	}{
		{review.Runs, "Runs, or is obeyed, by itself"},
		{review.Builds, "Runs when you build, test, install or push"},
		{review.Suspicious, "Suspicious"},
		{review.Ordinary, "Ordinary"},
	} {
		var rows [][]string
		for _, r := range review.Rules() {
			if r.Class != class.class {
				continue
			}
			paths := "all"
			if len(r.Paths) > 0 {
				paths = patterns(r.Paths)
			}
			rows = append(rows, []string{code(r.ID), plain(r.Reason), mark(r.Looks), mark(r.Withholds), paths})
		}
		if len(rows) > 0 {
			p.printf("\n## %s\n", class.title)
			p.table([]string{"rule", "reason", "looks closer", "withheld", "paths"}, rows)
		}
	}
	return p.String()
}

// patterns lists some of many.
func patterns(all []string) string {
	const most = 24
	if len(all) <= most {
		return codes(all)
	}
	return codes(all[:most]) + fmt.Sprintf(" and %d more", len(all)-most)
}

func mark(yes bool) string {
	if yes {
		return "yes"
	}
	return ""
}
