// Package agentsettings decides which of a user's own settings of coding agents come along
// into a machine, and reads them.
//
// The home of a user goes in, and the list of what is safe from the table of coding agents.
// Out comes what is taken, what is left on the host and why, and for the machine's disk the
// files themselves. Texts such as skills are taken as they are, unless they look like a
// secret; of files with settings only known keys are, written anew. Log-ins and
// conversations are on no list. What is not taken is never an error.
//
// It reads through descriptors that no symbolic link leads astray, within bounds, and
// writes and runs nothing.
package agentsettings

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/dotfiles"
)

// Bounds of what is read, of all agents together.
const (
	maxFiles    = 1000
	maxBytes    = 16 << 20
	maxFile     = 1 << 20
	maxState    = 16 << 20 // of a file that is mostly not settings
	maxRead     = 64 << 20 // whether it is taken or not
	maxEntries  = 10_000   // of directories
	maxDepth    = 8
	maxLeft     = 100
	maxSettings = 300
	maxServers  = 50
)

// Set is what comes along, and what does not.
type Set struct {
	// Home is the directory on the host in which the settings are.
	Home   string  `json:"home"`
	Agents []Agent `json:"agents"`
}

// Agent is that of one coding agent.
type Agent struct {
	Name string `json:"name"`
	Dir  string `json:"dir"` // of the host
	// Moved says that a variable names Dir, be it the usual one.
	Moved bool `json:"moved,omitempty"`
	// Files are below the agent's directory in the machine, sorted.
	Files []string `json:"files,omitempty"`
	// Settings are the keys that files with settings have: "settings.json: model".
	Settings []string `json:"settings,omitempty"`
	Servers  []Server `json:"servers,omitempty"`
	Left     []Left   `json:"left,omitempty"`
	// MoreLeft is how many more are left than Left names.
	MoreLeft int `json:"more_left,omitempty"`
}

// Server is an MCP server that the agent has in the machine.
type Server struct {
	Name string `json:"name"`
	Runs string `json:"runs,omitempty"` // the program, in the machine
	Host string `json:"host,omitempty"` // of a remote one: "mcp.example.com", with a port if it has one
}

// Left is what stays on the host.
type Left struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Input is whose settings are read, and for which machine.
type Input struct {
	Home      string // on the host
	GuestHome string
	Workspace string // the same path on both; "" for none
	Agents    []string
	Getenv    func(string) string // of the host
}

// Read says which settings of the agents come along. Agents without any are not in the set.
func Read(in Input) Set {
	dirs := make(map[string]place)
	for _, name := range in.Agents {
		a, ok := codingagent.Find(name)
		if !ok {
			continue
		}
		own := a.OwnSettings()
		dirs[name] = place{filepath.Join(in.Home, own.Dir), false}
		if own.Variable != "" {
			if dir := in.Getenv(own.Variable); filepath.IsAbs(dir) {
				dirs[name] = place{filepath.Join(dir, own.Below), true}
			}
		}
	}
	set, _ := read(in.Home, in.GuestHome, in.Workspace, in.Agents, dirs)
	return set
}

// Pack reads the files of a set again, and returns them for the disk of dotfiles. What is not
// safe any more is left out, and what the set does not have is, too. seed returns what mayfly
// itself writes into a file of an agent where none is, "" for nothing.
func (s Set) Pack(guestHome, workspace string, seed func(agent, name string) string) ([]dotfiles.File, error) {
	var names []string
	dirs := make(map[string]place)
	for _, a := range s.Agents {
		names = append(names, a.Name)
		dirs[a.Name] = place{a.Dir, a.Moved}
	}
	_, found := read(s.Home, guestHome, workspace, names, dirs)
	var files []dotfiles.File
	for _, a := range s.Agents {
		agent, ok := codingagent.Find(a.Name)
		if !ok {
			continue
		}
		own := agent.OwnSettings()
		for _, name := range a.Files {
			f, ok := found[a.Name][name]
			if !ok {
				continue
			}
			if f.table != nil {
				var err error
				if f.data, err = encodeTOML(f.table, seed(a.Name, name)); err != nil {
					return nil, err
				}
			}
			files = append(files, dotfiles.File{Path: path.Join(codingagent.SettingsDir, own.At, name), Data: f.data, Exec: f.exec})
		}
	}
	return files, nil
}

