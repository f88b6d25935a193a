// Package config reads what the user wrote: TOML files, profiles and the
// command line, merged into one Config.
//
// It is strict. An unknown key, a wrong type and a bad value are errors, and
// all of them are reported at once, each with its file and line and, where
// there is one, a suggestion. What flows in are files that the caller has read
// (ReadFile) and settings from flags and the environment; the only files that
// the package opens by itself are the profiles that those name, in the one
// directory that it is given. It does not look at the host, does not decide
// whether a repository's file is trusted and fills in no value that depends on
// the machine: that is package plan's.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// Version is the version of the file format: `version = 1` in each file.
const Version = 1

// Config is the merged configuration. The zero value of a field that has no
// default here is for plan to choose.
type Config struct {
	Profiles  []string // merged, in this order; for people to read
	Machine   Machine
	Image     Image
	Workspace Workspace
	Shares    []Share
	Network   Network
	Home      Home
	Git       Git
	Agent     Agent
	Review    Review
	Attach    Attach
	Volumes   []Volume          // [[volume]]
	Env       map[string]string // values may hold $HOME and $USER, see Expand
	Secrets   map[string]Secret // by the name of the variable
}

// Machine is the section [machine].
type Machine struct {
	VCPUs        int           // 8; 0: chosen for the host
	MemoryMiB    int           // memory = "4GiB"; 0: chosen for the host
	DiskMiB      int           // disk = "32GiB"; 0: chosen for the host
	Engine       string        // "auto" or "qemu"
	Accel        string        // "auto", "kvm" or "tcg"
	BootTimeout  time.Duration // boot_timeout = "90s", whole seconds; 0: a bound fit for the accelerator
	AllowOldQEMU bool          // start even a QEMU whose emulation is known to be broken
	Cold         bool          // always boot, never begin from a saved boot
	Autostart    bool          // systemd starts the machine, where it is installed
}

// Image is the section [image].
type Image struct {
	Base     string   // "debian:trixie"
	Packages []string // "ripgrep"; may hold a name twice
	Agents   []string // "claude"; may hold a name twice
	Init     string   // "mayfly" or "systemd"
	Prewarm  []string // "claude --version"; may hold a command twice
}

// Workspace is the section [workspace].
type Workspace struct {
	Path    string   // absolute, or begins with "~/"; "": the current directory
	Mode    string   // "copy" or "share"
	Exclude []string // "node_modules"
	Hide    []string // ".env": not in the machine, whatever the mode
	Protect []string // ".git/config": a machine that has it live cannot change it
	Hooks   bool     // git's hooks in a live workspace are protected, too
	Clone   []Clone  // what `mayfly new` clones into it
}

// Home is the section [home].
type Home struct {
	Shell     string   // "zsh"; "": like the user's own
	Dotfiles  []string // "~/configfiles", or a git URL and "@" and a revision
	ShellInit string   // what shells begin with, after all else; that of profiles first
	History   bool     // a machine with a name keeps what was typed into its shells
}

// Agent is the section [agent].
type Agent struct {
	Note     bool // tell coding agents where they work
	Login    bool // lend them the log-ins that the host keeps
	Settings bool // the user's own settings of them come along
}

// DefaultReviewMemoryMiB is what the list of a machine's changes may take of the memory.
const DefaultReviewMemoryMiB = 128

// Review is the section [review]: how changes are read, and rules of the user's own, beside those that judge changes.
// Each list has patterns of paths, at any depth.
type Review struct {
	MemoryMiB int // that a list of changes may take; 0 is DefaultReviewMemoryMiB

	Ordinary   []string // paths, each of which is exactly this class
	Builds     []string // "deploy/*.sh"
	Runs       []string
	Suspicious []string
}

// Attach is the section [attach]: what is done on the user's own terminal.
type Attach struct {
	PastePictures bool // the path of a picture that is pasted brings it into the machine
}

// Git is the section [git].
type Git struct {
	Identity bool // the name and the e-mail address of the host's git are in the machine
}

// Default returns the configuration of a user who wrote nothing.
func Default() Config {
	return Config{
		Machine:   Machine{Engine: "auto", Accel: "auto"},
		Image:     Image{Base: "debian:trixie", Init: "mayfly"},
		Workspace: Workspace{Mode: "copy", Hooks: true},
		Network:   Network{Mode: "user", Egress: "public", TrustHostAuthorities: true},
		Git:       Git{Identity: true},
		Agent:     Agent{Note: true, Login: true},
		Attach:    Attach{PastePictures: true},
	}
}

// File is a configuration file that has been read. The caller who asks the
// user to trust a file and the parser see the same bytes, whatever becomes of
// the file meanwhile.
type File struct {
	Path string // for messages; a relative workspace.path is relative to its directory
	Data []byte
	// Portable makes commands for this computer an error, and words on secrets
	// of other files: the file is one that may have been written elsewhere.
	Portable bool
	// Own says that nobody but the user can have written it: config.toml. Other files may
	// not say how changes are judged.
	Own bool
}

// MaxFileSize bounds a configuration file.
const MaxFileSize = 64 << 10

// ReadFile reads the configuration file at path. The file may come from an
// untrusted repository: one that is too large, a FIFO or a device is an error.
func ReadFile(path string) (File, error) {
	data, err := userfile.Read(path, MaxFileSize)
	if err != nil {
		return File{}, fmt.Errorf("read the configuration: %w", err)
	}
	return File{Path: path, Data: data}, nil
}

// Setting is one value that does not come from a file.
type Setting struct {
	From  string // what the user wrote, for messages: "--memory"
	Key   string // the key in a file: "machine.memory", "env.GOFLAGS"
	Value any    // as in a file, or an int or a []string
}

