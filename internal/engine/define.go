package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/mayfly-vm/mayfly/internal/clone"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/diskspace"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/network/bridge"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/sshkey"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Defined is a machine that was defined.
type Defined struct {
	Name      string
	File      string
	Workspace string
	Data      string // where what is kept of the machine is
	Mode      string // of the workspace
	Network   string
	Address   string // on a bridge
	MAC       string // on a bridge
	Profiles  []string
	Packages  []string
	Clones    []Cloned
	Agents    []string // coding agents of its image, sorted
	HostKey   string   // the fingerprint of its SSH host key
}

// Cloned is a repository in a workspace.
type Cloned struct {
	URL, Path, Commit, Branch string
}

// Definition is what a machine that is to be defined is.
type Definition struct {
	Name string
	// Settings of its file, and the Comment at the file's top.
	Settings []config.Setting
	Comment  string
	// Clones are repositories that go into the workspace.
	Clones []Clone
}

// Clone is a repository that is to be cloned.
type Clone struct {
	URL   string // as it goes into a file: without a password
	Typed string // as it was typed
	Ref   string
}

// ParseClone reads URL[@REF]. A directory of the host becomes an absolute path, since the
// file that it goes into is read from anywhere.
func ParseClone(text string) (Clone, error) {
	spec, err := clone.ParseSpec(text)
	if err != nil {
		return Clone{}, err
	}
	if _, err := os.Stat(spec.URL); err == nil {
		if spec.URL, err = filepath.Abs(spec.URL); err != nil {
			return Clone{}, err
		}
	}
	return Clone{URL: spec.Public(), Typed: spec.URL, Ref: spec.Ref}, nil
}

// newDisk is the space in bytes that defining a machine needs; its image is another
// matter.
const newDisk = 64 << 20

// Define defines a machine and starts nothing. What it made it removes again if it fails.
func (e *Engine) Define(ctx context.Context, def Definition) (Defined, error) {
	if err := naming.Check(def.Name); err != nil {
		return Defined{}, InputError{err}
	}
	settings := def.Settings
	typed := make(map[string]string)
	for _, c := range def.Clones {
		typed[c.URL] = c.Typed
		table := map[string]any{"url": c.URL}
		if c.Ref != "" {
			table["ref"] = c.Ref
		}
		settings = append(settings, config.Setting{From: "--clone", Key: "workspace.clone", Value: []any{table}})
	}
	// Before anything is made: what is wrong with the settings, and with the host.
	cfg, err := e.trySettings(settings)
	if err != nil {
		return Defined{}, err
	}
	free, err := diskspace.Free(e.dirs.State)
	if err != nil {
		return Defined{}, err
	}
	if err := enough("a new machine", e.dirs.State, free, newDisk); err != nil {
		return Defined{}, err
	}
	d := &defining{e: e}
	made, err := d.define(ctx, def.Name, cfg, typed, func(taken definition.Taken) ([]byte, error) {
		all, err := withAddress(settings, cfg, taken)
		if err != nil {
			return nil, err
		}
		return config.Encode(def.Comment, all)
	})
	if err != nil {
		return Defined{}, d.rollback(err)
	}
	return made, nil
}

// trySettings reads settings as the file that they will be in.
func (e *Engine) trySettings(settings []config.Setting) (config.Config, error) {
	// First as they are, for errors that name where they come from.
	if _, err := config.Load(config.Sources{Settings: settings, ProfileDir: e.profileDir()}); err != nil {
		return config.Config{}, InputError{err}
	}
	data, err := config.Encode("", settings)
	if err != nil {
		return config.Config{}, InputError{err}
	}
	return e.loadFile(config.File{Path: "the flags", Data: data})
}

// withAddress adds the address of a machine on the bridge, if it has none.
func withAddress(settings []config.Setting, cfg config.Config, taken definition.Taken) ([]config.Setting, error) {
	if cfg.Network.Mode != plan.NetworkBridge {
		return settings, nil
	}
	if cfg.Network.Address != "" {
		return settings, taken.Check(netip.MustParsePrefix(cfg.Network.Address), cfg.Network.MAC)
	}
	network := bridge.Default().Address
	if current, err := bridge.Current(bridge.Default()); err == nil {
		network = current.Address
	}
	address, mac, err := taken.Next(network)
	if err != nil {
		return nil, err
	}
	return append(settings,
		config.Setting{Key: "network.address", Value: address.String()},
		config.Setting{Key: "network.mac", Value: mac}), nil
}

// defining makes several machines, or none: what was made before an error is undone.
type defining struct {
	e    *Engine
	undo []func() error
}

func (d *defining) rollback(err error) error {
	for i := len(d.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, d.undo[i]())
	}
	d.undo = nil
	return err
}

