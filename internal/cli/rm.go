package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) rmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [--force] NAME…",
		Short: "End and remove machines, with everything in them",
		Long: `End and remove machines, with everything in them: changes that were not applied,
volumes, the state of coding agents, and the files that define them. Your
directories stay as they are.

On a terminal, mayfly asks first if changes were not applied, and lists those of
a machine that runs.

With --force, mayfly does not ask you, and kills a machine's supervisor in place
of asking the machine to power off.`,
		Args:              takes(1, anyNumber),
		ValidArgsFunction: a.completeAll,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(name string) error {
				if !force && a.attended() {
					if err := a.confirmRemoval(cmd.Context(), name); err != nil {
						return err
					}
				}
				return a.client.Remove(name, force)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask, and kill machines that do not end")
	return cmd
}

// countTimeout is the time that a machine which is to be removed has to list its changes.
const countTimeout = 30 * time.Second

// confirmRemoval asks whether the machine name is to be removed, if changes that were not
// applied go with it. The error says that it is not.
func (a *app) confirmRemoval(ctx context.Context, name string) error {
	d, err := a.client.Inspect(ctx, name)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && errorCode(err) == "machine-not-found":
		return nil // Remove says so
	case err != nil:
		a.note("what %s keeps is not known: %v", name, err)
	case d.State == "running" || d.State == "paused" || d.State == "unreachable":
		if d.Plan.Workspace == "" || d.Plan.Mode == "share" {
			return nil
		}
		if d.State != "running" {
			a.note("%s is %s, so its changes cannot be listed; they were not applied", name, d.State)
			break
		}
		n, err := a.countChanges(ctx, name)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			a.note("the changes of %s cannot be listed: %v", name, err)
		case n == 0:
			return nil
		default:
			a.note("the changes of %s were not applied", name)
		}
	case !keepsChanges(d):
		return nil
	default:
		a.note("%s may hold changes that were not applied: mayfly start %s, then mayfly diff %s lists them", name, name, name)
	}
	word, err := a.ask("remove "+name+", with everything in it?", []string{string(answerApply), string(answerDiscard)})
	if err == nil && word != string(answerApply) {
		err = fmt.Errorf("%s was not removed", name)
	}
	return err
}

// countChanges lists the changes of a running machine, and returns how many there are that
// would be applied.
func (a *app) countChanges(ctx context.Context, name string) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, countTimeout, fmt.Errorf("no list within %v", countTimeout))
	defer cancel()
	m, err := a.client.Machine(ctx, name)
	if err != nil {
		return 0, err
	}
	set, err := m.ChangesToApply(ctx, false)
	if err != nil {
		return 0, err
	}
	defer set.Close()
	g := a.overview(a.Err, set, set.Changes, mostOrdinary)
	return len(g.ordinary), nil // none has a class
}

// keepsChanges reports whether a machine that does not run can hold changes of its
// workspace.
func keepsChanges(d mayfly.Details) bool {
	for _, p := range d.Persists {
		if p.What == mayfly.PersistChanges && p.Bytes > 0 {
			return true
		}
	}
	return false
}

func (a *app) gcCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "gc",
		Short: "Remove what crashed or killed processes left behind",
		Long: `Remove what crashed or killed processes left behind: dead machines, temporary
files of interrupted applies and builds, and parts that no image needs. Also
remove what mayfly undo needs for an apply that is older than 30 days, and audit
logs and transcripts of coding agents that are older than 30 days and whose
machines are gone. Running machines and images are not touched; mayfly image rm
removes an image.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.client.Collect(cmd.Context())
			for _, name := range r.Machines {
				fmt.Fprintln(a.Out, "removed machine "+name)
			}
			for _, name := range r.Audits {
				fmt.Fprintln(a.Out, "removed the audit log of machine "+name)
			}
			for _, name := range r.Transcripts {
				fmt.Fprintln(a.Out, "removed the transcripts "+name)
			}
			for _, u := range r.Undoables {
				fmt.Fprintf(a.Out, "removed what mayfly undo %s needs for %s\n", u.Name, termsafe.Quote(u.Dir))
			}
			a.printRemoved(r.Removed, false)
			return err
		},
	}
}
