package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/mayfly-vm/mayfly/internal/bundle"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/plan"
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

// machine defines a machine by its file, and makes its workspace.
func (d *defining) machine(ctx context.Context, f bundle.File) (madeJSON, error) {
	a := d.app
	cfg, err := a.loadFile(config.File{Path: f.Name + ".toml", Data: f.Data})
	if err != nil {
		return madeJSON{}, err
	}
	machines, err := a.machines()
	if err != nil {
		return madeJSON{}, err
	}
	if _, err := machines.Get(f.Name); err == nil && !a.defined(f.Name) {
		return madeJSON{}, hint.Errorf("mayfly rm "+f.Name, "a machine of mayfly run is called %s", f.Name)
	}
	ws := ""
	if cfg.Workspace.Path != "" {
		ws = plan.WorkspacePath(cfg, a.getenv("HOME"), "")
	}
	if err := a.checkNewWorkspace(ws); err != nil {
		return madeJSON{}, usageError{fmt.Errorf("machine %s: %w", f.Name, err)}
	}
	store, err := a.definitions()
	if err != nil {
		return madeJSON{}, err
	}
	def, err := store.Create(ctx, f.Name, func(taken definition.Taken) ([]byte, error) {
		if p, err := netip.ParsePrefix(cfg.Network.Address); err == nil {
			return f.Data, taken.Check(p, cfg.Network.MAC)
		}
		return f.Data, nil
	})
	if err != nil {
		return madeJSON{}, err
	}
	d.undo = append(d.undo, func() error { return store.Remove(f.Name) })
	made, err := a.makeIdentity(def)
	if err != nil {
		return made, err
	}
	first, err := makeDir(ws)
	if err != nil {
		return made, fmt.Errorf("make the workspace of machine %s: %w", f.Name, err)
	}
	if first != "" {
		d.undo = append(d.undo, func() error { return os.RemoveAll(first) })
	}
	made.Workspace, made.Mode = ws, cfg.Workspace.Mode
	made.Network, made.Address, made.MAC = cfg.Network.Mode, cfg.Network.Address, cfg.Network.MAC
	made.Profiles, made.Packages = cfg.Profiles, cfg.Image.Packages
	made.Clones, err = a.cloneAll(ctx, cfg.Workspace.Clone, ws, func(path string) {
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
