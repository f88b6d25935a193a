package review

import "slices"

// Watcher knows which files of a directory are worth a look before and after somebody
// else had it: those that a review could find to run by themselves, and those by which
// git finds its data. It is for directories that are live in a machine, of which there is
// no list of changes.
type Watcher struct {
	set   *set
	leads map[string]bool // see Leads
}

// NewWatcher returns the watcher of a directory, as it is now.
func NewWatcher(host Host, own []Extra) *Watcher {
	w := &Watcher{newSet(Input{Host: host, Extra: own}), map[string]bool{}}
	for i, patterns := range w.set.index.patterns {
		for _, p := range patterns {
			if w.set.table[i].class == Runs {
				w.lead(p)
			}
		}
	}
	for _, e := range w.set.extra {
		if e.Class >= Runs {
			w.lead(e.pattern)
		}
	}
	return w
}

// Watches reports whether a new file of unknown content at path could have the class Runs,
// by the rules of paths, by what the files that run already name, or by the user's own rules.
func (w *Watcher) Watches(path string) bool {
	s := w.set.subject(&Change{Path: path, New: Node{Kind: Regular, Mode: 0o755}})
	grave := Runs
	for _, i := range w.set.index.always {
		if r := &w.set.table[i]; r.class == Runs && len(r.judge(s)) > 0 {
			return true
		}
	}
	for _, i := range s.about() {
		r := &w.set.table[i]
		if !r.takes(Regular) {
			continue
		}
		for _, f := range r.judge(s) {
			if f.Class == grave || f.Class > grave && s.inGitDir() {
				return true
			}
		}
	}
	return slices.ContainsFunc(w.set.extra, func(e extra) bool { return e.Class >= grave && e.pattern.match(s.names) })
}

// lead notes the names of directories in a pattern.
func (w *Watcher) lead(p pattern) {
	dirs := p.names
	if !p.below {
		dirs = dirs[:len(dirs)-1]
	}
	for _, n := range dirs {
		if !n.wild {
			w.leads[n.text] = true
		}
	}
}

// Leads reports whether rules are about what is in a directory of this name. A link of that
// name gives the files of another directory such a place.
func (w *Watcher) Leads(name string) bool { return w.leads[fold(name)] }

// LinkFinding is what is found of a link for which Leads is true.
func LinkFinding(target string) Finding {
	return Finding{Rule: "live-link", Class: Runs, Reason: "this computer finds what it runs behind this link", Detail: bounded(target)}
}
