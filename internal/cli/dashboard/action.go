package dashboard

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Kind is what an [Action] does.
type Kind int

// The kinds of actions.
const (
	None    Kind = iota
	Quit         // leave the dashboard
	Suspend      // stop the job, as Ctrl-Z does
	Redraw       // draw the screen anew
	Run          // give the screen to commands
	Look         // ask for the state of the networks of Names
	Policy       // Verb of Rule for the machine Names[0]
	Count        // count the changes of Names
)

// Verb is what becomes of a host that a machine was refused, or asks for.
type Verb string

// The verbs.
const (
	Allow     Verb = "allow"      // until the machine ends
	AllowOnce Verb = "allow once" // the connections that wait
	Always    Verb = "always"     // also when the machine starts again: into its file
	Deny      Verb = "deny"       // until the machine ends
)

// Action is what a key asks for.
type Action struct {
	Kind  Kind
	Names []string
	Rule  string
	Verb  Verb
	// Commands are those of mayfly that Run is about, each with its arguments, to be done one
	// after the other. With Read, what they print is to be read.
	Commands [][]string
	Read     bool
}

// Press takes a key and returns what it asks for.
func (m *Model) Press(k Key) Action {
	m.message = ""
	if k.Pasted && m.mode != modeFilter {
		m.Say("what is pasted is no command")
		return Action{}
	}
	switch k.Name {
	case "ctrl-c":
		if m.mode == modeConfirm || m.mode == modeFilter {
			break
		}
		return Action{Kind: Quit}
	case "ctrl-z":
		return Action{Kind: Suspend}
	case "ctrl-l":
		if m.mode == modeHeld {
			m.mode = modeList
		}
		return Action{Kind: Redraw}
	}
	switch m.mode {
	case modeHeld:
		return Action{}
	case modeFilter:
		m.typeFilter(k.Name)
		return Action{}
	case modeConfirm:
		m.mode = modeList
		if m.asked.Kind == Policy && m.asked.Names[0] == m.cursor {
			m.mode = modeNetwork
		}
		if k.Name != "y" {
			return Action{}
		}
		if m.asked.Kind == Run {
			for _, name := range m.asked.Names {
				delete(m.changes, name) // they will be others
			}
		}
		return m.asked
	case modeHelp:
		switch k.Name {
		case "up", "k":
			m.scroll = max(m.scroll-1, 0)
		case "down", "j":
			m.scroll = min(m.scroll+1, len(help)-1)
		default:
			m.mode = modeList
		}
		return Action{}
	case modeNetwork:
		return m.pressNetwork(k.Name)
	}
	return m.pressList(k.Name)
}

// typeFilter takes a key of a filter.
func (m *Model) typeFilter(key string) {
	const longest = 64
	switch key {
	case "enter", "down", "up":
		m.mode = modeList
	case "esc", "ctrl-c":
		m.mode, m.filter = modeList, ""
	case "ctrl-u":
		m.filter = ""
	case "backspace":
		_, n := utf8.DecodeLastRuneInString(m.filter)
		m.filter = m.filter[:len(m.filter)-n]
	default:
		if utf8.RuneCountInString(key) == 1 && termsafe.Is(key) && len(m.filter) < longest {
			m.filter += key
		}
	}
	m.arrange()
}

// move puts the cursor n machines further.
func (m *Model) move(n int) {
	if len(m.listed) > 0 {
		m.cursor = m.listed[max(min(slices.Index(m.listed, m.cursor)+n, len(m.listed)-1), 0)]
	}
}

