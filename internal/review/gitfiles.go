package review

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/review/gitconfig"
)

// git returns what the host's git has set up: what the caller knows, and what the
// workspace's own configuration says.
func (t *set) git() *GitFacts {
	if t.facts != nil {
		return t.facts
	}
	facts := t.in.Host.Git
	t.facts = &facts
	facts.Drivers, facts.Remotes = clone(facts.Drivers), clone(facts.Remotes)
	for _, name := range t.dir(".git/hooks").host {
		if !strings.HasSuffix(name, ".sample") {
			facts.Hooks = append(facts.Hooks, name)
		}
	}
	if t.in.Host.Read == nil {
		return t.facts
	}
	data, err := t.in.Host.Read(".git/config", gitconfig.MostBytes)
	if err != nil {
		return t.facts
	}
	settings, err := gitconfig.Parse(data)
	if err != nil {
		return t.facts
	}
	for _, s := range settings {
		switch {
		case s.Section == "core" && s.Name == "hookspath" && inTree(path.Clean(s.Value)):
			facts.HooksPath = path.Clean(s.Value)
		case s.Section == "filter" || s.Section == "merge" && s.Name == "driver" || s.Section == "diff" && (s.Name == "command" || s.Name == "textconv"):
			facts.Drivers[s.Section+"."+s.Subsection] = s.Value
		case s.Section == "remote" && s.Name == "url":
			facts.Remotes[s.Subsection] = s.Value
		case s.Included() != "":
			facts.Includes = append(facts.Includes, path.Join(".git", s.Included()))
		}
	}
	return t.facts
}