// define defines a machine of the configuration cfg by the file that write returns, and
// makes its workspace with the sources in it. typed has the URLs of sources that have a
// password.
func (d *defining) define(ctx context.Context, name string, cfg config.Config, typed map[string]string, write func(definition.Taken) ([]byte, error)) (Defined, error) {
	e := d.e
	machines := e.machines()
	if _, err := machines.Get(name); err == nil && !e.IsDefined(name) {
		return Defined{}, fault.New(fault.NameOfRun, args{"name": name}, "a machine that is not defined is called %s", name)
	}
	ws := ""
	if cfg.Workspace.Path != "" {
		ws = plan.WorkspacePath(cfg, e.home(), "")
	}
	if err := e.checkNewWorkspace(ws); err != nil {
		return Defined{}, InputError{fmt.Errorf("machine %s: %w", name, err)}
	}
	def, err := e.definitions().Create(ctx, name, write)
	if err != nil {
		return Defined{}, err
	}
	d.undo = append(d.undo, func() error { return e.definitions().Remove(name) })
	made := Defined{Name: def.Name, File: def.Path, Data: def.Dir}
	if made.HostKey, err = fingerprint(def); err != nil {
		return made, err
	}
	first, err := makeDir(ws)
	if err != nil {
		return made, fmt.Errorf("make the workspace of machine %s: %w", name, err)
	}
	if first != "" {
		d.undo = append(d.undo, func() error { return os.RemoveAll(first) })
	}
	file, err := config.ReadFile(def.Path) // with its address
	if err != nil {
		return made, err
	}
	if cfg, err = e.loadFile(file); err != nil {
		return made, err
	}
	made.Workspace, made.Mode = ws, cfg.Workspace.Mode
	made.Network, made.Address, made.MAC = cfg.Network.Mode, cfg.Network.Address, cfg.Network.MAC
	made.Profiles, made.Packages, made.Agents = cfg.Profiles, cfg.Image.Packages, imageAgents(cfg)
	made.Clones, err = e.cloneAll(ctx, cfg.Workspace.Clone, typed, ws, func(path string) {
		d.undo = append(d.undo, func() error { return os.RemoveAll(path) })
	})
	return made, err
}

// fingerprint returns that of the SSH host key of a machine, which stays as long as its
// definition, and makes the key.
func fingerprint(d definition.Definition) (string, error) {
	private, err := d.HostKey()
	if err != nil {
		return "", err
	}
	public, err := sshkey.PublicOf(private)
	if err != nil {
		return "", err
	}
	return public.Fingerprint(), nil
}

// checkNewWorkspace finds out what is wrong with a directory that may not be there yet.
func (e *Engine) checkNewWorkspace(path string) error {
	if path == "" {
		return nil
	}
	// What is there of it is judged by its real name.
	real, rest := path, ""
	for {
		resolved, err := filepath.EvalSymlinks(real)
		if err == nil {
			real = filepath.Join(resolved, rest)
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || real == "/" {
			return err
		}
		real, rest = filepath.Dir(real), filepath.Join(filepath.Base(real), rest)
	}
	err := plan.CheckWorkspace(real, plan.Protected{
		Homes: []string{e.home()}, Own: []string{e.dirs.Config, e.dirs.Data, e.dirs.State, e.dirs.Cache},
	})
	if err != nil {
		return err
	}
	if fi, err := os.Stat(path); err == nil {
		if !fi.IsDir() {
			return fmt.Errorf("the workspace %s is no directory", path)
		}
		return workspace.Check(path)
	}
	return nil
}

// makeDir makes the directory path and its parents and returns the first that was not
// there, "" if all were.
func makeDir(path string) (first string, err error) {
	if path == "" {
		return "", nil
	}
	for dir := path; !exists(dir); dir = filepath.Dir(dir) {
		first = dir
	}
	return first, os.MkdirAll(path, 0o755)
}

// cloneAll clones repositories into the directory ws, each into one of its own. made is
// called with each that is there; typed has the URLs that have a password.
func (e *Engine) cloneAll(ctx context.Context, clones []config.Clone, typed map[string]string, ws string, made func(path string)) ([]Cloned, error) {
	if len(clones) == 0 {
		return nil, nil
	}
	if ws == "" {
		return nil, InputError{errors.New("workspace.clone: there is no workspace to clone into")}
	}
	if err := e.checkNotLive(ws); err != nil {
		return nil, err
	}
	defer e.done()
	var all []Cloned
	for _, c := range clones {
		spec := clone.Spec{URL: c.URL, Ref: c.Ref}
		public, name := spec.Public(), spec.Name()
		if name == "" {
			return all, InputError{fmt.Errorf("%s: what is its directory to be called?", public)}
		}
		if url, ok := typed[c.URL]; ok {
			spec.URL = url
		}
		dir := filepath.Join(ws, name)
		e.step(StepClone, args{"url": public})
		result, err := clone.Clone(ctx, clone.Options{
			Spec: spec, Dir: dir,
			Progress: func(line string) { e.detail(DetailClone, args{"line": line}) },
		})
		if err != nil {
			return all, err
		}
		made(dir)
		for _, note := range result.Notes {
			e.note(NoteClone, args{"text": note})
		}
		all = append(all, Cloned{result.URL, dir, result.Commit, result.Branch})
	}
	return all, nil
}

// checkNotLive says which running machine has dir live. It could change what git does
// on the host while it clones: its configuration names programs.
func (e *Engine) checkNotLive(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	machines := e.machines()
	all, err := machines.List()
	if err != nil {
		return err
	}
	for _, m := range all {
		p, err := m.Plan()
		if err != nil || !m.Alive() {
			continue
		}
		for _, s := range p.Shares {
			rel, err := filepath.Rel(s.Source, real)
			if err == nil && filepath.IsLocal(rel) && !s.ReadOnly {
				return fault.New(fault.CloneTargetLive, args{"name": m.Name, "dir": dir},
					"clone into %s: %s has it live, and could make git run something here", dir, m.Name)
			}
		}
	}
	return nil
}
