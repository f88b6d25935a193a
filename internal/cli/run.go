package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/hardware"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/machine/drivers"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// runOptions are the flags of mayfly run.
type runOptions struct {
	settings
	name    string
	dryRun  bool
	noTTY   bool
	apply   bool
	discard bool
	keep    bool
	explain bool
	learn   string
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] [-- COMMAND [ARGUMENT…]]",
		Short: "Run one command in a new machine on a copy of this directory",
		Long: `Run one command in a new machine on a private copy of this directory, at the
same path. Without a command it is a shell.

When the command ends, mayfly lists what it changed and asks whether to apply
that to your directory. Then the machine is thrown away, or kept if you like.
Without a terminal nothing is applied unless --apply says so.

The exit code is the command's, or 128 and the number of the signal that ended
it; 125 if mayfly itself failed, 126 if the command could not be started, 127 if
it was not found.`,
		Example: `  mayfly run -- claude --dangerously-skip-permissions
  mayfly run --apply -- make generate
  mayfly run --profile python --package jq -- ./script.py
  mayfly run --dry-run`,
		Args: usageArgs(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.discard && o.apply:
				return usageError{errors.New("--apply and --discard exclude each other")}
			case o.discard && o.keep:
				return usageError{errors.New("--discard and --keep exclude each other")}
			case o.learn != "" && o.egress != "":
				return usageError{errors.New("--learn lets everything public pass: it and --egress exclude each other")}
			}
			return a.run(cmd.Context(), &o, args, cmd.Flags().Changed)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	o.settings.register(f)
	f.StringVar(&o.name, "name", "", "`name` of the machine (default: made up)")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and the exact command line of the VMM as JSON, and stop")
	f.BoolVarP(&o.noTTY, "no-tty", "T", false, "give the command no terminal")
	f.BoolVar(&o.apply, "apply", false, "apply the changes without asking")
	f.BoolVar(&o.discard, "discard", false, "discard the changes without asking")
	f.BoolVar(&o.keep, "keep", false, "keep the machine running when the command has ended")
	f.StringVar(&o.learn, "learn", "", "let everything public pass, and write what the command reached to `file` as a list of allowed hosts")
	f.BoolVar(&o.explain, "explain", false, "say at the end how the machine was started and why, and how long each phase took")
	return cmd
}

func (a *app) run(ctx context.Context, o *runOptions, argv []string, changed func(string) bool) error {
	why := newExplanation("plan")
	p, err := a.plan(ctx, o, argv, changed)
	if err != nil {
		return err
	}
	if p.Workspace.Path != "" {
		if err := workspace.Check(p.Workspace.Path); err != nil {
			return usageError{err}
		}
	}
	store, err := a.images()
	if err != nil {
		return err
	}
	if o.dryRun {
		return a.printPlan(p, store)
	}
	if o.learn != "" {
		if err := checkLearn(o.learn); err != nil {
			return err
		}
	}
	secrets, err := a.secrets(ctx, p)
	if err != nil {
		return err
	}
	a.debug("accelerator %s: %s", p.Machine.Accelerator, p.Machine.Reason)
	for _, note := range p.Notes {
		a.note("%s", note)
	}
	machines, err := a.machines()
	if err != nil {
		return err
	}
	if a.defined(p.Name) {
		return hint.Errorf("mayfly start "+p.Name+", or another --name", "%s is the name of a machine that mayfly new made", p.Name)
	}
	// A name that is taken is found out before a long build, too.
	if _, err := machines.Get(p.Name); err == nil {
		return hint.Errorf("mayfly ls, or mayfly rm "+p.Name, "the name %s is %w", p.Name, state.ErrTaken)
	}
	if o.explain {
		defer why.print(a)
	}
	progress := a.newProgress()
	defer progress.stop()
	why.phase("find the image")
	img, err := store.Ensure(ctx, p.Image, progress.image)
	if err != nil {
		return a.interrupted(err)
	}
	for _, agent := range img.Agents {
		a.note("agent %s", agent)
	}
	why.phase("start the supervisor")
	owner, err := a.start(machines, p, img, secrets, nil)
	if err != nil {
		return err
	}
	defer func() {
		why.phase("end the machine")
		owner.Close()
	}()
	err = owner.Ready(ctx, func(e control.Event) {
		progress.machine(e)
		why.machine(e)
	})
	if err != nil {
		return a.interrupted(err)
	}
	progress.stop()
	if err := a.seedAgents(ctx, owner.Machine, p); err != nil {
		a.note("the agents may ask for settings: %v", err)
	}
	why.phase("run the command")

	code, err := a.execIn(owner.Machine, p, argv, o.noTTY)
	if err != nil {
		if errors.Is(err, errLost) {
			err = runError{owner.Lost(lostTimeout), exitMayfly}
		}
		return err
	}
	learnErr := a.reportNetwork(owner.Machine, p, o.learn)
	why.phase("list and apply the changes")
	err = errors.Join(learnErr, a.finish(ctx, o, owner, p))
	if code == 0 {
		return a.interrupted(err)
	}
	// The command's own failure is what scripts want to know.
	if _, silent := errors.AsType[exitCode](err); err != nil && !silent {
		a.printError(err, false)
	}
	return exitCode(code)
}

// lostTimeout bounds the wait for a supervisor to say why its machine was lost.
const lostTimeout = 10 * time.Second

// interrupted says in few words that the user ended it.
func (a *app) interrupted(err error) error {
	if err != nil && a.signals.ctx.Err() != nil {
		return runError{errInterrupted, 130}
	}
	return err
}

