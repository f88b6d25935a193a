package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/agentsettings"
	"github.com/mayfly-vm/mayfly/internal/clone"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/dotfiles"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/share"
	"github.com/mayfly-vm/mayfly/internal/workspace"
	"github.com/mayfly-vm/mayfly/internal/workspace/repository"
)

// planSpec makes the plan of a machine without a file of its own.
func (e *Engine) planSpec(ctx context.Context, s Spec) (plan.Plan, error) {
	if s.Definition != "" {
		return e.planAnother(ctx, s)
	}
	cfg, err := e.load(s)
	if err != nil {
		return plan.Plan{}, err
	}
	in := plan.Input{Name: s.Name, Learn: s.Learn}
	if in.Name == "" {
		in.Name = newName()
	}
	if !s.NoWorkspace {
		in.Workspace = plan.WorkspacePath(cfg, e.home(), s.Dir)
	}
	return e.planConfig(ctx, cfg, in, s.DryRun)
}

// planAnother makes the plan of another machine of a definition.
func (e *Engine) planAnother(ctx context.Context, s Spec) (plan.Plan, error) {
	d, err := e.definitions().Get(s.Definition)
	if err != nil {
		return plan.Plan{}, err
	}
	file, err := config.ReadFile(d.Path)
	if err != nil {
		return plan.Plan{}, err
	}
	cfg, err := e.loadFile(file)
	if err != nil {
		return plan.Plan{}, err
	}
	if cfg.Network.Mode == plan.NetworkBridge && e.machines().At(d.Name).Alive() {
		return plan.Plan{}, fault.New(fault.MachineForeign, args{"name": d.Name}, "%s runs, and has the only address that its file gives on the bridge", d.Name)
	}
	cfg.Network.Ports, cfg.Network.AutoPorts = nil, false // they are the named one's
	in := plan.Input{Name: s.Name}
	if in.Name == "" {
		if in.Name = d.Name + strings.TrimPrefix(newName(), "run"); len(in.Name) > naming.MaxMachine {
			in.Name = newName()
		}
	}
	if cfg.Workspace.Path != "" {
		in.Workspace = plan.WorkspacePath(cfg, e.home(), "")
	}
	return e.planConfig(ctx, cfg, in, s.DryRun)
}

// planNamed makes the plan of a machine from its definition.
func (e *Engine) planNamed(ctx context.Context, d definition.Definition, dryRun bool) (plan.Plan, error) {
	file, err := config.ReadFile(d.Path)
	if err != nil {
		return plan.Plan{}, err
	}
	return e.planFile(ctx, d, file, dryRun)
}

// planFile makes the plan of a machine from what is, or is to be, its file.
func (e *Engine) planFile(ctx context.Context, d definition.Definition, file config.File, dryRun bool) (plan.Plan, error) {
	cfg, err := e.loadFile(file)
	if err != nil {
		return plan.Plan{}, err
	}
	in := plan.Input{Name: d.Name, Keep: d.Dir}
	if cfg.Workspace.Path != "" {
		in.Workspace = plan.WorkspacePath(cfg, e.home(), "")
	}
	p, err := e.planConfig(ctx, cfg, in, dryRun)
	if fault.CodeOf(err) == fault.WorkspaceUnusable && errors.Is(err, fs.ErrNotExist) {
		return p, fault.New(fault.WorkspaceMissing, args{"dir": in.Workspace}, "the workspace of %s, %s, is not there", d.Name, in.Workspace)
	}
	if err != nil {
		return p, err
	}
	return p, d.CheckVolumes(p.Volumes)
}

