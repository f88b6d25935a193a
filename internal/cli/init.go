package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/terminal"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// initOptions are the flags of mayfly init.
type initOptions struct {
	from   string
	base   string
	maps   []string
	yes    bool
	dryRun bool
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init --from SOURCE [flags]",
		Short: "Review a set-up from mayfly export, and make its machines",
		Long: `Make the machines of a set-up that mayfly export wrote. First mayfly lists what
the machines could reach, what it would fetch and what would run in them, and
asks. Nothing of a set-up runs on the host, and no machine is started.

SOURCE is a file, an https URL, which curl fetches, or a git repository with a
setup.toml. #sha256=SUM behind it pins the content. mayfly refuses paths of
another host until --map says where they are here.`,
		Example: `  mayfly init --from setup.toml --dry-run
  mayfly init --from setup.toml --map /home/alice=~`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.initFrom(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "", "`source` of the set-up")
	f.StringVar(&o.base, "base", "", "`directory` in which relative paths begin")
	f.StringArrayVar(&o.maps, "map", nil, "map a path of the set-up to one of this host: `FROM=TO` (repeatable)")
	f.BoolVarP(&o.yes, "yes", "y", false, "agree to the review without asking")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "review only, and make nothing")
	a.jsonFlag(cmd)
	return cmd
}

// initJSON is what init --json prints. Fields are only added.
type initJSON struct {
	From    string       `json:"from"`
	SHA256  string       `json:"sha256"`
	Changes []changeJSON `json:"changes"`
	Made    []madeJSON   `json:"made"`
}

// changeJSON is a change of a set-up, with a hint where it is refused.
type changeJSON struct {
	mayfly.SetupChange
	Hint string `json:"hint,omitempty"`
}

func (a *app) initFrom(ctx context.Context, o initOptions) error {
	if o.from == "" {
		return usageError{hint.Errorf("mayfly init --from setup.toml", "from where? --from is missing")}
	}
	setup, err := a.client.ReviewSetup(ctx, o.from, o.base, o.maps)
	if err != nil {
		return err
	}
	out := initJSON{From: setup.From, SHA256: setup.SHA256, Changes: make([]changeJSON, len(setup.Changes)), Made: []madeJSON{}}
	for i, change := range setup.Changes {
		out.Changes[i] = changeJSON{change, hint.For(fault.Code(change.Code), change.Args)}
	}
	if !a.json {
		a.printReview(out)
	}
	if err := setup.Refused(); err != nil {
		if a.json {
			err = errors.Join(err, a.printJSON(out))
		}
		return err
	}
	// What is wrong is found before anything is asked or made.
	if err := setup.Try(); err != nil {
		return err
	}
	if agreed, err := a.agree(setup, o); err != nil || !agreed {
		if err == nil && a.json {
			return a.printJSON(out)
		}
		return err
	}
	made, err := setup.Make(ctx)
	if err != nil {
		return err
	}
	return a.printAllMade(made, true, func(list []madeJSON) any {
		out.Made = list
		return out
	})
}

// printAllMade prints what was made, as JSON as a part of what document returns.
func (a *app) printAllMade(made []mayfly.Defined, blank bool, document func([]madeJSON) any) error {
	if a.json {
		list := make([]madeJSON, len(made))
		for i, d := range made {
			list[i] = madeJSON{d, nil}
		}
		return a.printJSON(document(list))
	}
	for i, d := range made {
		if blank || i > 0 {
			fmt.Fprintln(a.Out)
		}
		if err := a.printMade(d); err != nil {
			return err
		}
	}
	return nil
}

// printReview prints what the set-up would do, in the words of the review: they are
// safe to print.
func (a *app) printReview(r initJSON) {
	fmt.Fprintf(a.Out, "%s, sha256 %s\n", termsafe.Text(r.From), r.SHA256)
	in := ""
	for _, c := range r.Changes {
		if c.In != in {
			in = c.In
			fmt.Fprintf(a.Out, "\n%s\n", in)
		}
		key := c.Key
		if key != "" {
			key += ": "
		}
		fmt.Fprintf(a.Out, "  %-7s %s%s\n", c.Kind, termsafe.Text(key), termsafe.Text(c.Text))
	}
}

// agree asks whether the set-up is to be made.
func (a *app) agree(setup *mayfly.Setup, o initOptions) (bool, error) {
	switch {
	case o.dryRun, setup.Empty():
		return false, nil
	case o.yes:
		return true, nil
	case a.json || !terminal.Is(a.In) || !terminal.Is(a.Err):
		return false, hint.Errorf("mayfly init --from "+o.from+" --yes", "nothing was made, since nobody could be asked")
	}
	fmt.Fprintln(a.Out)
	answer, err := a.ask("make this?", []string{"yes", "no"})
	return answer == "yes", err
}
