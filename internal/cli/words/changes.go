package words

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Changes says how many changes there are of each kind.
func Changes(changes []mayfly.Change) string {
	counts := make(map[string]int)
	for _, c := range changes {
		counts[c.Op]++
	}
	var parts []string
	for _, op := range []struct{ op, verb string }{{"A", "added"}, {"M", "modified"}, {"D", "deleted"}, {"R", "renamed"}} {
		if n := counts[op.op]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, op.verb))
		}
	}
	return strings.Join(parts, ", ")
}

// LeftOut says how many changes of files there are that are ignored or generated, and how
// large they are.
func LeftOut(files int, bytes int64, how string) string {
	text := group(files) + " " + how + " files changed"
	if files == 1 {
		text = "1 " + how + " file changed"
	}
	if bytes > 0 {
		text += ", " + Size(bytes)
	}
	return text
}

// group writes a number in groups of three digits.
func group(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Attempt says what became of an attempt to get out of a machine's network.
func Attempt(r mayfly.Attempt) string {
	switch {
	case r.Skipped:
		return "skipped"
	case !r.Refused:
		return "REACHED"
	case !r.Recorded:
		return "NOT RECORDED"
	}
	return "refused"
}

// Class says what the changes of a class have in common.
func Class(c mayfly.Class) string {
	switch c {
	case mayfly.Builds:
		return "run when you build, test, install or push"
	case mayfly.Runs:
		return "run, or are obeyed, by themselves"
	case mayfly.Suspicious:
		return "suspicious"
	}
	return "ordinary"
}

// Classes says how many changes there are of each class; "" if all are ordinary.
func Classes(changes []mayfly.Change) string {
	counts := make(map[mayfly.Class]int)
	for _, c := range changes {
		counts[c.Class]++
	}
	ordinary := counts[mayfly.Ordinary] + counts[""]
	if ordinary == len(changes) {
		return ""
	}
	var parts []string
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			parts = append(parts, "1 "+one)
		case n > 1:
			parts = append(parts, group(n)+" "+many)
		}
	}
	add(ordinary, "ordinary", "ordinary")
	add(counts[mayfly.Builds], "runs when you build", "run when you build")
	add(counts[mayfly.Runs], "runs by itself", "run by themselves")
	add(counts[mayfly.Suspicious], "suspicious", "suspicious")
	return strings.Join(parts, ", ")
}

// Reviewed is a change with the reason of its class on one line.
func Reviewed(c mayfly.Change) string {
	text := c.String()
	if len(c.Rules) > 0 {
		text += ": " + Finding(c.Rules[0])
	}
	if n := len(c.Rules) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	if c.Hidden {
		text += " [git does not show it]"
	}
	switch {
	case c.Withheld && c.Path == mayfly.GitConfig:
		text += " [stays in the machine, but for single settings]"
	case c.Withheld:
		text += " [stays in the machine]"
	case c.ByName:
		text += " [applied only by its name]"
	}
	return text
}

// Alike is many changes with the same reason on one line.
func Alike(changes []*mayfly.Change) string {
	dir := path.Dir(changes[0].Path)
	for _, c := range changes {
		for dir != "." && !strings.HasPrefix(c.Path, dir+"/") {
			dir = path.Dir(dir)
		}
	}
	text := group(len(changes)) + " changes"
	if dir != "." {
		text += " in " + termsafe.Quote(dir) + "/"
	}
	if rules := changes[0].Rules; len(rules) > 0 {
		text += ": " + termsafe.Line(rules[0].Reason)
	}
	return text
}

// Whole is a change that is decided as a whole.
func Whole(c mayfly.Change) string {
	what := "this change"
	switch {
	case c.Op == "R":
		what = "this rename"
	case c.Op == "D" && c.Kind == "directory":
		what = "the deletion of this directory"
	case c.Op == "D":
		what = "this deletion"
	case c.Kind == "symbolic link":
		what = "this link"
	case c.Op == "A":
		what = "this new " + c.Kind
	case c.Kind == "directory" && c.Mode != c.OldMode:
		what = "this mode"
	}
	return what
}

// Held is a change that was held back, with the reason.
func Held(c mayfly.Change) string {
	switch {
	case len(c.Rules) > 0:
		return termsafe.Quote(c.Path) + ": " + Finding(c.Rules[0])
	case c.Class == mayfly.Ordinary:
		return termsafe.Quote(c.Path)
	}
	return termsafe.Quote(c.Path) + ": " + Class(c.Class)
}

// Finding is the reason of a class, with what it is about.
func Finding(f mayfly.Finding) string {
	text := termsafe.Line(f.Reason)
	if f.Key != "" {
		text += ": " + termsafe.Line(f.Key)
	}
	if f.Detail != "" {
		text += " = " + termsafe.Quote(termsafe.Clip(f.Detail, 80))
	}
	if f.Line > 0 {
		text += fmt.Sprintf(" (line %d)", f.Line)
	}
	return text
}

// GitSetting is a setting of git's on one line.
func GitSetting(s mayfly.GitSetting) string {
	values := func(list []string) string {
		if len(list) == 0 {
			return "not set"
		}
		var quoted []string
		for _, v := range list {
			quoted = append(quoted, termsafe.Quote(v))
		}
		return strings.Join(quoted, ", ")
	}
	text := fmt.Sprintf("%s = %s (here %s): %s", termsafe.Quote(s.Key), values(s.New), values(s.Old), termsafe.Line(s.Reason))
	if s.Never != "" {
		text += " [stays in the machine: " + s.Never + "]"
	}
	return text
}

// Opaque says why a content is not compared line by line.
func Opaque(why string) string {
	switch why {
	case "binary":
		return "binary content"
	case "large":
		return "too large to compare line by line"
	case "lost":
		return "the content is not known any more"
	}
	return "the content is in the machine only"
}

// Hunk is the first line of a hunk.
func Hunk(h mayfly.Hunk) string {
	span := func(s [2]int) string {
		if s[1] == 1 {
			return strconv.Itoa(s[0])
		}
		return fmt.Sprintf("%d,%d", s[0], s[1])
	}
	return "@@ -" + span(h.Old) + " +" + span(h.New) + " @@"
}
