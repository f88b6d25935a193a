package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

func (a *app) checkCommand() *cobra.Command {
	var noBuild bool
	cmd := &cobra.Command{
		Use:   "check [flags] NAME|FILE",
		Short: "Check a machine's file and build its image, and start nothing",
		Long: `Check a machine's file, or a file that is to become one: every key, the packages
and agents that it names, its directories and addresses. Then build its image.
Nothing is started.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.check(cmd.Context(), args[0], noBuild)
		},
	}
	cmd.Flags().BoolVar(&noBuild, "no-build", false, "build no image")
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// checkedJSON is what mayfly check found, as check --json prints it. Fields are only
// added.
type checkedJSON struct {
	Name  string    `json:"name"`
	File  string    `json:"file"`
	Image string    `json:"image,omitempty"` // its key; empty when none was to be built
	Plan  plan.Plan `json:"plan"`
	Next  []string  `json:"next"`
}

func (a *app) check(ctx context.Context, what string, noBuild bool) error {
	d, err := a.definitionOrFile(what)
	if err != nil {
		return err
	}
	p, err := a.planNamed(ctx, d)
	if err != nil {
		return err
	}
	if p.Workspace.Path != "" {
		if err := workspace.Check(p.Workspace.Path); err != nil {
			return usageError{err}
		}
	}
	out := checkedJSON{Name: d.Name, File: d.Path, Plan: p, Next: []string{"mayfly start " + d.Name}}
	if !noBuild {
		store, err := a.images()
		if err != nil {
			return err
		}
		progress := a.newProgress()
		defer progress.stop()
		img, err := store.Ensure(ctx, p.Image, progress.image)
		if err != nil {
			return a.interrupted(err)
		}
		progress.stop()
		out.Image = img.Key
	}
	if a.json {
		return a.printJSON(a.Out, out)
	}
	for _, note := range p.Notes {
		a.note("%s", note)
	}
	fmt.Fprintf(a.Out, "%s: ok\n", d.Path)
	if out.Image != "" {
		fmt.Fprintf(a.Out, "image %.12s is built; nothing was started\n", out.Image)
	}
	return nil
}

// definitionOrFile returns the definition of a machine's name, or one for a file.
func (a *app) definitionOrFile(what string) (definition.Definition, error) {
	d, err := a.definition(what)
	if err == nil {
		return d, nil
	}
	if !strings.ContainsAny(what, "/.") {
		return d, err
	}
	path, absErr := filepath.Abs(what)
	if absErr != nil {
		return d, absErr
	}
	if _, statErr := os.Stat(path); statErr != nil {
		return d, hint.Errorf("mayfly ls", "%s is neither a machine's name nor a file", what)
	}
	name := strings.TrimSuffix(filepath.Base(path), ".toml")
	if !naming.Valid(name) {
		name = "checked"
	}
	store, err := a.definitions()
	if err != nil {
		return d, err
	}
	d = store.At(name)
	d.Path = path
	return d, nil
}

func (a *app) editCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "edit NAME",
		Short: "Edit a machine's file, which is checked when it is saved",
		Long: `Edit a machine's file with $VISUAL or $EDITOR. What you saved is checked before
it takes the file's place. A machine that runs goes on as it is until it is
restarted.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.definition(args[0])
			if err != nil {
				return err
			}
			return a.edit(cmd.Context(), d)
		},
	}
}

// edit lets the user edit a copy of the file, which takes its place when it is right.
func (a *app) edit(ctx context.Context, d definition.Definition) error {
	before, err := config.ReadFile(d.Path)
	if err != nil {
		return err
	}
	// Beside it, so that it can take its place; its name is no machine's.
	temp, err := os.CreateTemp(filepath.Dir(d.Path), ".edit-*.toml")
	if err != nil {
		return fmt.Errorf("edit %s: %w", d.Path, err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(before.Data)
	if err := errors.Join(err, temp.Chmod(0o644), temp.Close()); err != nil {
		return fmt.Errorf("edit %s: %w", d.Path, err)
	}
	for {
		if err := a.runEditor(ctx, temp.Name()); err != nil {
			return err
		}
		after, err := config.ReadFile(temp.Name())
		if err != nil {
			return err
		}
		if slices.Equal(before.Data, after.Data) {
			a.note("%s is as it was", d.Path)
			return nil
		}
		// Errors name the file that it is to be.
		cfg, err := a.loadFile(config.File{Path: d.Path, Data: after.Data})
		if err == nil {
			_, err = a.planConfig(ctx, d, cfg)
		}
		if err == nil {
			return a.replaceFile(d, before.Data, temp.Name())
		}
		a.printError(err, false)
		if !isTerminal(a.In) || !isTerminal(a.Err) {
			return hint.Errorf("mayfly edit "+d.Name, "%s is as it was", d.Path)
		}
		answer, err := a.ask("edit it again?", []string{"yes", "no"})
		if err != nil {
			return err
		}
		if answer == "no" {
			return fmt.Errorf("%s is as it was", d.Path)
		}
	}
}

// replaceFile puts the edited file in the place of the machine's, unless that was
// changed meanwhile.
func (a *app) replaceFile(d definition.Definition, before []byte, temp string) error {
	now, err := config.ReadFile(d.Path)
	if err != nil {
		return err
	}
	if !slices.Equal(before, now.Data) {
		kept := d.Path + ".edited"
		if err := os.Rename(temp, kept); err != nil {
			return err
		}
		return hint.Errorf("diff "+d.Path+" "+kept, "%s was changed meanwhile; what you wrote is in %s", d.Path, kept)
	}
	if err := os.Rename(temp, d.Path); err != nil {
		return fmt.Errorf("edit %s: %w", d.Path, err)
	}
	if m, err := a.machine(d.Name); err == nil && m.Alive() {
		a.note("%s runs as it was started: mayfly restart %s", d.Name, d.Name)
	}
	return nil
}

// runEditor runs the user's editor, a shell command, on a file.
func (a *app) runEditor(ctx context.Context, path string) error {
	editor := a.getenv("VISUAL")
	if editor == "" {
		editor = a.getenv("EDITOR")
	}
	if editor == "" {
		editor = "vi"
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", editor+` "$1"`, "mayfly-edit", path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.In, a.Out, a.Err
	if err := cmd.Run(); err != nil {
		return hint.Errorf("EDITOR=nano mayfly edit NAME", "%s: %w", editor, err)
	}
	return nil
}
