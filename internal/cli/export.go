package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
)

func (a *app) exportCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [-o FILE] [NAME…]",
		Short: "Write machines as one file, from which mayfly init makes them elsewhere",
		Long: `Write the files of machines, and your own profiles that they use, as one file.
mayfly init makes the same machines from it elsewhere. Without a name, export
all machines. The file holds no workspace, no volume and no secret: it only says
where the host that uses it has a secret.`,
		Example: `  mayfly export -o setup.toml
  mayfly export web | ssh other mayfly init --from /dev/stdin --yes`,
		Args:              takes(0, anyNumber),
		ValidArgsFunction: a.completeNamed,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.export(args, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to a new `file`, not to standard output")
	return cmd
}

func (a *app) export(names []string, output string) error {
	toFile := output != "" && output != "-"
	if toFile {
		if err := checkOutput("--output", output); err != nil {
			return err
		}
	}
	data, sum, changes, err := a.client.Export(names...)
	if err != nil {
		return err
	}
	for _, change := range changes {
		switch {
		case change.Kind == mayfly.SetupRefused:
			a.note("%s: mayfly init will refuse this as it is: %s", strings.TrimSuffix(change.In+": "+change.Key, ": "), change.Text)
		case strings.HasPrefix(change.Key, "env.") && secretName.MatchString(change.Key):
			a.note("%s: %s is a value in the file, for all to read; is it secret?", change.In, change.Key)
		}
	}
	if !toFile {
		_, err := a.Out.Write(data)
		return err
	}
	err = atomicfile.WriteNew(output, data, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return hint.Errorf("rm "+output, "%s is there already", output)
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	a.note("to make the same elsewhere: mayfly init --from %s#sha256=%s", output, sum)
	return nil
}

// secretName is what variables are called that hold secrets.
var secretName = regexp.MustCompile(`(?i)TOKEN|SECRET|PASSW|API_?KEY|CREDENTIAL|_KEY$`)
