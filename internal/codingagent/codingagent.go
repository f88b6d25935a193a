// Package codingagent holds all that mayfly knows of coding agents: one table.
//
// A row says what an agent is called, which npm package it is, which hosts it
// reaches, where it looks for skills and keeps its conversations, and how it is
// started so that it works without asking. The configuration, the images, the
// network, the importers, the skill, the supervisor and the commands derive from
// it. A new agent is one row, and its version in the lock file of image/agents. A
// test walks the source and fails where an agent is known outside the table.
//
// In comes an agent's name, and for its start the machine as it finds it and
// arguments; out come values. The package reads nothing,
// starts nothing, and knows neither disks nor machines.
package codingagent

import (
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/credential"
)

// StateDir is where the agents keep their files, below the home of the guest's
// user: one directory for each agent.
const StateDir = ".local/share/mayfly-agents"

// Default is the agent that most people use. Its command is shown in the help,
// those of the others are not.
const Default = "claude"

// Agent is a coding agent: a row of the table.
type Agent struct {
	Name  string // of its program, its command, its profile and its preset
	Title string // "Claude Code"

	// Package is what npm fetches, with VERSION in the place of the version: a
	// package with a program for Linux, or one with JavaScript and all that it
	// imports.
	Package  string
	Files    []string // what is taken out of it: files and directories
	Program  string   // the file among them that is the agent's program
	Packages []string // of Debian, without which the program does not run

	// Prewarm is the shell command that brings the program into memory before a
	// template is saved, since most of what a large program does first is to be
	// read; "" for one that gains nothing. What it writes is thrown away.
	Prewarm string

	Hosts []Host // its API and its log-in; those for updates and statistics are left out
	// Needless are hosts that it tries and needs nothing of: statistics, and updates
	// of a program that the image pins. No rule lets it reach them.
	Needless []string
	Nix      []string // the names of its package in nixpkgs, and of its option programs.NAME
	Skills   Skills
	// Logins are files with its log-in, below a user's home.
	Logins []string
	// Keys are the ways in which it takes a key that the host keeps for it; of those that
	// fit a key, the first counts.
	Keys []Key
	// KeyVariables are more variables from which it takes a key. With one of them it needs
	// none of the host's.
	KeyVariables []string
	// Subscription is how it takes the log-in of one; nil for an agent of which that is not
	// known.
	Subscription *Subscription
	// Continue are arguments with which it goes on with its last conversation.
	Continue []string

	// oneShot are arguments with which it reads a prompt from its standard input, does what
	// that says, and ends; none are needed where that is no terminal.
	oneShot     []string
	unattended  []string // flags that make it work without asking
	otherwise   []string // flags with which the user says how it is to ask
	subcommands []string // that do no work, and know no such flags
	after       []string // subcommands behind which the flags stand
	interactive []string // more flags, but for the subcommands that have no screen
	headless    []string // these
	stores      []store  // where it keeps its files
	memory      string   // the file in the first of them with what it is told by its user
	emulated    []string // variables for machines whose CPU is emulated
	settings    OwnSettings
	measured    string // the version whose contacts are below
	contacts    []Contact
	prepare     func(s *Spec, at Place, stores []string)
}

// Host is a host that an agent reaches by HTTPS.
type Host struct {
	Name  string   // "*.example.com" for all below
	Paths []string // what its paths begin with; empty for all
	// Keys are where its requests carry a key or a token; none if nothing is
	// known of that.
	Keys []credential.Place
	// Errors is the form in which its API says what is wrong.
	Errors ErrorForm
}

// Key is a way in which an agent takes a key.
type Key struct {
	Variable string
	Prefix   string   // of the keys that it is for; "" for all
	Hosts    []string // of the provider, the only ones to which such a key ever goes
}

// KeyFor returns how the agent takes the key that begins like value.
func (a Agent) KeyFor(value string) (Key, bool) {
	i := slices.IndexFunc(a.Keys, func(k Key) bool { return strings.HasPrefix(value, k.Prefix) })
	if i < 0 {
		return Key{}, false
	}
	return a.Keys[i], true
}

