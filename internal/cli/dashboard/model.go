// Package dashboard is what mayfly top shows on a terminal: machines and what becomes of
// them go in, keys make actions of it, and a screen comes out. It reads nothing and does
// nothing itself, and knows no time but the one that it is told.
package dashboard

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// mode is what keys mean.
type mode int

const (
	modeList    mode = iota
	modeFilter       // a filter is typed
	modeConfirm      // a question is answered
	modeNetwork      // hosts that one machine was refused
	modeHelp
	modeHeld // nothing is a command
)

// Model is all that is shown. Its zero value, resized, shows that nothing is known yet.
type Model struct {
	rows, cols int
	now        time.Time
	known      bool // there was a list of machines

	infos   map[string]mayfly.Info
	status  map[string]status
	usage   map[string]mayfly.Usage
	network map[string]mayfly.NetworkState
	looked  map[string]int // refusals of a machine that its user has seen
	changes map[string]changes

	mode    mode
	listed  []string // names, in the order in which they are shown
	cursor  string   // one of them
	top     int      // the first that is shown
	marked  map[string]bool
	filter  string
	message string
	asked   Action // what a yes does
	// question is about asked. No news takes its place: the answer is about what was read.
	question string
	scroll   int    // of the help, or the host that is chosen
	hosts    []host // that are shown of one machine
}

// changes is what is known of what a machine changed.
type changes struct {
	count    int
	counting bool
}

// New returns a model that knows nothing.
func New() *Model {
	return &Model{
		infos: make(map[string]mayfly.Info), status: make(map[string]status), usage: make(map[string]mayfly.Usage),
		network: make(map[string]mayfly.NetworkState), looked: make(map[string]int), changes: make(map[string]changes), marked: make(map[string]bool),
	}
}

// Resize says how large the screen is.
func (m *Model) Resize(rows, cols int) { m.rows, m.cols = rows, cols }

// Tick says what time it is.
func (m *Model) Tick(now time.Time) { m.now = now }

// Say shows a message until a key is pressed.
func (m *Model) Say(format string, args ...any) {
	m.message = termsafe.Line(fmt.Sprintf(format, args...))
}

// Hold takes no key as a command until Ctrl-L: what is typed or pasted is for a program of a
// machine's, which has just ended, at a moment of its own choice.
func (m *Model) Hold() { m.mode = modeHeld }

// SetMachines takes a new list of machines.
func (m *Model) SetMachines(list []mayfly.Info) {
	infos := make(map[string]mayfly.Info)
	for _, i := range list {
		st := asking(statusOf(i), m.network[i.Name])
		if st.since.IsZero() {
			was, ok := m.status[i.Name]
			switch {
			case !ok:
				st.since, st.least = m.now, !m.known
			case was.word != st.word || was.session != st.session:
				st.since = m.now
			default:
				st.since, st.least = was.since, was.least
			}
		}
		if old, ok := m.infos[i.Name]; ok && !old.Started.Equal(i.Started) {
			m.forget(i.Name) // another one of this name
		}
		infos[i.Name], m.status[i.Name] = i, st
	}
	for name := range m.infos {
		if _, ok := infos[name]; !ok {
			m.forget(name)
			delete(m.status, name)
			delete(m.marked, name)
		}
	}
	m.infos, m.known = infos, true
	m.arrange()
}

// forget drops what was measured of a machine that has ended.
func (m *Model) forget(name string) {
	delete(m.usage, name)
	delete(m.network, name)
	delete(m.looked, name)
	delete(m.changes, name)
}

// SetUsage takes a new measurement.
func (m *Model) SetUsage(list []mayfly.Usage) {
	clear(m.usage)
	for _, u := range list {
		m.usage[u.Name] = u
	}
}

// SetNetwork takes the state of a machine's network.
func (m *Model) SetNetwork(name string, st mayfly.NetworkState) {
	if _, ok := m.infos[name]; !ok {
		return
	}
	m.network[name] = st
	if (len(st.Questions) > 0) != (m.status[name].word == wordAsks) {
		m.SetMachines(slices.Collect(maps.Values(m.infos)))
	}
	shown := m.mode == modeNetwork && m.cursor == name
	if shown {
		m.mergeHosts()
	}
	if n := words.DeniedCount(st); m.looked[name] > n || shown {
		m.looked[name] = n
	}
}

// SetChanges takes how many files a machine has changed, or why that is not known.
func (m *Model) SetChanges(name string, n int, err error) {
	delete(m.changes, name)
	if err != nil {
		m.Say("count the changes of %s: %v", name, err)
		return
	}
	m.changes[name] = changes{count: n}
}

// denied is how many refusals of a machine its user has not seen.
func (m *Model) denied(name string) int {
	return words.DeniedCount(m.network[name]) - m.looked[name]
}

// arrange sorts the machines that the filter lets through. The cursor stays on its machine.
func (m *Model) arrange() {
	at := slices.Index(m.listed, m.cursor)
	m.listed = m.listed[:0]
	for name := range m.infos {
		if m.matches(name) {
			m.listed = append(m.listed, name)
		}
	}
	slices.SortFunc(m.listed, func(x, y string) int {
		a, b := m.status[x], m.status[y]
		c := cmp.Compare(a.rank, b.rank)
		if c == 0 && a.rank == rankWaits {
			c = a.since.Compare(b.since) // the longest first
		}
		return cmp.Or(c, cmp.Compare(x, y))
	})
	if m.mode == modeNetwork && m.infos[m.cursor].Name == "" {
		m.mode = modeList
		m.Say("%s has ended", m.cursor)
	}
	switch {
	case m.mode == modeNetwork || slices.Contains(m.listed, m.cursor):
	case len(m.listed) == 0:
		m.cursor = ""
	default:
		m.cursor = m.listed[min(max(at, 0), len(m.listed)-1)]
	}
}

func (m *Model) matches(name string) bool {
	text := strings.Join([]string{name, m.status[name].word, m.status[name].session, m.infos[name].Workspace}, "\n")
	return strings.Contains(strings.ToLower(text), strings.ToLower(m.filter))
}

// targets are the machines that a key is about: those that are marked, or else the chosen
// one.
func (m *Model) targets() []string {
	var names []string
	for _, name := range m.listed {
		if m.marked[name] {
			names = append(names, name)
		}
	}
	if len(names) == 0 && m.cursor != "" {
		names = []string{m.cursor}
	}
	return names
}
