package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
)

// taskOptions are the flags of mayfly task.
type taskOptions struct {
	agent string
	file  prompting
}

// commitRequest stands behind the prompt of a task.
const commitRequest = "\n\nWhen you are done, commit your work with git. Only what is committed leaves this machine by itself.\n"

func (a *app) taskCommand() *cobra.Command {
	var o taskOptions
	cmd := &cobra.Command{
		Use:   "task [flags] NAME [PROMPT]",
		Short: "Let a coding agent do one thing in a new machine, as a branch",
		Long: `Let a coding agent do what the prompt says in a new machine, and bring its
commits back as branches. The machine is another one of NAME, which mayfly new
defined: the same image, network and secrets, a new copy of the workspace as it
is now, and nothing that NAME keeps. NAME need not run, and goes on if it does.
Several tasks of one machine can work at once.

mayfly asks the agent to commit its work. When the agent ends, its commits
become branches mayfly/MACHINE/BRANCH of your repository; your branch and your
files stay as they are. Then the machine ends. What the agent changed and did
not commit is held back: the machine is kept with it, also if you interrupted
the task or mayfly was killed. What git ignores goes with the machine, and so do
stashes.

The exit code is that of the agent if that is not 0; 3 if something was held
back, 1 if commits could not be brought back, and 0 if all that was done is in
the branches. With 125, the machine was lost.`,
		Example: `  mayfly task web 'fix issue 12 and add a test'
  mayfly task web --agent codex --prompt-file task.md`,
		Args:              takes(1, 2),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			prompt, err := o.prompt(a, args[1:])
			if err != nil {
				return err
			}
			return a.task(cmd.Context(), args[0], o.agent, prompt)
		},
	}
	cmd.Flags().StringVar(&o.agent, "agent", "", "the coding `agent` (default: the only one of the image)")
	o.file.fileFlag(cmd)
	a.rawFlag(cmd.Flags())
	return cmd
}

// prompt returns that of the arguments, or of a file.
func (o *taskOptions) prompt(a *app, args []string) (string, error) {
	switch {
	case len(args) > 0 && o.file.given():
		return "", usageError{errors.New("a prompt and --prompt-file exclude each other")}
	case len(args) > 0:
		return args[0], checkPrompt(args[0])
	case !o.file.given():
		return "", usageError{hint.Errorf("mayfly task NAME 'PROMPT', or --prompt-file FILE", "what is to be done?")}
	}
	return o.file.read(a.In)
}

func (a *app) task(ctx context.Context, name, agent, prompt string) error {
	if err := knownAgent(agent); err != nil {
		return err
	}
	checked, err := a.client.Check(ctx, name, false)
	if err != nil {
		return err
	}
	switch {
	case checked.Plan.Workspace == "":
		return hint.Errorf("mayfly agent "+name+" --prompt TEXT", "%s has no workspace, from which commits could come", name)
	case checked.Plan.Mode == "share":
		return hint.Errorf("mayfly agent "+name+" --prompt TEXT", "the workspace of %s is live: an agent in it commits to your repository itself", name)
	}
	m, err := a.client.Start(ctx, mayfly.Spec{Definition: name})
	if err != nil {
		return err
	}
	coding, err := m.OneShot(agent)
	if err != nil {
		return errors.Join(err, m.Discard()) // nothing has run
	}
	a.note("%s works in %s, another machine of %s; mayfly shell %s looks on", coding.Name, m.Name(), name, m.Name())
	return a.workIn(ctx, m, work{
		lasting: true, // it may take hours, and nobody looks on
		do: func() (int, error) {
			code, err := a.execOnce(ctx, m, coding, prompt+commitRequest)
			return code, m.Explain(err, coding)
		},
		finish: func() (discard bool, err error) {
			err = a.reportNetwork(m, "")
			discard, taskErr := a.bringCommits(ctx, m)
			return discard, errors.Join(err, lostMeanwhile(m, taskErr))
		},
	})
}

// bringCommits makes branches of the commits of a task, and holds back all else. It reports
// whether the machine is not needed any more.
func (a *app) bringCommits(ctx context.Context, m started) (discard bool, err error) {
	set, err := list(ctx, m, true, false)
	if err != nil {
		return false, err
	}
	defer set.Close()
	set.BranchOnly()
	if len(set.Changes) == 0 && len(set.Repositories) == 0 && set.IgnoredFiles == 0 && set.GitFiles == 0 {
		a.note("nothing was changed")
		return true, nil
	}
	if err := set.Review(ctx, mayfly.ReviewOptions{Whole: true}); err != nil {
		return false, err
	}
	changes, err := set.Selected(mayfly.Selection{})
	if err != nil {
		return false, err
	}
	committed := a.commits(a.Err, set)
	left := a.overview(a.Err, set, changes, mostOrdinary)
	if committed {
		// No file is approved: commits only.
		what, err := a.applyChanges(ctx, m, set, mayfly.Selection{Only: true}, nil)
		if err != nil || what != answerApply {
			return false, errors.Join(err, held(what))
		}
	}
	switch {
	case left.empty() && refusedCommits(set):
		a.note("the machine is kept, with the commits that were not brought back")
		return false, held(answerConflict)
	case left.empty():
		if !committed {
			a.note("nothing was changed that an apply would bring back")
		}
		return true, nil
	}
	a.note("%s, and held back", plural(left.count(), "a change is in no commit", "%d changes are in no commit"))
	a.note(heldHint, m.Name(), m.Name())
	return false, exitCode(exitHeld)
}