// planConfig makes the plan of a machine of the configuration cfg. The workspace of in
// is still as the user wrote it.
func (e *Engine) planConfig(ctx context.Context, cfg config.Config, in plan.Input, dryRun bool) (plan.Plan, error) {
	var err error
	if in.Typed = in.Workspace; in.Workspace != "" {
		if in.Workspace, err = realPath(in.Workspace); err != nil {
			return plan.Plan{}, InputError{fault.Wrap(err, fault.WorkspaceUnusable, nil)}
		}
	}
	git := make(chan host.Git, 1)
	go func() { git <- host.ReadGit(ctx, e.probe(dryRun), in.Workspace) }() // beside the rest
	facts, err := e.facts(ctx, cfg.Machine.Accel != string(plan.TCG), dryRun)
	in.Git = <-git
	if err != nil {
		return plan.Plan{}, err
	}
	if !cfg.Network.None() && len(cfg.Network.Presets) > 0 {
		facts.Mirrors = host.ResolveMirrors(ctx, e.probe(dryRun), facts, cfg.Network.Presets)
	}
	if in.Home, err = realPath(facts.User.Home); err != nil {
		in.Home = ""
	}
	if cfg.Agent.Login && !cfg.Network.None() {
		in.Logins = e.lendable(cfg.Image.Agents)
	}
	if err := e.sharesInput(ctx, cfg, facts, &in); err != nil {
		return plan.Plan{}, InputError{err}
	}
	if err := e.dotfilesInput(ctx, cfg, &in, dryRun); err != nil {
		return plan.Plan{}, InputError{err}
	}
	if cfg.Agent.Settings {
		set := agentsettings.Read(agentsettings.Input{
			Home: facts.User.Home, GuestHome: plan.GuestHome(facts.User), Workspace: in.Workspace, Agents: cfg.Image.Agents, Getenv: e.opt.Getenv,
		})
		in.Settings = &set
	}
	p, err := plan.New(cfg, facts, in)
	if err != nil {
		return p, InputError{err}
	}
	return p, enough("a machine", facts.Dirs.State, facts.Disk.StateFree, minDisk)
}

// outline returns what a plan says of a machine's size, image and network, without a look
// at the directories that it is given.
func outline(cfg config.Config, facts host.Facts, d definition.Definition) (plan.Plan, error) {
	cfg.Shares = nil
	cfg.Machine.AllowOldQEMU = true // that matters when it is started
	return plan.New(cfg, facts, plan.Input{Name: d.Name, Keep: d.Dir})
}

// checkWorkspace finds out before anything is made whether the workspace can be packed,
// and tells why git would not work in a live one. A copy gets what git needs.
func (e *Engine) checkWorkspace(p plan.Plan) error {
	dir := p.Workspace.Path
	if dir == "" {
		return nil
	}
	if err := workspace.Check(dir); err != nil {
		return inputError(err)
	}
	if unsigned := p.Guest.Unsigned; len(unsigned) > 0 {
		e.note(NoteGitUnsigned, args{"settings": strings.Join(unsigned, ", ")})
	}
	if p.Workspace.Copied() {
		return nil
	}
	o, ok := repository.Find(dir)
	// A repository of the whole home directory has settings, and is no workspace.
	home, _ := realPath(e.home())
	if ok && o.Path != home {
		e.noteGit(dir, o)
	}
	return nil
}

// noteGit tells what git misses in the workspace dir.
func (e *Engine) noteGit(dir string, o repository.Outside) {
	a := args{"dir": dir, "path": o.Path}
	switch o.Kind {
	case repository.Worktree:
		e.note(NoteGitWorktree, a)
	case repository.Submodule:
		e.note(NoteGitSubmodule, a)
	case repository.Subdirectory:
		e.note(NoteGitSubdirectory, a)
	case repository.Elsewhere:
		e.note(NoteGitElsewhere, a)
	case repository.Alternates:
		e.note(NoteGitAlternates, a)
	}
}

// realPath returns the path of the workspace without links.
func realPath(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		err = fmt.Errorf("%s: %w", path, failed.Err) // without the name of the system call
	}
	if err != nil {
		return "", fmt.Errorf("find the workspace: %w", err)
	}
	return filepath.Abs(real)
}

// minDisk is the space in bytes without which a machine is not started: its
// guest would find out in the middle of its work.
const minDisk = 512 << 20

// enough returns an error if there is less space on the disk of dir than is needed.
func enough(who, dir string, free, need int64) error {
	if free >= need {
		return nil
	}
	return fault.New(fault.DiskFull, args{"dir": dir},
		"the disk of %s has %d MiB free; %s needs %d", dir, free>>20, who, need>>20)
}

