package mayfly

import (
	"os"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/engine"
)

// Spec says what a machine is to be. What it leaves open is the user's configuration, or a
// default. The zero value is a machine on a private copy of the current directory.
type Spec struct {
	// Name of the machine, lower-case letters, digits and hyphens; made up when empty.
	Name string
	// Definition is the machine with a file of its own that this is to be another one of: on a
	// new copy of the same workspace, with nothing that that machine keeps, and without its
	// published ports. Nothing else but Name is used then.
	Definition string
	// Dir is the directory that the machine works on, at the same path. Empty for the
	// current one.
	Dir string
	// NoWorkspace gives the machine no directory at all.
	NoWorkspace bool
	// Profiles are sets of packages and settings: "go", "node", "claude".
	Profiles []string
	// Packages are Debian's.
	Packages []string
	// Settings are keys of a machine's file, of which docs/reference/configuration.md
	// has the list. They override files, and each other in their order.
	Settings []Setting
	// ConfigFile is read in place of the user's config.toml.
	ConfigFile string
	// Command is what the machine is for. Some commands, and files of the workspace,
	// ask for profiles, unless NoDetect is set.
	Command  []string
	NoDetect bool
	// Learn lets the machine reach everything public, to find out what it needs.
	Learn bool
	// Trust is asked whether the workspace's own mayfly.toml may be used. A repository
	// can come from anyone: content is all of it, and is to be shown as text. Nil for
	// no. The answer is remembered for this content.
	Trust func(file string, content []byte) (bool, error)
}

// Setting is a key of a machine's file with its value.
type Setting struct {
	From  string // what the user wrote, for errors: "--memory"
	Key   string // "machine.memory", "env.GOFLAGS"
	Value any    // a string, bool, int, []string or []any, as in a file
}

func (s Spec) internal() (engine.Spec, error) {
	out := engine.Spec{
		Name: s.Name, Definition: s.Definition, Dir: s.Dir, NoWorkspace: s.NoWorkspace, ConfigFile: s.ConfigFile,
		NoDetect: s.NoDetect, Command: s.Command, Learn: s.Learn, Trust: s.Trust,
		Settings: settings(s.Settings),
	}
	add := func(from, key string, value []string) {
		if len(value) > 0 {
			out.Settings = append(out.Settings, config.Setting{From: from, Key: key, Value: value})
		}
	}
	add("Profiles", "profiles", s.Profiles)
	add("Packages", "image.packages", s.Packages)
	var err error
	if out.Dir == "" {
		out.Dir, err = os.Getwd()
	}
	return out, err
}

func settings(list []Setting) []config.Setting {
	return convert(list, func(s Setting) config.Setting { return config.Setting(s) })
}