func clone(m map[string]string) map[string]string {
	c := make(map[string]string, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

// inTree reports whether a clean path is below the workspace's root.
func inTree(p string) bool {
	return p != "." && p != ".." && !strings.HasPrefix(p, "../") && !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "~")
}

// includes returns the folded paths of files that git's configuration includes: the
// host's, and what the change set would make of it.
func (t *set) includes() map[string]bool {
	if t.included != nil {
		return t.included
	}
	t.included = map[string]bool{}
	for _, p := range t.git().Includes {
		t.included[fold(p)] = true
	}
	for i := range t.in.Changes {
		c := &t.in.Changes[i]
		if base := path.Base(c.Path); len(base) < 6 || !strings.EqualFold(base[:6], "config") {
			continue
		}
		s := t.subject(c)
		if !s.isConfig() {
			continue
		}
		data, err := s.new()
		if err != nil {
			continue
		}
		settings, err := gitconfig.Parse(data)
		if err != nil {
			continue
		}
		for _, setting := range settings {
			if p := path.Join(path.Dir(c.Path), setting.Included()); setting.Included() != "" && inTree(p) {
				t.included[fold(p)] = true
			}
		}
	}
	return t.included
}

// newLines returns the lines of the new content that the old one has not, with their
// numbers from 1.
func (s *subject) newLines() (map[int]string, error) {
	before, err := s.old()
	if err != nil {
		return nil, err
	}
	after, err := s.new()
	if err != nil {
		return nil, err
	}
	had := map[string]bool{}
	for line := range bytes.Lines(before) {
		had[strings.TrimSpace(string(line))] = true
	}
	added, number := map[int]string{}, 0
	for line := range bytes.Lines(after) {
		number++
		if text := strings.TrimSpace(string(line)); text != "" && text[0] != '#' && !had[text] && len(added) < mostLines {
			added[number] = text
		}
	}
	return added, nil
}

// mostLines bounds the lines of one file that are looked at.
const mostLines = 10_000

// knownDrivers are git's own, which run nothing.
var knownDrivers = strings.Fields(`diff.ada diff.bash diff.bibtex diff.cpp diff.csharp diff.css diff.dts diff.elixir diff.fortran diff.fountain
	diff.golang diff.html diff.ini diff.java diff.kotlin diff.markdown diff.matlab diff.objc diff.pascal diff.perl diff.php diff.python
	diff.ruby diff.rust diff.scheme diff.tex diff.astextplain merge.text merge.binary merge.union`)

func attributes(s *subject) []Finding {
	if s.change.New.Kind == None {
		return []Finding{{Reason: "removes what git does with files", Class: Builds}}
	}
	lines, err := s.newLines()
	if err != nil {
		return []Finding{{Class: Runs, Reason: "attributes that cannot be read; they may run programs"}}
	}
	var found []Finding
	for number, line := range lines {
		words := strings.Fields(line)
		binary := slices.Contains(documents, strings.ToLower(path.Ext(words[0]))) || slices.Contains(loaded, strings.ToLower(path.Ext(words[0]))) ||
			slices.Contains([]string{".zip", ".gz", ".xz", ".bz2", ".zst", ".tgz", ".7z", ".rar", ".bin", ".db", ".sqlite", ".dat"}, strings.ToLower(path.Ext(words[0])))
		for _, word := range words[1:] {
			if f, ok := s.attribute(word, binary); ok && len(found) < mostFindings {
				f.Line, f.Key, f.Detail = number, bounded(word), bounded(line)
				found = append(found, f)
			}
		}
	}
	slices.SortFunc(found, func(a, b Finding) int { return a.Line - b.Line })
	return found
}

// attribute judges one attribute; binary says that files of that name are no text.
func (s *subject) attribute(word string, binary bool) (Finding, bool) {
	name, value, _ := strings.Cut(word, "=")
	switch name {
	case "filter", "diff", "merge":
		if value == "" {
			break
		}
		driver := name + "." + value
		command, defined := s.set.git().Drivers[driver]
		switch {
		case driver == "filter.lfs" && (!defined || strings.HasPrefix(command, "git-lfs ") || command == "true"):
			return Finding{Class: Builds, Reason: "git-lfs handles these files"}, true
		case defined:
			return Finding{Class: Runs, Reason: "git runs a program of your configuration on these files"}, true
		case slices.Contains(knownDrivers, driver):
			return Finding{}, false
		}
		return Finding{Class: Builds, Reason: "git would run this driver on the files, if defined"}, true
	case "export-subst", "working-tree-encoding":
		return Finding{Class: Suspicious, Reason: "rewrites the content of files in archives or checkouts"}, true
	case "linguist-generated":
		return Finding{Class: Suspicious, Reason: "hides content in diffs"}, value != "false"
	}
	if (word == "-diff" || word == "binary" || word == "-text") && !binary && word != "-text" {
		return Finding{Class: Suspicious, Reason: "hides content in diffs"}, true
	}
	return Finding{}, false
}

func submodules(s *subject) []Finding {
	data, err := s.new()
	if err != nil {
		return []Finding{{}}
	}
	if old, err := s.old(); err != nil || bytes.Contains(data, []byte("\r")) && !bytes.Contains(old, []byte("\r")) {
		return []Finding{{}}
	}
	changes, err := configChanges(s)
	if err != nil {
		return []Finding{{Detail: bounded(err.Error())}}
	}
	var found []Finding
	for _, c := range changes {
		if c.Removed || len(found) == mostFindings {
			continue
		}
		f := Finding{Key: bounded(c.Key()), Line: c.Line, Detail: bounded(c.Value)}
		switch {
		case oddSubmodule(c):
		case c.Name == "url":
			f.Class, f.Reason = Builds, "submodule code comes from this address"
		default:
			f.Class, f.Reason = Builds, "changes how a submodule is fetched"
		}
		found = append(found, f)
	}
	return found
}

// oddSubmodule reports whether a setting has a shape of attacks on git.
func oddSubmodule(c gitconfig.Change) bool {
	value := strings.ToLower(c.Value)
	control := strings.ContainsFunc(c.Value+c.Subsection, func(r rune) bool { return r < ' ' || r == 0x7f })
	parts := append(strings.Split(c.Subsection, "/"), strings.Split(strings.ReplaceAll(c.Subsection, `\`, "/"), "/")...)
	if c.Name == "path" {
		parts = append(parts, strings.Split(strings.ReplaceAll(c.Value, `\`, "/"), "/")...)
	}
	switch {
	case control, slices.Contains(parts, ".."), strings.HasPrefix(c.Value, "-"), strings.HasPrefix(c.Subsection, "-"):
		return true
	case c.Section != "submodule", gitLike(strings.Join(parts, "/")), slices.Contains(parts, ".git"):
		return true
	case c.Name == "update":
		return strings.HasPrefix(value, "!")
	case c.Name == "url":
		return strings.Contains(value, "::") || strings.HasPrefix(value, "file:") || strings.HasPrefix(value, "/") || strings.Contains(value, "%0")
	case c.Name == "ignore":
		return value != "none"
	}
	return false
}

// ignoring is about new lines that keep git from showing a change of the same change set
// that rules are about.
func ignoring(s *subject) []Finding {
	lines, err := s.newLines()
	if err != nil {
		return nil
	}
	dir := path.Dir(s.folded)
	var found []Finding
	for number, line := range lines {
		text := strings.TrimSuffix(strings.TrimSuffix(fold(line), "/**"), "/")
		if strings.HasPrefix(text, "!") || text == "" {
			continue
		}
		p := newPattern(text)
		if !p.rooted && strings.Contains(text, "/") {
			p.rooted = true
		}
		for _, other := range s.set.grave() {
			below, ok := strings.CutPrefix(other.folded, dir+"/")
			if dir == "." {
				below, ok = other.folded, true
			}
			if !ok || len(found) == mostFindings {
				continue
			}
			names := strings.Split(below, "/")
			under := p
			under.below = true
			if p.match(names) || under.match(names) {
				found = append(found, Finding{Line: number, Key: bounded(line), Detail: bounded(other.change.Path)})
				break
			}
		}
	}
	slices.SortFunc(found, func(a, b Finding) int { return a.Line - b.Line })
	return found
}

// mostGrave bounds with how many changes new lines of ignore files are compared.
const mostGrave = 500

// grave returns the new files of the change set that rules of paths are about, where no
// tool produced them.
func (t *set) grave() []*subject {
	if t.graves != nil {
		return t.graves
	}
	t.graves = []*subject{}
	for i := range t.in.Changes {
		c := &t.in.Changes[i]
		if c.New.Kind != Regular && c.New.Kind != Symlink || len(t.graves) == mostGrave {
			continue
		}
		s := t.subject(c)
		if s.inGitDir() || s.generated() {
			continue
		}
		if slices.ContainsFunc(s.about(), func(i int) bool {
			return t.table[i].class >= Builds && t.table[i].id != "git-ignore" && t.table[i].takes(c.New.Kind)
		}) {
			t.graves = append(t.graves, s)
		}
	}
	return t.graves
}
