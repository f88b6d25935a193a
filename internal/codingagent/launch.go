package codingagent

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// Spec is how an agent is started.
type Spec struct {
	Agent string
	Argv  []string
	Dir   string   // where it works
	Env   []string // KEY=VALUE, on top of the machine's
	State string   // absolute; all that the agent keeps of its settings and logins
	Dirs  []string // that have to be there; absolute
	Files []File   // settings, to be written before it starts
	Links []Link   // places that are to be one with the agent's own
	// Transcripts are where its conversations are, and Continue arguments with which it
	// goes on with the last.
	Transcripts []Transcripts
	Continue    []string
	// Stores are where its conversations are once its files are settled: each has one of
	// Dirs, and no variable.
	Stores []Transcripts
}

// Link makes a place, where programs and their users expect the files of an agent, one
// with the directory in which it keeps them.
type Link struct {
	Path   string // absolute, in the user's home: "/home/dev/.claude"
	Target string // absolute, one of Spec.Dirs
	// Below are paths on the disk of the user's dotfiles: those of the home, and that of
	// the user's own settings. Their files, if there are some, appear in Target.
	Below []string
}

// File is a file with settings: a JSON object with what must be in it and what is
// put where it says nothing, or a text that is written where no file is.
type File struct {
	Path    string // absolute
	Must    json.RawMessage
	Default json.RawMessage
	Tails   []Tail
	Items   []Item
	Text    string
	// Block makes Text a marked block in a text of the user's, in the place of an
	// earlier one; "" takes that out.
	Block bool
	// Variable is one of the machine's, without which the file is left alone: the
	// key that the user gave the machine. Its value, as a string of JSON, takes the
	// place of Value in Text.
	Variable string
}

// Value stands in a text for the value of a variable, which only the machine knows.
const Value = "@VALUE@"

// Tail is the end of a variable, which only the machine knows, to be put into the
// list of the object to which Keys lead.
type Tail struct {
	Keys     []string
	Variable string
	Length   int
}

// Item is a value to be put into the list of the object to which Keys lead, beside what
// the list has.
type Item struct {
	Keys  []string
	Value json.RawMessage
}

// Get is [Find] with an error for a name that no agent has.
func Get(name string) (Agent, error) {
	a, ok := Find(name)
	if !ok {
		known := strings.Join(Names(), ", ")
		args := fault.Args{"agent": name, "known": known, "first": Names()[0]}
		return Agent{}, fault.New(fault.AgentUnknown, args, "no agent %q; there is %s", name, known)
	}
	return a, nil
}

// Place is a machine as an agent finds it.
type Place struct {
	Dir  string // where the agent works
	Home string // its user's
	// Env are the machine's variables, with those that the user gave it: an agent's own
	// never take their place, and its files are where they say.
	Env map[string]string
	// Mounts are the volumes and live shares of the machine. What the user mounts where
	// an agent looks by itself is where it is to look.
	Mounts []string
	// Emulated says that the machine's CPU is: all takes several times as long.
	Emulated bool
	Facts    *Facts // what the agent is told; nil to leave that as it is
}

// Launch says how agent is started in a machine with args.
func Launch(agent string, at Place, args []string) (Spec, error) {
	a, err := Get(agent)
	if err != nil {
		return Spec{}, err
	}
	if !path.IsAbs(at.Dir) || !path.IsAbs(at.Home) {
		return Spec{}, fmt.Errorf("start %s: %q or %q is not an absolute path", agent, at.Dir, at.Home)
	}
	s := Spec{Agent: a.Name, Dir: at.Dir, State: path.Join(at.Home, StateDir, a.Name), Transcripts: a.Transcripts(at.Home), Continue: a.Continue}
	s.Argv = append([]string{a.Name}, a.arguments(args)...)
	s.Dirs = []string{s.State}
	stores := make([]string, len(a.stores))
	for i, store := range a.stores {
		stores[i] = store.settle(&s, at)
		s.Dirs = append(s.Dirs, stores[i])
		if len(store.transcripts) > 0 {
			s.Stores = append(s.Stores, Transcripts{a.Name, "", "", []string{stores[i]}, store.transcripts, store.programs})
		}
	}
	if at.Emulated {
		s.Env = append(s.Env, a.emulated...)
	}
	a.prepare(&s, at, stores)
	if f, ok := a.noteFile(at, stores); ok {
		s.Files = append(s.Files, f)
	}
	s.Env = slices.DeleteFunc(s.Env, func(kv string) bool {
		key, _, _ := strings.Cut(kv, "=")
		_, own := at.Env[key]
		return own
	})
	return s, nil
}

