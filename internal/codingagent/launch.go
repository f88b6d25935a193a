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
}

// File is a file with settings: a JSON object with what must be in it and what is
// put where it says nothing, or a text that is written where no file is.
type File struct {
	Path    string // absolute
	Must    json.RawMessage
	Default json.RawMessage
	Tails   []Tail
	Text    string
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

// Launch says how agent is started in the directory dir with args, for a user
// whose home is home.
func Launch(agent, dir, home string, args []string) (Spec, error) {
	a, err := Get(agent)
	if err != nil {
		return Spec{}, err
	}
	if !path.IsAbs(dir) || !path.IsAbs(home) {
		return Spec{}, fmt.Errorf("start %s: %q or %q is not an absolute path", agent, dir, home)
	}
	s := Spec{Agent: a.Name, Dir: dir, State: path.Join(home, StateDir, a.Name)}
	s.Argv = append([]string{a.Name}, a.arguments(args)...)
	s.Dirs = []string{s.State}
	a.prepare(&s)
	return s, nil
}

// Env returns the variables with which the agent keeps its files in its directory also
// when its user starts it by hand: those of its own, which mean nothing to others.
func Env(agent, home string) []string {
	s, err := Launch(agent, home, home, nil)
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
