package codingagent

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Facts are what an agent is told of the machine that it works in.
type Facts struct {
	Quiet   bool // nothing
	Name    string
	Live    bool     // the workspace is the host's directory itself
	Network bool     // it has a network card
	Decided bool     // and mayfly decides what it reaches
	Public  bool     // also what no rule names, if it is public
	Asks    bool     // also what no rule names, if the user says so
	Allow   []string // the rules: "api.github.com"
	Ports   []string // published: "127.0.0.1:8080 on the user's computer is port 80 here"
}

// maxNoted bounds the hosts and ports that a note names.
const maxNoted = 20

// note returns what an agent is told, as Markdown: no more than it needs to help itself,
// or to ask.
func (f Facts) note(dir string) string {
	if f.Quiet {
		return ""
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "- "+format+"\n", args...) }
	b.WriteString("# You work in a mayfly machine\n\n")
	line("This is the virtual machine %s, which its user can throw away. The user's own computer, home and local network are out of reach.", f.Name)
	if f.Live {
		line("%s is the user's own directory: what you change there is changed at once.", code(dir))
	} else {
		line("%s is a private copy: the user reviews your changes before they reach the original.", code(dir))
	}
	line("`sudo` works without a password. What you install is gone when the machine ends.")
	switch {
	case !f.Network:
		line("There is no network.")
	case f.Decided && f.Public:
		line("Public hosts can be reached, by HTTPS and HTTP.%s", named(" These only as their rules say: ", f.Allow))
	case f.Decided && f.Asks:
		line("A connection to a host may wait for a minute, until the user has said whether it passes.%s", named(" These pass at once: ", f.Allow))
	case f.Decided && len(f.Allow) == 0:
		line("No host can be reached.")
	case f.Decided:
		line("Only these hosts can be reached:%s", named(" ", f.Allow))
	}
	if f.Network && f.Decided {
		line("A name that does not resolve, or a refusal that names mayfly, is the machine's policy and no fault: do not look for a way around it. If you need the host, ask the user to run `mayfly policy %s allow HOST`.", f.Name)
	}
	line("`localhost` is this machine, which the user's browser does not see. Ask the user to run `mayfly port %s add PORT:PORT`.%s", f.Name, named(" Published are: ", f.Ports))
	return b.String()
}

func code(s string) string { return "`" + strings.ReplaceAll(s, "`", "'") + "`" }

// named lists names behind a beginning, "" for none.
func named(begin string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	more := ""
	if n := len(names) - maxNoted; n > 0 {
		names, more = names[:maxNoted], fmt.Sprintf(" and %d more", n)
	}
	return begin + strings.Join(names, ", ") + more + "."
}

// noteFile returns the file with what the agent is told. It is never in the workspace, nor in
// a directory that other machines may have, too, of which it would not be true; what the
// user wrote there stays.
func (a Agent) noteFile(at Place, stores []string) (File, bool) {
	file := path.Join(stores[0], a.memory)
	shared := slices.ContainsFunc(at.Mounts, func(m string) bool { return within(file, m) })
	if at.Facts == nil || shared || within(file, at.Dir) {
		return File{}, false
	}
	return File{Path: file, Block: true, Text: at.Facts.note(at.Dir)}, true
}
