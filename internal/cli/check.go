package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

func (a *app) checkCommand() *cobra.Command {
	var noBuild bool
	cmd := &cobra.Command{
		Use:   "check [flags] NAME|FILE",
		Short: "Check a machine's file and build its image",
		Long: `Check a machine's file, or a file that is to become one: its keys, packages,
coding agents, directories and addresses. Then build the image. mayfly starts
nothing.`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.check(cmd.Context(), args[0], noBuild)
		},
	}
	cmd.Flags().BoolVar(&noBuild, "no-build", false, "do not build the image")
	a.jsonFlag(cmd)
	return cmd
}

// checkedJSON is what mayfly check found, as check --json prints it. Fields are only
// added.
type checkedJSON struct {
	mayfly.Checked
	Next []string `json:"next"`
}

func (a *app) check(ctx context.Context, what string, noBuild bool) error {
	checked, err := a.client.Check(ctx, what, !noBuild)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(checkedJSON{checked, []string{"mayfly start " + checked.Name}})
	}
	for _, note := range checked.Plan.Notes {
		a.note("%s", note)
	}
	fmt.Fprintf(a.Out, "%s: ok\n", checked.File)
	if checked.Image != "" {
		fmt.Fprintf(a.Out, "image %.12s is built; nothing was started\n", checked.Image)
	}
	return nil
}

func (a *app) editCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "edit NAME",
		Short: "Edit a machine's file, and check it",
		Long: `Edit a machine's file with $VISUAL or $EDITOR. mayfly checks your version before
it replaces the file. A running machine stays as it is until you restart it.`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeNamed,
		RunE:              onFirst(a.edit),
	}
}

// edit lets the user edit a copy of the file, which takes its place when it is right.
func (a *app) edit(ctx context.Context, name string) error {
	path, before, err := a.client.File(name)
	if err != nil {
		return err
	}
	if a.editor() == "" && !(terminal.Is(a.In) && terminal.Is(a.Out)) {
		return hint.Errorf("EDITOR=COMMAND mayfly edit "+name+", or change "+path+" and: mayfly check "+name,
			"there is no terminal for an editor, and neither VISUAL nor EDITOR is set")
	}
	// Beside it, so that it can take its place; its name is no machine's.
	temp, err := os.CreateTemp(filepath.Dir(path), ".edit-*.toml")
	if err != nil {
		return fmt.Errorf("edit %s: %w", path, err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(before)
	if err := errors.Join(err, temp.Chmod(0o644), temp.Close()); err != nil {
		return fmt.Errorf("edit %s: %w", path, err)
	}
	for {
		if err := a.runEditor(ctx, temp.Name()); err != nil {
			return err
		}
		after, err := mayfly.ReadConfig(temp.Name())
		if err != nil {
			return err
		}
		if bytes.Equal(before, after) {
			a.note("%s is as it was", path)
			return nil
		}
		if err = a.client.CheckFile(ctx, name, after); err == nil {
			return a.replaceFile(ctx, name, before, temp.Name())
		}
		a.printError(err, false)
		if !terminal.Is(a.In) || !terminal.Is(a.Err) {
			return hint.Errorf("mayfly edit "+name, "%s is as it was", path)
		}
		answer, err := a.ask("edit it again?", []string{"yes", "no"})
		if err != nil {
			return err
		}
		if answer == "no" {
			return fmt.Errorf("%s is as it was", path)
		}
	}
}

// replaceFile puts the edited file in the place of the machine's, unless that was
// changed meanwhile.
func (a *app) replaceFile(ctx context.Context, name string, before []byte, temp string) error {
	if err := a.client.ReplaceFile(ctx, name, before, temp); err != nil {
		return err
	}
	if m, err := a.client.Machine(ctx, name); err == nil && m.Alive() {
		a.note("%s runs as it was started: mayfly restart %s", name, name)
	}
	return nil
}

// editor is the editor that the user has chosen, a shell command, or "".
func (a *app) editor() string { return cmp.Or(a.getenv("VISUAL"), a.getenv("EDITOR")) }

// runEditor runs the user's editor, a shell command, on a file.
func (a *app) runEditor(ctx context.Context, path string) error {
	editor := cmp.Or(a.editor(), "vi")
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", editor+` "$1"`, "mayfly-edit", path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.In, a.Out, a.Err
	if err := cmd.Run(); err != nil {
		return hint.Errorf("EDITOR=nano mayfly edit NAME", "%s: %w", editor, err)
	}
	return nil
}