// content is a file that is taken.
type content struct {
	data  []byte
	exec  bool
	table map[string]any // of TOML, which is put on top of mayfly's own
}

// place is the directory of an agent, and whether a variable names it.
type place struct {
	dir   string
	moved bool
}

// read reads the settings of agents in dirs.
func read(home, guestHome, workspace string, names []string, dirs map[string]place) (Set, map[string]map[string]content) {
	set := Set{Home: home}
	all := make(map[string]map[string]content)
	real, err := filepath.EvalSymlinks(home)
	if fi, statErr := os.Stat(real); err != nil || real == "/" || statErr != nil || !fi.IsDir() {
		return set, all
	}
	budget := &budget{}
	var resolved []string
	for _, name := range names {
		if dir, err := filepath.EvalSymlinks(dirs[name].dir); err == nil {
			resolved = append(resolved, dir)
		}
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		a, ok := codingagent.Find(name)
		if !ok || dirs[name].dir == "" {
			continue
		}
		r := reader{
			budget: budget, own: a.OwnSettings(), typed: home, home: real, guestHome: guestHome, workspace: workspace,
			agent: Agent{Name: name, Dir: dirs[name].dir, Moved: dirs[name].moved}, files: make(map[string]content), dirs: resolved,
		}
		r.all()
		if len(r.agent.Left)+len(r.files) == 0 {
			continue
		}
		for file := range r.files {
			r.agent.Files = append(r.agent.Files, file)
		}
		slices.Sort(r.agent.Files)
		set.Agents = append(set.Agents, r.agent)
		all[name] = r.files
	}
	return set, all
}

// budget is what may still be read.
type budget struct {
	files, entries int
	bytes, read    int64 // taken, and read
}

// reader reads the settings of one agent.
type reader struct {
	*budget
	own       codingagent.OwnSettings
	typed     string   // the home as the user knows it
	home      string   // without links
	dir       string   // of the agent, without links
	dirs      []string // of all agents, without links
	guestHome string
	workspace string
	agent     Agent
	files     map[string]content
}

// leave notes what stays on the host.
func (r *reader) leave(what, why string) {
	what = clip(what)
	if slices.ContainsFunc(r.agent.Left, func(l Left) bool { return l.What == what }) {
		return
	}
	if len(r.agent.Left) == maxLeft {
		r.agent.MoreLeft++
		return
	}
	r.agent.Left = append(r.agent.Left, Left{what, why})
}

// clip bounds a name.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// usual reports whether the agent's directory is where it is without a variable.
func (r *reader) usual() bool { return r.agent.Dir == filepath.Join(r.typed, r.own.Dir) }

// all reads all of the agent's settings.
func (r *reader) all() {
	dir, err := filepath.EvalSymlinks(r.agent.Dir)
	if err == nil {
		if fi, statErr := os.Stat(dir); statErr != nil || !fi.IsDir() {
			return
		}
		if r.usual() && dir != filepath.Join(r.home, r.own.Dir) { // where a variable leads, the user said so
			if why := r.refused(dir); why != "" {
				r.leave(r.own.Dir, why)
				return
			}
		}
		r.dir = dir
		for _, name := range r.own.Texts {
			r.entry(filepath.Join(dir, name), name, 1, ownPath)
		}
		for _, name := range r.own.Trees {
			r.entry(filepath.Join(dir, name), name, 1, ownPath)
		}
		for _, s := range r.own.Stays {
			if _, err := os.Lstat(filepath.Join(dir, s.What)); err == nil {
				r.leave(s.What, s.Why)
			}
		}
	}
	for _, e := range r.own.More {
		r.entry(filepath.Join(r.home, e.From), e.To, 1, ownPath)
	}
	for _, f := range r.own.Files {
		at := filepath.Join(r.dir, f.Path)
		if f.Home != "" && !r.agent.Moved {
			at = filepath.Join(r.home, f.Home)
		} else if r.dir == "" {
			continue
		}
		r.settings(at, f)
	}
}
