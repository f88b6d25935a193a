package cli

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
)

// workspacesDir is where mayfly new makes workspaces, below the home directory.
const workspacesDir = "microvm"

// newOptions are the flags of mayfly new.
type newOptions struct {
	settings
	clone []string
}

func (a *app) newCommand() *cobra.Command {
	var o newOptions
	cmd := &cobra.Command{
		Use:   "new [flags] NAME",
		Short: "Define a named machine",
		Long: `Define a named machine: a file that describes it, a directory to work on, and an
identity. mayfly starts nothing; mayfly check NAME builds the image.

mayfly writes the flags, which are those of mayfly run, into the file. The
default workspace is ~/microvm/NAME, and is created. Repositories are cloned
into it on the host; nothing of theirs is run.`,
		Example: `  mayfly new dcs --profile go,claude --clone https://git.example.org/dcs.git
  mayfly new scratch --network none --volume var:/var:8GiB`,
		Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.newMachine(cmd.Context(), args[0], &o, cmd.Flags().Changed)
		},
	}
	f := cmd.Flags()
	o.settings.register(f)
	for _, flag := range []string{"no-detect", "trust", "config"} { // of mayfly run only
		f.MarkHidden(flag)
	}
	f.Lookup("workspace").Usage = "`directory` to work on (default: ~/" + workspacesDir + "/NAME)"
	f.StringVar(key[string](&o.settings, "mode", "workspace.mode"), "mode", "", "`mode` of the workspace: copy, or share for a live share")
	f.StringArrayVar(&o.clone, "clone", nil, "clone a repository into the workspace: `URL[@REF]` (repeatable)")
	f.StringArrayVar(key[[]string](&o.settings, "volume", "volume"), "volume", nil, "add a disk that outlives stops: `NAME:MOUNT[:SIZE]` (repeatable)")
	f.StringVar(key[string](&o.settings, "init", "image.init"), "init", "", "`program` that is process 1: mayfly, or systemd for services")
	f.StringVar(key[string](&o.settings, "shell", "home.shell"), "shell", "", "login `shell`: bash, dash, fish, sh or zsh")
	f.StringArrayVar(key[[]string](&o.settings, "dotfiles", "home.dotfiles"), "dotfiles", nil, "copy files from a `directory` or a git URL to the home directory (repeatable)")
	f.StringVar(key[string](&o.settings, "shell-init", "home.shell_init"), "shell-init", "", "run this shell `text` before all shells and commands")
	f.BoolVar(key[bool](&o.settings, "history", "home.history"), "history", false, "keep the history of the machine's shells, bash and zsh")
	f.BoolVar(key[bool](&o.settings, "autostart", "machine.autostart"), "autostart", false, "let systemd start the machine, after mayfly systemd install")
	a.jsonFlag(cmd)
	return cmd
}

// madeJSON is what mayfly new made, as new --json prints it. Fields are only added.
type madeJSON struct {
	mayfly.Defined
	Next []string `json:"next"` // commands to type
}

// newMachine defines a machine.
func (a *app) newMachine(ctx context.Context, name string, o *newOptions, changed func(string) bool) error {
	settings, err := a.newSettings(name, o, changed)
	if err != nil {
		return err
	}
	def := mayfly.Definition{
		Name: name, Settings: settings,
		Comment: "Machine " + name + ". mayfly edit " + name + " checks it; mayfly restart " + name + " uses it.",
	}
	for _, text := range o.clone {
		clone, err := mayfly.ParseClone(text)
		if err != nil {
			return err
		}
		def.Clones = append(def.Clones, clone)
	}
	made, err := a.client.Define(ctx, def)
	if err != nil {
		if better, ok := strings.CutPrefix(hint.Of(err), "--name "); ok {
			err = hint.Wrap(err, "mayfly new "+better)
		}
		return err
	}
	return a.printMade(made)
}

// newSettings returns the flags as settings of the machine's file.
func (a *app) newSettings(name string, o *newOptions, changed func(string) bool) ([]mayfly.Setting, error) {
	if o.noWorkspace && (len(o.clone) > 0 || o.workspace != "") {
		return nil, usageError{errors.New("--no-workspace excludes --workspace and --clone")}
	}
	list, err := o.settings.list(a.getenv, changed)
	if err != nil {
		return nil, err
	}
	if !changed("workspace") && !o.noWorkspace {
		list = append(list, mayfly.Setting{From: "the default", Key: "workspace.path", Value: "~/" + filepath.Join(workspacesDir, name)})
	}
	return list, nil
}

func (a *app) printMade(d mayfly.Defined) error {
	made := madeJSON{d, []string{"mayfly check " + d.Name, "mayfly start " + d.Name}}
	if len(d.Agents) > 0 {
		made.Next = append(made.Next, "mayfly "+d.Agents[0]+" "+d.Name)
	}
	made.Next = append(made.Next, "mayfly ssh "+d.Name)
	if a.json {
		return a.printJSON(made)
	}
	return a.printRows("%-10s %s\n", words.Defined(d, made.Next))
}