// plan makes the plan of a machine.
func (a *app) plan(ctx context.Context, o *runOptions, argv []string, changed func(string) bool) (plan.Plan, error) {
	cfg, err := a.load(&o.settings, argv, changed)
	if err != nil {
		return plan.Plan{}, err
	}
	in := plan.Input{Name: o.name, Learn: o.learn != ""}
	if in.Name == "" {
		in.Name = newName()
	}
	if !o.noWorkspace {
		cwd, err := os.Getwd()
		if err != nil {
			return plan.Plan{}, fmt.Errorf("find the current directory: %w", err)
		}
		in.Workspace = plan.WorkspacePath(cfg, a.getenv("HOME"), cwd)
	}
	return a.makePlan(ctx, cfg, in)
}

// makePlan makes the plan of a machine of the configuration cfg. The workspace of in
// is still as the user wrote it.
func (a *app) makePlan(ctx context.Context, cfg config.Config, in plan.Input) (plan.Plan, error) {
	facts, err := a.facts(ctx, cfg.Machine.Accel != string(plan.TCG))
	if err != nil {
		return plan.Plan{}, err
	}
	if !cfg.Network.None() && len(cfg.Network.Presets) > 0 {
		facts.Mirrors = host.ResolveMirrors(ctx, host.Options{Dirs: facts.Dirs, Getenv: a.getenv, Fresh: a.fresh}, facts, cfg.Network.Presets)
	}
	if in.Home, err = workspacePath(facts.User.Home); err != nil {
		in.Home = ""
	}
	if in.Workspace != "" {
		if in.Workspace, err = workspacePath(in.Workspace); err != nil {
			return plan.Plan{}, usageError{hint.Wrap(err, "cd to a project's directory, or --workspace DIR")}
		}
	}
	if err := a.sharesInput(ctx, cfg, facts, &in); err != nil {
		return plan.Plan{}, usageError{err}
	}
	if err := a.dotfilesInput(ctx, cfg, &in); err != nil {
		return plan.Plan{}, usageError{err}
	}
	p, err := plan.New(cfg, facts, in)
	if err != nil {
		return p, usageError{err}
	}
	return p, checkDisk(facts)
}

// start makes the machine and its supervisor. prepare, unless it is nil, is called when
// the machine's name is ours and nothing of it runs yet.
func (a *app) start(machines state.Store, p plan.Plan, img image.Image, secrets map[string]secret.Value, prepare func() error) (*control.Owner, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	m, lock, err := machines.Create(p)
	if err != nil {
		return nil, err
	}
	err = errors.Join(state.WriteJSON(m.File(state.ImageFile), img), a.authorizeKeys(m))
	if err == nil && prepare != nil {
		err = prepare()
	}
	if err != nil {
		lock.Release()
		return nil, errors.Join(err, m.Remove())
	}
	owner, err := control.Spawn(exe, m, lock, secrets)
	if err != nil {
		return nil, errors.Join(err, m.Remove())
	}
	return owner, nil
}

// minDisk is the space in bytes without which a machine is not started: its
// guest would find out in the middle of its work.
const minDisk = 512 << 20

func checkDisk(facts host.Facts) error {
	return enough("a machine", facts.Dirs.State, facts.Disk.StateFree, minDisk)
}

// enough returns an error if there is less space on the disk of dir than is needed.
func enough(who, dir string, free, need int64) error {
	if free >= need {
		return nil
	}
	return hint.Errorf("mayfly gc and mayfly image prune make room",
		"the disk of %s has %d MiB free; %s needs %d", dir, free>>20, who, need>>20)
}

// dryRun is what --dry-run prints.
type dryRun struct {
	Plan    plan.Plan       `json:"plan"`
	Command machine.Command `json:"command"`
	Shell   string          `json:"shell"` // the command as one line
}

func (a *app) printPlan(p plan.Plan, store *image.Store) error {
	img, err := store.Lookup(p.Image)
	if errors.Is(err, image.ErrNotBuilt) {
		a.note("the image is not built yet: the paths of its files are made up")
		img = image.Image{Kernel: image.Kernel{Path: "KERNEL"}, Initramfs: "INITRAMFS", Layers: []image.Layer{{Path: "LAYER"}}}
		err = nil
	}
	if err != nil {
		return err
	}
	machines, err := a.machines()
	if err != nil {
		return err
	}
	driver, err := drivers.For(p.Machine.Engine)
	if err != nil {
		return err
	}
	c := driver.Command(hardware.Of(machines.At(p.Name), p, img))
	return a.printJSON(a.Out, dryRun{p, c, c.String()})
}

// finish lists the changes and does with them, and with the machine, what the
// user wants.
func (a *app) finish(ctx context.Context, o *runOptions, owner *control.Owner, p plan.Plan) error {
	keep := o.keep
	if o.apply && p.Workspace.Path != "" && !p.Workspace.Copied() {
		a.note("%v", errLive(owner.Machine.Name))
	}
	if p.Workspace.Copied() {
		answer, err := a.review(ctx, owner.Machine, reviewOptions{
			apply: o.apply, discard: o.discard, keep: o.keep, quiesce: !o.keep,
		})
		if err != nil {
			return err
		}
		keep = keep || answer == answerKeep
		if answer == answerConflict {
			a.note("nothing is lost: the machine is kept with what was not applied")
			return errors.Join(a.keep(owner), exitCode(exitError))
		}
	}
	if keep {
		return a.keep(owner)
	}
	return nil
}

func (a *app) keep(owner *control.Owner) error {
	if err := owner.Keep(); err != nil {
		return err
	}
	name := owner.Machine.Name
	a.note("machine %s is kept: mayfly shell %s, mayfly apply %s, mayfly rm %s", name, name, name, name)
	return nil
}
