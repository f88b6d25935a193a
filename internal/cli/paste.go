package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/cli/pasting"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

func (a *app) pasteCommand() *cobra.Command {
	var session string
	var printOnly bool
	cmd := &cobra.Command{
		Use:   "paste [flags] [NAME [FILE]]",
		Short: "Show a coding agent a picture or a file",
		Long: `Put a picture or another file into a running machine, and type its path at the
prompt of its coding agent. You press Enter yourself. Without FILE it is what is
on your clipboard: a picture, else files that you copied, else a text. With "-"
it is standard input. A file has at most 32 MiB.

The path goes to the session that runs in the machine, or of several to the one
that has waited for you the longest. Without NAME it is the only machine in
which sessions run. If no session runs, mayfly prints the path. The file is in
~/.cache/mayfly-paste of the machine, and only its user can read it.

The clipboard is read by wl-paste (wl-clipboard) or xclip. Hidden files that you
copied are not taken from it: name them.`,
		Example: `  mayfly paste web
  mayfly paste web ~/Pictures/screenshot.png
  mayfly paste --session codex web report.pdf
  curl -s https://example.org/a.png | mayfly paste --print web -`,
		Args:              takes(0, 2),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			if session != "" && !naming.ValidSession(session) {
				return usageError{fmt.Errorf("%q is no session's name", session)}
			}
			if session != "" && (len(args) == 0 || printOnly) {
				return usageError{errors.New("--session needs the name of a machine, and no --print")}
			}
			if len(args) == 0 && printOnly {
				return usageError{errors.New("--print needs the name of a machine")}
			}
			var items []pasting.Item
			var err error
			if len(args) < 2 {
				items, err = pasting.Clipboard(cmd.Context(), a.getenv)
			} else {
				items, err = a.fileToPaste(args[1])
			}
			if err != nil {
				return a.interrupted(err)
			}
			return a.interrupted(a.paste(cmd.Context(), strings.Join(args[:min(len(args), 1)], ""), session, printOnly, items))
		},
	}
	cmd.Flags().StringVar(&session, "session", "", "type the path in the session `name`")
	cmd.Flags().BoolVar(&printOnly, "print", false, "print the path in place of typing it")
	return cmd
}

// fileToPaste reads a file that the user names.
func (a *app) fileToPaste(name string) ([]pasting.Item, error) {
	var data []byte
	var err error
	source := name
	if name == "-" {
		source = ""
		if data, err = io.ReadAll(io.LimitReader(a.In, pasting.MaxBytes+1)); err == nil && len(data) > pasting.MaxBytes {
			err = fmt.Errorf("standard input has more than %d MiB", pasting.MaxBytes>>20)
		}
	} else {
		data, err = userfile.Read(name, pasting.MaxBytes)
	}
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s is empty", termsafe.Quote(name))
	}
	return []pasting.Item{pasting.NewItem(source, data)}, nil
}

// paste puts items into the machine name, and types their paths in the session wanted. Both
// names may be empty.
func (a *app) paste(ctx context.Context, name, wanted string, printOnly bool, items []pasting.Item) error {
	if name == "" {
		list, err := a.client.List(ctx)
		if err != nil {
			return err
		}
		if name, err = machineToPaste(list); err != nil {
			return err
		}
	}
	m, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	session := ""
	if !printOnly {
		sessions, err := m.Sessions(ctx)
		if err != nil {
			return err
		}
		if session, err = sessionToPaste(m.Name(), wanted, sessions); err != nil {
			return err
		}
	}
	paths, err := drop(ctx, m, items)
	if err != nil {
		return err
	}
	if session == "" {
		_, err := fmt.Fprintln(a.Out, strings.Join(paths, "\n"))
		return err
	}
	if err := m.Paste(ctx, session, paths...); err != nil {
		return fmt.Errorf("%w; it is %s in the machine", err, strings.Join(paths, " "))
	}
	a.note("%s in %s has %s at its prompt", session, m.Name(), strings.Join(paths, " "))
	return nil
}

// machineToPaste returns the only machine in which sessions run. Since when one has waited a
// machine says itself, and so that must not choose which of them gets the clipboard.
func machineToPaste(list []mayfly.Info) (string, error) {
	running, _ := waiters(list)
	if len(running) == 0 {
		return "", hint.Errorf("mayfly agent NAME", "no agent works in any machine")
	}
	for _, r := range running {
		if r.machine != running[0].machine {
			return "", hint.Errorf("mayfly ls, then mayfly paste NAME", "agents work in several machines")
		}
	}
	return running[0].machine, nil
}

// sessionToPaste returns the session of a machine to type in: the one that is wanted, the
// only one that runs, or the one that has waited the longest. Without any it is "".
func sessionToPaste(machine, wanted string, sessions []mayfly.Session) (string, error) {
	running, waiting := waiters([]mayfly.Info{{Name: machine, Sessions: sessions}})
	if wanted != "" {
		for _, r := range running {
			if r.session.Name == wanted {
				return wanted, nil
			}
		}
		return "", hint.Errorf("mayfly ls", "no session %s runs in %s", wanted, machine)
	}
	switch {
	case len(waiting) > 0:
		return waiting[0].session.Name, nil
	case len(running) == 1:
		return running[0].session.Name, nil
	case len(running) == 0:
		return "", nil
	}
	return "", hint.Errorf("mayfly paste --session "+running[0].session.Name+" "+machine,
		"%d sessions run in %s, and none waits for you", len(running), machine)
}

// drop puts items into the machine, and returns their paths there.
func drop(ctx context.Context, m dropper, items []pasting.Item) ([]string, error) {
	var paths []string
	for _, i := range items {
		p, err := m.Drop(ctx, i.Data, i.Extension)
		if err != nil {
			return nil, err
		}
		paths = append(paths, p)
	}
	return paths, nil
}