// TakesKey reports whether the agent takes a key from a variable.
func (a Agent) TakesKey(variable string) bool {
	return slices.Contains(a.KeyVariables, variable) ||
		slices.ContainsFunc(a.Keys, func(k Key) bool { return k.Variable == variable })
}

// Skills says where an agent looks for skills.
type Skills struct {
	Project string // below a project's directory
	User    string // below the directory that Variable names, or else below Default
	// Variable is one of the user's; "" for none.
	Variable string
	Default  string // below the user's home
}

// Transcripts is where an agent keeps its conversations, in the machine of a user.
type Transcripts struct {
	Name     string // of the agent
	Variable string // with it, they are in Below of the directory that it names
	Below    string
	Dirs     []string // absolute; without it, they are in these, the first that has them
	Files    []string // what they are: files and directories there
	Without  []string // but not what is in these directories: programs
}

// AllTranscripts returns where all agents keep their conversations below home, or may have
// before they were in an image.
func AllTranscripts(home string) []Transcripts {
	var all []Transcripts
	for _, a := range Agents() {
		all = append(all, a.Transcripts(home)...)
	}
	return all
}

// Transcripts returns that of one agent.
func (a Agent) Transcripts(home string) []Transcripts {
	var all []Transcripts
	for _, s := range a.stores {
		if len(s.transcripts) > 0 {
			dirs := []string{path.Join(home, StateDir, a.Name, s.sub), path.Join(home, s.own)}
			all = append(all, Transcripts{a.Name, s.variable, s.below, dirs, s.transcripts, s.programs})
		}
	}
	return all
}

// Converses reports whether the path name below one of the agent's directories is that of a
// file with a conversation.
func (a Agent) Converses(name string) bool {
	in := func(dir string) bool { return within(name, dir) }
	return slices.ContainsFunc(a.stores, func(s store) bool {
		return slices.ContainsFunc(s.transcripts, in) && !slices.ContainsFunc(s.programs, in)
	})
}

// Find returns the agent of that name.
func Find(name string) (Agent, bool) {
	return find(func(a Agent) bool { return a.Name == name })
}

// FindNix returns the agent that a package of nixpkgs is, or that an option
// programs.NAME turns on.
func FindNix(name string) (Agent, bool) {
	return find(func(a Agent) bool { return slices.Contains(a.Nix, name) })
}

func find(is func(Agent) bool) (Agent, bool) {
	agents := Agents()
	i := slices.IndexFunc(agents, is)
	if i < 0 {
		return Agent{}, false
	}
	return agents[i], true
}

// Names returns the names of all agents, sorted.
func Names() []string {
	var names []string
	for _, a := range Agents() {
		names = append(names, a.Name)
	}
	return names
}

// NeedlessOf returns the agent that needs nothing of a host although it tries it, "" for
// none.
func NeedlessOf(host string) string {
	a, _ := find(func(a Agent) bool { return slices.Contains(a.Needless, host) })
	return a.Name
}

// IsLogin reports whether the path name below a home is a file with the log-in of an agent.
func IsLogin(name string) bool {
	_, ok := find(func(a Agent) bool { return slices.Contains(a.Logins, name) })
	return ok
}

// Keeps reports whether the path name below a home is in a directory of an agent.
func Keeps(name string) bool {
	if strings.HasPrefix(name, StateDir+"/") {
		return true
	}
	_, ok := find(func(a Agent) bool {
		return slices.ContainsFunc(a.stores, func(t store) bool { return strings.HasPrefix(name, t.own+"/") })
	})
	return ok
}

// NPM returns what npm fetches for a version: NAME@VERSION.
func (a Agent) NPM(version string) string {
	return strings.Replace(a.Package, "VERSION", version, 1)
}

// api returns the host of a provider's API.
func api(name string, errors ErrorForm, keys ...credential.Place) Host {
	return Host{Name: name, Errors: errors, Keys: keys}
}

// hosts returns hosts of which all paths are reached.
func hosts(names ...string) []Host {
	all := make([]Host, len(names))
	for i, name := range names {
		all[i] = Host{Name: name}
	}
	return all
}
