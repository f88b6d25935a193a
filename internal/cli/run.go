package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// runOptions are the flags of mayfly run.
type runOptions struct {
	settings
	name    string
	dryRun  bool
	noTTY   bool
	apply   bool
	all     bool
	discard bool
	ignored bool
	branch  bool
	keep    bool
	explain bool
	learn   string
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] [-- COMMAND [ARGUMENT…]]",
		Short: "Run one command in a new machine on a copy of this directory",
		Long: `Run one command in a new machine, on a private copy of the current directory at
the same path. Without a command, run a shell.

When the command ends, mayfly lists what it changed and asks whether to apply
the changes to your directory. Then it discards the machine, or keeps it if you
ask for that. What your computer would execute or obey by itself, what builds
run, and what is suspicious are questions of their own. What you do not apply of
those is held back: the machine is kept with it, and the exit code is 3.

Without a terminal, nothing is applied without --apply. That applies ordinary
changes and holds the others back; --apply --all applies all. Files that git
ignores in your directory, such as build output, stay out of it unless you pass
--ignored.

The exit code is the command's, or 128 plus the number of the signal that ended
it; 125 if mayfly itself failed, 126 if the command could not be started, 127 if
it was not found.`,
		Example: `  mayfly run -- claude --dangerously-skip-permissions
  mayfly run --apply -- make generate
  mayfly run --profile python --package jq -- ./script.py
  mayfly run --dry-run`,
		Args: takes(0, anyNumber),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCommand(args); err != nil {
				return err
			}
			switch {
			case o.noWorkspace && o.workspace != "":
				return usageError{errors.New("--no-workspace and --workspace exclude each other")}
			case o.discard && o.apply:
				return usageError{errors.New("--apply and --discard exclude each other")}
			case o.all && !o.apply:
				return usageError{errors.New("--all says what --apply applies: pass both")}
			case o.discard && o.keep:
				return usageError{errors.New("--discard and --keep exclude each other")}
			case o.learn != "" && cmd.Flags().Changed("egress"):
				return usageError{errors.New("--learn allows all public hosts: --learn and --egress exclude each other")}
			}
			return a.run(cmd.Context(), &o, args, cmd.Flags().Changed)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	o.settings.register(f)
	f.StringVar(&o.name, "name", "", "`name` of the machine (default: generated)")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and the exact command line of the VMM as JSON, and stop")
	f.BoolVarP(&o.noTTY, "no-tty", "T", false, "run the command without a terminal")
	a.rawFlag(f)
	f.BoolVar(&o.apply, "apply", false, "apply ordinary changes without asking")
	f.BoolVar(&o.all, "all", false, "with --apply: apply also what your computer would execute, and what is suspicious")
	f.BoolVar(&o.discard, "discard", false, "discard the changes without asking")
	ignoredFlag(f, &o.ignored, "list and apply also ignored and generated files")
	branchFlag(f, &o.branch)
	f.BoolVar(&o.keep, "keep", false, "keep the machine running after the command ends")
	f.StringVar(&o.learn, "learn", "", "allow all public hosts, and write those that the command reached to `file` as an allow list")
	f.BoolVar(&o.explain, "explain", false, "print at the end how the machine was started, why, and how long each phase took")
	return cmd
}

// selection is what the flags have applied.
func (o *runOptions) selection() (sel mayfly.Selection) {
	if o.all {
		sel.Classes = mayfly.Classes()
	}
	return sel
}

// checkCommand refuses what is no command before a machine is started for it.
func checkCommand(argv []string) error {
	if len(argv) > 0 && argv[0] == "" {
		return usageError{errors.New("the command is an empty word")}
	}
	return nil
}

func (a *app) run(ctx context.Context, o *runOptions, argv []string, changed func(string) bool) error {
	if o.explain {
		a.explain = newExplanation()
	}
	spec, err := a.spec(o, argv, changed)
	if err != nil {
		return err
	}
	if o.dryRun {
		d, err := a.client.DryRun(ctx, spec)
		if err != nil {
			return err
		}
		return a.printJSON(d)
	}
	if o.learn != "" {
		if err := checkLearn(o.learn); err != nil {
			return err
		}
	}
	if a.explain != nil {
		defer a.explain.print(a)
	}
	attended := a.attended()
	m, err := a.client.Start(ctx, spec)
	if err != nil {
		return err
	}
	return a.runIn(ctx, m, o, argv, attended)
}

// phase begins a part of what --explain prints.
func (a *app) phase(name string) {
	if a.explain != nil {
		a.explain.phase(name)
	}
}

// spec says what the machine of the flags is to be.
func (a *app) spec(o *runOptions, argv []string, changed func(string) bool) (mayfly.Spec, error) {
	list, err := o.settings.list(a.getenv, changed)
	if err != nil {
		return mayfly.Spec{}, err
	}
	dir, err := absolute(".")
	if err != nil {
		return mayfly.Spec{}, err
	}
	spec := mayfly.Spec{
		Dir: dir, Name: o.name, NoWorkspace: o.noWorkspace, ConfigFile: o.configFile, Settings: list,
		NoDetect: o.noDetect, Command: argv, Learn: o.learn != "",
	}
	if o.trust {
		spec.Trust = func(string, []byte) (bool, error) { return true, nil }
	} else if terminal.Is(a.In) && terminal.Is(a.Err) {
		spec.Trust = a.askTrust
	}
	return spec, nil
}
