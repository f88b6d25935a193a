package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/importer/nix"
)

func (a *app) importCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "import",
		Short: "Make machines from definitions of other programs",
	}, a.importNixCommand())
}

func (a *app) importNixCommand() *cobra.Command {
	var dryRun bool
	var evaluator string
	cmd := &cobra.Command{
		Use:   "nix [flags] DIRECTORY [NAME…]",
		Short: "Make machines from the microvm.vms of a NixOS configuration",
		Long: `Make machines from the microvm.vms that a NixOS configuration with microvm.nix
defines: all of them, or those that you name. mayfly starts no machine and does
not change the configuration.

DIRECTORY holds a flake with its flake.lock. Nix evaluates it, and fetches and
builds nothing: the inputs must be in the store, where nix flake archive puts
them. Notes say what has no counterpart and was left out. With -v, they also
name what machines do not need.`,
		Example: `  mayfly import nix ~/machines/midna --dry-run
  mayfly import nix ~/machines/midna emacsvm`,
		Args: takes(1, anyNumber),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch evaluator {
			case "auto", "nix":
			case "own":
				return fault.New(fault.NixMissing, nil, "--evaluator own: mayfly does not read Nix itself any more")
			default:
				return usageError{fmt.Errorf("--evaluator %q; it is auto, nix or own", evaluator)}
			}
			return a.importNix(cmd.Context(), args[0], args[1:], dryRun)
		},
	}
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "print the machines' files, and make nothing")
	cmd.Flags().StringVar(&evaluator, "evaluator", "auto", "`program` that evaluates it: nix, or auto, which is the same")
	a.jsonFlag(cmd)
	return cmd
}

// importJSON is what import nix --json prints. Fields are only added.
type importJSON struct {
	Notes []noteJSON `json:"notes"`
	Files []fileJSON `json:"files"`
	Made  []madeJSON `json:"made"`

	Evaluator string `json:"evaluator"` // "nix"
}

type noteJSON struct {
	Machine string `json:"machine,omitempty"`
	File    string `json:"file,omitempty"`
	Kind    string `json:"kind"`
	Text    string `json:"text"`
}

type fileJSON struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

func (a *app) importNix(ctx context.Context, dir string, names []string, dryRun bool) error {
	res, err := nix.ImportDir(ctx, dir)
	machines, notes := res.Machines, nix.Concerning(res.Notes, names)
	if err == nil {
		machines, err = chooseMachines(machines, names)
	}
	if !a.json {
		if len(machines) > 0 {
			a.note("evaluated by nix eval")
		}
		a.printNotes(notes)
	}
	if err != nil {
		return err
	}
	out := importJSON{Notes: []noteJSON{}, Files: []fileJSON{}, Made: []madeJSON{}, Evaluator: "nix"}
	for _, n := range notes {
		out.Notes = append(out.Notes, noteJSON{n.Machine, n.File, string(n.Kind), n.Text})
	}
	var files []mayfly.File
	for _, m := range machines {
		f := mayfly.File{Name: m.Name, Content: m.File()}
		files = append(files, f)
		out.Files = append(out.Files, fileJSON{f.Name, string(f.Content)})
	}
	made, err := a.client.DefineFiles(ctx, files, dryRun)
	if dryRun {
		if a.json {
			return errors.Join(err, a.printJSON(out))
		}
		for _, f := range out.Files {
			fmt.Fprintf(a.Out, "# %s.toml\n%s\n", f.Name, f.Content)
		}
		return err
	}
	if err != nil {
		return err
	}
	return a.printAllMade(made, false, func(list []madeJSON) any {
		out.Made = list
		return out
	})
}

// chooseMachines returns those that are named, or all.
func chooseMachines(all []nix.Machine, names []string) ([]nix.Machine, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []nix.Machine
	for _, name := range names {
		i := slices.IndexFunc(all, func(m nix.Machine) bool { return m.Name == name })
		if i < 0 {
			var known []string
			for _, m := range all {
				known = append(known, m.Name)
			}
			return nil, usageError{fmt.Errorf("no microvm.vms.%s; there is %s", name, strings.Join(known, ", "))}
		}
		if !slices.ContainsFunc(chosen, func(m nix.Machine) bool { return m.Name == name }) {
			chosen = append(chosen, all[i])
		}
	}
	return chosen, nil
}

// printNotes prints each note once, with the machines that it is about.
func (a *app) printNotes(notes []nix.Note) {
	dropped := 0
	for _, n := range nix.Digest(notes) {
		if n.Kind == nix.Dropped && !a.verbose {
			dropped++
			continue
		}
		a.note("%s", n)
	}
	if dropped > 0 {
		a.note("%d more notes, of what machines have no need of; -v prints them", dropped)
	}
}