// Sources are all the places that a configuration comes from. Later ones win.
type Sources struct {
	// Detected are profiles that the project's files ask for (Detect).
	Detected []string
	// Files in the order of their precedence: the user's, the project's.
	Files []File
	// Settings are those of the environment and then of the command line.
	Settings []Setting
	// ProfileDir holds the user's own profiles, NAME.toml; empty for none.
	ProfileDir string
}

// Load merges the sources. Scalars replace, lists append, tables merge; the
// profiles that a source names come before its own values. The error holds an
// *Error for everything that is wrong.
func Load(s Sources) (Config, error) {
	m := merger{cfg: Default(), dir: s.ProfileDir, places: make(map[string][]origin)}
	m.profiles(origin{name: "profile chosen for this directory"}, s.Detected)
	for _, f := range s.Files {
		settings, errs := parse(f)
		m.errs = append(m.errs, errs...)
		if f.Portable {
			m.errs = append(m.errs, notPortable(settings)...)
		}
		if !f.Own {
			m.errs = append(m.errs, notOwn(settings)...)
		}
		m.project = !f.Own && !f.Portable
		if m.project {
			m.errs = append(m.errs, notOfProject(settings)...)
		}
		m.merge(settings)
	}
	m.project = false
	settings := make([]setting, 0, len(s.Settings))
	for _, v := range s.Settings {
		settings = append(settings, setting{origin{name: v.From}, v.Key, v.Value})
	}
	m.merge(settings)
	m.check()
	if len(m.errs) > 0 {
		return Config{}, join(m.errs)
	}
	return m.cfg, nil
}

// merger is a configuration in the making.
type merger struct {
	cfg  Config
	dir  string
	errs []*Error
	// project says that what is merged is a project's own file, or a profile that it names.
	project bool

	// places are where the values of each key were written, in the order in
	// which they were merged: for a list, that of its elements in cfg.
	places map[string][]origin
}

// merge applies the settings of one source, its profiles first.
func (m *merger) merge(settings []setting) {
	for _, s := range settings {
		if s.key == "profiles" {
			names, err := asList(s)
			if err != nil {
				m.errs = append(m.errs, err)
				continue
			}
			m.profiles(s.origin, names)
		}
	}
	for _, s := range settings {
		if s.key != "profiles" {
			m.apply(s)
		}
	}
}

// apply checks one setting, stores it and remembers its place.
func (m *merger) apply(s setting) {
	for _, s := range s.elements() {
		if err := apply(&m.cfg, s); err != nil {
			m.errs = append(m.errs, err)
		} else {
			m.places[s.key] = append(m.places[s.key], s.origin)
		}
	}
}

// profiles merges the named profiles; one that was merged before keeps its
// place.
func (m *merger) profiles(from origin, names []string) {
	for _, name := range names {
		if slices.Contains(m.cfg.Profiles, name) {
			continue
		}
		settings, errs := loadProfile(m.dir, name, from)
		errs = append(errs, notOwn(settings)...)
		m.errs = append(m.errs, errs...)
		if len(errs) > 0 {
			continue
		}
		m.cfg.Profiles = append(m.cfg.Profiles, name)
		for _, s := range settings {
			for _, s := range s.elements() {
				if m.project && ofUser(s) {
					continue // the profile is the user's, but that it is used here is the project's word
				}
				m.apply(s)
			}
		}
	}
}

// origin is where a value was written.
type origin struct {
	name string // a file's path or a flag
	line int    // 0 when name is no file
}

// setting is one value of a source.
type setting struct {
	origin
	key   string
	value any
}

// Error is one thing that is wrong in the configuration.
type Error struct {
	File       string // a file's path, or the flag; empty for a value that came alone
	Line       int    // 0 when File is no file
	Key        string // "machine.memory"; empty for an error of syntax
	Msg        string
	Suggestion string // what was probably meant
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		if e.Key != "" && e.Line > 0 { // a flag's name says it already
			b.WriteString(": " + e.Key)
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Suggestion != "" {
		fmt.Fprintf(&b, " (did you mean %q?)", e.Suggestion)
	}
	return b.String()
}

// errorf returns an Error about s.
func (s setting) errorf(format string, args ...any) *Error {
	return &Error{File: s.name, Line: s.line, Key: s.key, Msg: fmt.Sprintf(format, args...)}
}

// wrong returns an Error about a value, for setting.place.
func wrong(format string, args ...any) *Error { return &Error{Msg: fmt.Sprintf(format, args...)} }

// place returns err as one about s. There may be none.
func (s setting) place(err *Error) *Error {
	if err == nil || err.File != "" {
		return err
	}
	err.File, err.Line, err.Key = s.name, s.line, s.key
	return err
}

// join makes one error of all, those of one file in the order of its lines.
func join(errs []*Error) error {
	if len(errs) == 0 {
		return nil
	}
	all := make([]error, 0, len(errs))
	slices.SortStableFunc(errs, func(a, b *Error) int {
		if a.File != b.File {
			return 0
		}
		return cmp.Compare(a.Line, b.Line)
	})
	var args fault.Args // of the first that is in a file
	for _, e := range errs {
		all = append(all, e)
		if args == nil && e.Line > 0 {
			args = fault.Args{"file": e.File, "line": strconv.Itoa(e.Line), "key": e.Key}
		}
	}
	return fault.Wrap(errors.Join(all...), fault.ConfigInvalid, args)
}

// abs makes a workspace path that a file gives relative to itself absolute.
func (f File) abs(path string) string {
	if path == "" || filepath.IsAbs(path) || strings.HasPrefix(path, "~") {
		return path
	}
	return filepath.Join(filepath.Dir(f.Path), path)
}