// pressList takes a key while the list is shown.
func (m *Model) pressList(key string) Action {
	info, st := m.infos[m.cursor], m.status[m.cursor]
	page := max(m.layout().body-1, 1)
	switch key {
	case "q":
		return Action{Kind: Quit}
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-page)
	case "pgdn":
		m.move(page)
	case "home", "g":
		m.move(-len(m.listed))
	case "end", "G":
		m.move(len(m.listed))
	case "/":
		m.mode = modeFilter
	case "esc":
		m.filter = ""
		clear(m.marked)
		m.arrange()
	case "?":
		m.mode, m.scroll = modeHelp, 0
	}
	if m.cursor == "" {
		return Action{}
	}
	switch key {
	case " ":
		if m.marked[m.cursor] = !m.marked[m.cursor]; !m.marked[m.cursor] {
			delete(m.marked, m.cursor)
		}
		m.move(1)
	case "enter":
		return m.enter(info, st)
	case "d":
		return m.each(func(name string) []string { return []string{"diff", name} }, true)
	case "D":
		return m.each(func(name string) []string { return []string{"diff", "--patch", name} }, true)
	case "a":
		return m.confirm("apply what is ordinary of %s", m.each(func(name string) []string { return []string{"apply", name} }, true))
	case "s":
		if m.runs(m.cursor) {
			return Action{Kind: Run, Commands: [][]string{{"shell", m.cursor}}}
		}
	case "l":
		return Action{Kind: Run, Commands: [][]string{{"logs", m.cursor}}, Read: true}
	case "x":
		return m.end()
	case "c":
		a := m.each(func(string) []string { return nil }, false)
		for _, name := range a.Names {
			m.changes[name] = changes{counting: true}
		}
		if a.Kind != None {
			a = Action{Kind: Count, Names: a.Names}
		}
		return a
	case "n":
		if info.Network != "user" {
			m.Say("mayfly does not filter the network of %s: it is %s", m.cursor, words.Dash(info.Network))
		} else if m.runs(m.cursor) {
			return m.openNetwork()
		}
	}
	return Action{}
}

// runs reports whether a machine runs, and says so if it does not.
func (m *Model) runs(name string) bool {
	if running(m.infos[name]) {
		return true
	}
	m.Say("%s is %s", name, m.infos[name].State)
	return false
}

// each is an action that does a command in all targets, which must run.
func (m *Model) each(command func(name string) []string, read bool) Action {
	a := Action{Kind: Run, Names: m.targets(), Read: read}
	for _, name := range a.Names {
		if !m.runs(name) {
			return Action{}
		}
		a.Commands = append(a.Commands, command(name))
	}
	return a
}

// confirm asks whether an action is to be done.
func (m *Model) confirm(question string, a Action) Action {
	if a.Kind == None {
		return a
	}
	m.mode, m.asked = modeConfirm, a
	m.question = termsafe.Line(fmt.Sprintf(question+"? y/n", strings.Join(a.Names, ", ")))
	return Action{}
}

// enter shows the session of a machine, or starts the machine.
func (m *Model) enter(info mayfly.Info, st status) Action {
	switch {
	case running(info) && len(info.Sessions) > 0:
		return Action{Kind: Run, Commands: [][]string{attachArgs(info.Name, st)}}
	case running(info):
		m.Say("no agent works in %s: mayfly agent %s starts one, s opens a shell", info.Name, info.Name)
	case info.Defined && (info.State == mayfly.StateStopped || info.State == "dead"):
		return m.confirm("start %s", Action{Kind: Run, Names: []string{info.Name}, Commands: [][]string{{"start", info.Name}}})
	default:
		m.runs(info.Name)
	}
	return Action{}
}

// end asks whether the targets are to be ended. What has no file of its own is removed.
func (m *Model) end() Action {
	a := Action{Kind: Run, Names: m.targets()}
	removed := 0
	for _, name := range a.Names {
		info := m.infos[name]
		switch {
		case !info.Defined:
			removed++
			a.Commands = append(a.Commands, []string{"rm", name})
		case info.State == mayfly.StateStopped || info.State == "dead":
			m.Say("%s is %s", name, info.State)
			return Action{}
		default:
			a.Commands = append(a.Commands, []string{"stop", name})
		}
	}
	question := "stop %s"
	switch removed {
	case 0:
	case len(a.Names):
		question = "remove %s, with everything in it"
	default:
		question = "stop %s, and remove those of mayfly run"
	}
	return m.confirm(question, a)
}
