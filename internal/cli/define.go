package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/importer/bundle"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/sshkey"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// defining makes several machines, or none: what was made before an error is undone.
type defining struct {
	app  *app
	undo []func() error
}

func (d *defining) rollback(err error) error {
	for i := len(d.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, d.undo[i]())
	}
	d.undo = nil
	return err
}

// machine defines a machine by its file.
func (d *defining) machine(ctx context.Context, f bundle.File) (madeJSON, error) {
	cfg, err := d.app.loadFile(config.File{Path: f.Name + ".toml", Data: f.Data})
	if err != nil {
		return madeJSON{}, err
	}
	return d.define(ctx, f.Name, cfg, nil, func(taken definition.Taken) ([]byte, error) {
		if p, err := netip.ParsePrefix(cfg.Network.Address); err == nil {
			return f.Data, taken.Check(p, cfg.Network.MAC)
		}
		return f.Data, nil
	})
}

// define defines a machine of the configuration cfg by the file that write returns, and
// makes its workspace with the sources in it. typed has the URLs of sources that have a
// password.
func (d *defining) define(ctx context.Context, name string, cfg config.Config, typed map[string]string, write func(definition.Taken) ([]byte, error)) (madeJSON, error) {
	a := d.app
	machines, err := a.machines()
	if err != nil {
		return madeJSON{}, err
	}
	if _, err := machines.Get(name); err == nil && !a.defined(name) {
		return madeJSON{}, hint.Errorf("mayfly rm "+name+", or another name", "a machine of mayfly run is called %s", name)
	}
	ws := ""
	if cfg.Workspace.Path != "" {
		ws = plan.WorkspacePath(cfg, a.getenv("HOME"), "")
	}
	if err := a.checkNewWorkspace(ws); err != nil {
		return madeJSON{}, usageError{fmt.Errorf("machine %s: %w", name, err)}
	}
	store, err := a.definitions()
	if err != nil {
		return madeJSON{}, err
	}
	def, err := store.Create(ctx, name, write)
	if err != nil {
		return madeJSON{}, err
	}
	d.undo = append(d.undo, func() error { return store.Remove(name) })
	made, err := a.makeIdentity(def)
	if err != nil {
		return made, err
	}
	first, err := makeDir(ws)
	if err != nil {
		return made, fmt.Errorf("make the workspace of machine %s: %w", name, err)
	}
	if first != "" {
		d.undo = append(d.undo, func() error { return os.RemoveAll(first) })
	}
	if cfg, err = a.loadNamed(def); err != nil { // with its address
		return made, err
	}
	made.Workspace, made.Mode = ws, cfg.Workspace.Mode
	made.Network, made.Address, made.MAC = cfg.Network.Mode, cfg.Network.Address, cfg.Network.MAC
	made.Profiles, made.Packages = cfg.Profiles, cfg.Image.Packages
	made.Clones, err = a.cloneAll(ctx, cfg.Workspace.Clone, typed, ws, func(path string) {
		d.undo = append(d.undo, func() error { return os.RemoveAll(path) })
	})
	return made, err
}

// profile writes a profile of the user's own. There must be none of its name.
func (d *defining) profile(f bundle.File) error {
	dir, err := d.app.profileDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write the profile %s: %w", f.Name, err)
	}
	tmp, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return fmt.Errorf("write the profile %s: %w", f.Name, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(f.Data)
	path := filepath.Join(dir, f.Name+".toml")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Link(tmp.Name(), path) // fails where there is one
	}
	if err != nil {
		return fmt.Errorf("write the profile %s: %w", f.Name, err)
	}
	d.undo = append(d.undo, func() error { return os.Remove(path) })
	return nil
}

// checkNewWorkspace finds out what is wrong with a directory that may not be there yet.
func (a *app) checkNewWorkspace(path string) error {
	if path == "" {
		return nil
	}
	dirs, err := a.dirs()
	if err != nil {
		return err
	}
	home := a.getenv("HOME")
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
	err = plan.CheckWorkspace(real, plan.Protected{Homes: []string{home}, Own: []string{dirs.Config, dirs.Data, dirs.State, dirs.Cache}})
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
	for dir := path; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); err == nil {
			break
		}
		first = dir
	}
	return first, os.MkdirAll(path, 0o755)
}

// makeIdentity makes what the machine is known by, and stays as long as its definition.
func (a *app) makeIdentity(d definition.Definition) (madeJSON, error) {
	made := madeJSON{Name: d.Name, File: d.Path, Data: d.Dir}
	private, err := d.HostKey()
	if err != nil {
		return made, err
	}
	public, err := sshkey.PublicOf(private)
	if err != nil {
		return made, err
	}
	made.HostKey = public.Fingerprint()
	return made, nil
}

// profileDir is where the user's own profiles are.
func (a *app) profileDir() (string, error) {
	dirs, err := a.dirs()
	if err != nil {
		return "", err
	}
	return filepath.Join(dirs.Config, "profiles"), nil
}

// haveHere returns the machines and profiles that are here.
func (a *app) haveHere() (bundle.Have, error) {
	have := bundle.Have{Machines: make(map[string][]byte), Profiles: make(map[string][]byte)}
	store, err := a.definitions()
	if err != nil {
		return have, err
	}
	all, err := store.List()
	if err != nil {
		return have, err
	}
	for _, d := range all {
		file, err := config.ReadFile(d.Path)
		if err != nil {
			return have, err
		}
		have.Machines[d.Name] = file.Data
	}
	dir, err := a.profileDir()
	if err != nil {
		return have, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return have, fmt.Errorf("list profiles: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if filepath.Ext(name) != ".toml" {
			continue
		}
		file, err := config.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return have, err
		}
		have.Profiles[name[:len(name)-len(".toml")]] = file.Data
	}
	return have, nil
}
