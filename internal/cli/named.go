package cli

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// definitions opens the store of machines with names of their own.
func (a *app) definitions() (definition.Store, error) {
	dirs, err := a.dirs()
	if err != nil {
		return definition.Store{}, err
	}
	return definition.Store{ConfigDir: dirs.Config, StateDir: dirs.State}, nil
}

// definition returns the definition of the machine name.
func (a *app) definition(name string) (definition.Definition, error) {
	store, err := a.definitions()
	if err != nil {
		return definition.Definition{}, err
	}
	return store.Get(name)
}

// defined reports whether there is a machine of that name that mayfly new made.
func (a *app) defined(name string) bool {
	_, err := a.definition(name)
	return err == nil
}

// loadNamed reads the configuration of a machine: the user's and its own file.
func (a *app) loadNamed(d definition.Definition) (config.Config, error) {
	file, err := config.ReadFile(d.Path)
	if err != nil {
		return config.Config{}, err
	}
	return a.loadFile(file)
}

// loadFile merges a machine's file with the user's configuration.
func (a *app) loadFile(file config.File) (config.Config, error) {
	user, err := a.userSources()
	if err != nil {
		return config.Config{}, err
	}
	return mergeFile(user, file)
}

// userSources returns the configuration that is the user's and of no machine.
func (a *app) userSources() (config.Sources, error) {
	dirs, err := a.dirs()
	if err != nil {
		return config.Sources{}, err
	}
	src := config.Sources{ProfileDir: filepath.Join(dirs.Config, "profiles")}
	switch user, err := config.ReadFile(filepath.Join(dirs.Config, "config.toml")); {
	case err == nil:
		src.Files = []config.File{user}
	case !errors.Is(err, fs.ErrNotExist):
		return src, usageError{err}
	}
	return src, nil
}

// mergeFile merges a machine's file with what userSources returned.
func mergeFile(user config.Sources, file config.File) (config.Config, error) {
	file.Portable = true
	user.Files = append(slices.Clip(user.Files), file)
	cfg, err := config.Load(user)
	if err != nil {
		return cfg, usageError{err}
	}
	return cfg, nil
}

// planNamed makes the plan of a machine from its definition.
func (a *app) planNamed(ctx context.Context, d definition.Definition) (plan.Plan, error) {
	cfg, err := a.loadNamed(d)
	if err != nil {
		return plan.Plan{}, err
	}
	return a.planConfig(ctx, d, cfg)
}

func (a *app) planConfig(ctx context.Context, d definition.Definition, cfg config.Config) (plan.Plan, error) {
	in := plan.Input{Name: d.Name, Keep: d.Dir}
	if cfg.Workspace.Path != "" {
		in.Workspace = plan.WorkspacePath(cfg, a.getenv("HOME"), "")
	}
	p, err := a.makePlan(ctx, cfg, in)
	if errors.Is(err, fs.ErrNotExist) && in.Workspace != "" {
		return p, hint.Errorf("mkdir -p "+in.Workspace, "the workspace of %s, %s, is not there", d.Name, in.Workspace)
	}
	if err != nil {
		return p, err
	}
	return p, d.CheckVolumes(p.Volumes)
}

// outline returns what a plan says of a machine's size, image and network, without a look
// at the directories that it is given.
func outline(cfg config.Config, facts host.Facts, d definition.Definition) (plan.Plan, error) {
	cfg.Shares = nil
	cfg.Machine.AllowOldQEMU = true // that matters when it is started
	return plan.New(cfg, facts, plan.Input{Name: d.Name, Keep: d.Dir})
}

// settle returns the place of the machine name, which is running or has nothing left of
// an earlier run.
func (a *app) settle(name string) (m state.Machine, running bool, err error) {
	machines, err := a.machines()
	if err != nil {
		return m, false, err
	}
	m = machines.At(name)
	switch err := control.Remove(m); {
	case errors.Is(err, state.ErrAlive):
		return m, true, nil
	case err != nil && !errors.Is(err, state.ErrNotFound):
		return m, false, err
	}
	return m, false, nil
}

// settleEnding is settle that waits for a machine that is being stopped.
func (a *app) settleEnding(name string) (m state.Machine, running bool, err error) {
	m, running, err = a.settle(name)
	if err != nil || !running || m.Status().Phase != state.Stopping {
		return m, running, err
	}
	progress := a.newProgress()
	progress.step("waiting for the end of "+name, true)
	err = control.AwaitEnd(m)
	progress.stop()
	if err != nil {
		return m, true, err
	}
	return a.settle(name)
}

// completeNamed completes the names of machines that are defined.
func (a *app) completeNamed(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	store, err := a.definitions()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := store.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