// OneShot says how agent is started in a machine that does what a prompt says, and ends. It
// reads the prompt from its standard input, which no list of processes shows.
func OneShot(agent string, at Place) (Spec, error) {
	a, err := Get(agent)
	if err != nil {
		return Spec{}, err
	}
	return Launch(agent, at, a.oneShot)
}

// store is a directory of an agent.
type store struct {
	variable string // that names it, or the directory Sub of which it is; "" for none
	below    string // of what the variable names
	own      string // where it is without the variable, below the home
	sub      string // where mayfly has it, below the agent's directory
	// transcripts are its files and directories with what the agent and its user said.
	transcripts []string
	programs    []string // directories in them with programs that it fetches
}

// settle decides where a store is, adds the variable and the link that make it so to s, and
// returns its directory.
func (t store) settle(s *Spec, at Place) string {
	own := path.Join(at.Home, t.own)
	if value, ok := at.Env[t.variable]; ok && t.variable != "" {
		dir := own
		if path.IsAbs(value) {
			dir = path.Join(value, t.below)
		}
		s.link(t, at, dir, own)
		return dir
	}
	dir := path.Join(s.State, t.sub)
	if slices.ContainsFunc(at.Mounts, func(m string) bool { return within(own, m) && !within(dir, m) }) {
		dir = own
	}
	if t.variable != "" {
		s.Env = append(s.Env, t.variable+"="+strings.TrimSuffix(strings.TrimSuffix(dir, t.below), "/"))
	}
	s.link(t, at, dir, own)
	return dir
}

// link adds the link from own to dir, unless that would be a file of somebody else's.
func (s *Spec) link(t store, at Place, dir, own string) {
	// Without a workspace the agent works in the home, whose files are its user's own.
	if dir == own || at.Dir != at.Home && (within(own, at.Dir) || within(dir, at.Dir)) {
		return
	}
	s.Links = append(s.Links, Link{
		Path: own, Target: dir,
		Below: []string{t.own, path.Join(StateDir, s.Agent, t.sub), path.Join(SettingsDir, s.Agent, t.sub)},
	})
}

// within reports whether p is dir, or below it. Both are absolute and clean.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// Env returns the variables with which the agent keeps its files in its directory also
// when its user starts it by hand: those of its own, which mean nothing to others.
func Env(agent string, at Place) []string {
	s, err := Launch(agent, at, nil)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(s.Env, func(kv string) bool { return strings.HasPrefix(kv, "XDG_") })
}

// arguments returns args with the flags for unattended work, unless args say
// otherwise.
func (a Agent) arguments(args []string) []string {
	if len(args) > 0 && slices.Contains(a.subcommands, args[0]) {
		return args
	}
	flags := a.unattended
	if given(args, slices.Concat(a.unattended, a.otherwise)) {
		flags = nil
	}
	if len(args) == 0 || !slices.Contains(a.headless, args[0]) {
		if !given(args, a.interactive) {
			flags = slices.Concat(a.interactive, flags)
		}
	}
	if len(args) > 0 && slices.Contains(a.after, args[0]) {
		return slices.Concat(args[:1], flags, args[1:])
	}
	return slices.Concat(flags, args)
}

// given reports whether one of flags is among args.
func given(args, flags []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return slices.ContainsFunc(args, func(arg string) bool {
		name, _, _ := strings.Cut(arg, "=")
		return slices.Contains(flags, name)
	})
}

// object is a JSON object.
type object map[string]any

func (o object) encode() json.RawMessage {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // of strings, numbers and objects: cannot be
	}
	return b
}
