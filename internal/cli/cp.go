package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/cli/hint"
)

func (a *app) cpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cp SOURCE TARGET",
		Short: "Copy files to or from a running machine",
		Long: `Copy a file or a directory to or from a running machine. Write the path in the
machine as NAME:PATH. As with scp, a relative path begins in the home of the
machine's user, and so does ~/. If the target is a directory, the source is
copied into it.

What comes out of a machine is not trusted. mayfly writes nothing outside of the
target, leaves out devices and links that lead out of it, drops setuid bits, and
does not fill the disk.`,
		Example: `  mayfly cp report.pdf dcs:
  mayfly cp dcs:/var/log/apt ./logs
  mayfly cp dcs:~/notes.txt .`,
		Args: takes(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.cp(cmd.Context(), args[0], args[1]) },
	}
}

// inMachine parts NAME:PATH. A path with a slash before the colon is a file's.
func inMachine(arg string) (name, path string, ok bool) {
	name, path, ok = strings.Cut(arg, ":")
	return name, path, ok && name != "" && !strings.ContainsAny(name, "/.")
}

func (a *app) cp(ctx context.Context, source, target string) error {
	fromName, from, isFrom := inMachine(source)
	toName, to, isTo := inMachine(target)
	switch {
	case isFrom && isTo:
		return usageError{errors.New("source and target are both in machines; one must be on the host")}
	case !isFrom && !isTo:
		return usageError{hint.Errorf("mayfly cp FILE NAME:PATH", "neither %q nor %q is in a machine", source, target)}
	case isTo:
		m, err := a.machine(ctx, toName)
		if err != nil {
			return err
		}
		return m.CopyIn(ctx, source, to)
	}
	m, err := a.machine(ctx, fromName)
	if err != nil {
		return err
	}
	skipped, err := m.CopyOut(ctx, from, target)
	for _, s := range skipped {
		a.note("left out: %s", s)
	}
	return err
}
