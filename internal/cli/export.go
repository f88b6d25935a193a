package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/importer/bundle"
)

func (a *app) exportCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [-o FILE] [NAME…]",
		Short: "Write machines' files as one file, from which others can make them",
		Long: `Write what machines are, their files and the profiles of your own that they
use, as one file, from which mayfly init makes them elsewhere. Without a name it
is all machines. What is in workspaces and volumes is not in it, and no secret
is: a file names only where the computer that uses it has one.`,
		Example: `  mayfly export -o setup.toml
  mayfly export web | ssh other mayfly init --from /dev/stdin --yes`,
		Args:              usageArgs(cobra.ArbitraryArgs),
		ValidArgsFunction: a.completeNamed,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.export(args, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to a new `file` in place of standard output")
	return cmd
}

func (a *app) export(names []string, output string) error {
	have, err := a.haveHere()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(have.Machines))
	}
	if len(names) == 0 {
		return hint.Errorf("mayfly new NAME", "there are no machines with names to export")
	}
	var b bundle.Bundle
	profiles := make(map[string]bool)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		data, ok := have.Machines[name]
		if !ok {
			_, err := a.definition(name)
			return err
		}
		f := bundle.File{Name: name, Data: data}
		b.Machines = append(b.Machines, f)
		for _, p := range f.ProfileNames() {
			profiles[p] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		if data, own := have.Profiles[name]; own {
			b.Profiles = append(b.Profiles, bundle.File{Name: name, Data: data})
		}
	}
	data, err := b.Encode()
	if err != nil {
		return err
	}
	for _, c := range bundle.Review(b, bundle.Have{}, bundle.Placement{}).Changes {
		switch {
		case c.Kind == bundle.Refuse:
			a.note("%s: mayfly init will refuse this as it is: %s", strings.TrimSuffix(c.In+": "+c.Key, ": "), c.Text)
		case strings.HasPrefix(c.Key, "env.") && secretName.MatchString(c.Key):
			a.note("%s: %s is a value in the file, for all to read; is it secret?", c.In, c.Key)
		}
	}
	if output == "" || output == "-" {
		_, err := a.Out.Write(data)
		return err
	}
	if err := writeNewFile(output, data); err != nil {
		return err
	}
	a.note("to make the same elsewhere: mayfly init --from %s#sha256=%s", output, bundle.Sum(data))
	return nil
}

// secretName is what variables are called that hold secrets.
var secretName = regexp.MustCompile(`(?i)TOKEN|SECRET|PASSW|API_?KEY|CREDENTIAL|_KEY$`)

// writeNewFile writes a file that is not there yet.
func writeNewFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return hint.Errorf("rm "+path, "%s is there already", path)
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("export: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}