// sharesInput looks up what the plan needs to know of the live directories of cfg.
func (e *Engine) sharesInput(ctx context.Context, cfg config.Config, facts host.Facts, in *plan.Input) error {
	for _, path := range plan.SharePaths(cfg, facts.User.Home) {
		real, err := filepath.EvalSymlinks(path)
		if errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.ShareMissing, args{"path": path}, "share %s: %w", path, fs.ErrNotExist)
		}
		if err != nil {
			return fmt.Errorf("share %s: %w", path, err)
		}
		in.Shares = append(in.Shares, real)
	}
	if len(in.Shares) == 0 && (in.Workspace == "" || cfg.Workspace.Mode != plan.ModeShare) {
		return nil
	}
	for _, socket := range []string{
		e.opt.Getenv("SSH_AUTH_SOCK"), strings.TrimPrefix(e.opt.Getenv("DOCKER_HOST"), "unix://"), "/var/run/docker.sock",
	} {
		if filepath.IsAbs(socket) {
			in.Sockets = append(in.Sockets, socket)
			if real, err := filepath.EvalSymlinks(socket); err == nil && real != socket {
				in.Sockets = append(in.Sockets, real)
			}
		}
	}
	server, err := share.Find(ctx, e.opt.Getenv("PATH"))
	if err != nil {
		return fmt.Errorf("share a directory: %w", err)
	}
	in.ShareServer = &server
	return nil
}

// maxSecretsShown bounds how many places that look like secrets are named.
const maxSecretsShown = 5

// dotfilesInput finds the directories of home.dotfiles, and refuses those with what looks
// like a secret.
func (e *Engine) dotfilesInput(ctx context.Context, cfg config.Config, in *plan.Input, dryRun bool) error {
	for _, source := range cfg.Home.Dotfiles {
		dir, err := e.dotfilesDir(ctx, source, dryRun)
		if err != nil {
			return fmt.Errorf("home.dotfiles: %w", err)
		}
		if dir == "" {
			continue // not fetched yet, and not to be
		}
		found, err := dotfiles.Scan(dir)
		if err != nil {
			return fmt.Errorf("home.dotfiles: %w", err)
		}
		var secrets []error
		for _, f := range found {
			if !f.Ignored && len(secrets) < maxSecretsShown {
				secrets = append(secrets, fmt.Errorf("home.dotfiles: %s: %s, which a machine must not have", source, f))
			}
		}
		if len(secrets) > 0 {
			return fault.Wrap(errors.Join(secrets...), fault.DotfilesSecret, args{"file": filepath.Join(dir, ".mayflyignore")})
		}
		in.Dotfiles = append(in.Dotfiles, dir)
	}
	return nil
}

// dotfilesDir returns the directory of a source, which may be a repository. It is empty
// for one that was not cloned yet where nothing is to be made.
func (e *Engine) dotfilesDir(ctx context.Context, source string, dryRun bool) (string, error) {
	if rest, ok := strings.CutPrefix(source, "~/"); ok {
		source = filepath.Join(e.home(), rest)
	}
	if filepath.IsAbs(source) {
		real, err := filepath.EvalSymlinks(source)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s: %w", source, fs.ErrNotExist)
		}
		return real, err
	}
	spec, err := clone.ParseSpec(source)
	if err != nil {
		return "", err
	}
	dir := e.dotfilesClone(source)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // mayfly update gets it anew
	}
	if dryRun {
		e.note(NoteDotfilesNotCloned, args{"url": spec.Public()})
		return "", nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	e.step(StepClone, args{"url": spec.Public()})
	defer e.done()
	_, err = clone.Clone(ctx, clone.Options{Spec: spec, Dir: dir, Depth: 1})
	if _, statErr := os.Stat(dir); err != nil && statErr == nil {
		return dir, nil // somebody else was faster
	}
	return dir, err
}

// dotfilesClone is where a repository of dotfiles is kept.
func (e *Engine) dotfilesClone(source string) string {
	sum := sha256.Sum256([]byte(source))
	return filepath.Join(e.dirs.Cache, "dotfiles", hex.EncodeToString(sum[:12]))
}

// forgetDotfiles has repositories of dotfiles cloned anew when they are used the next
// time.
func (e *Engine) forgetDotfiles(cfg config.Config) error {
	for _, source := range cfg.Home.Dotfiles {
		if strings.HasPrefix(source, "~/") || filepath.IsAbs(source) {
			continue
		}
		if err := os.RemoveAll(e.dotfilesClone(source)); err != nil {
			return err
		}
	}
	return nil
}
