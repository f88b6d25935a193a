package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/network/bridge"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// workspacesDir is where mayfly new makes workspaces, below the home directory.
const workspacesDir = "microvm"

// newOptions are the flags of mayfly new.
type newOptions struct {
	settings
	mode      string
	clone     []string
	typed     map[string]string // the URLs of clone, by what the file has of them
	volumes   []string
	init      string
	shell     string
	dotfiles  []string
	shellInit string
	history   bool
	autostart bool
}

func (a *app) newCommand() *cobra.Command {
	var o newOptions
	cmd := &cobra.Command{
		Use:   "new [flags] NAME",
		Short: "Define a machine with a name and start nothing",
		Long: `Define a machine with a name: a file that says what it is, a directory to work
on, and an identity. It starts nothing; mayfly check NAME builds its image.

The flags are those of mayfly run, and are written into the file. Without
--workspace the directory is ~/microvm/NAME, and is made; sources are cloned
into it on this computer, without running anything of theirs.`,
		Example: `  mayfly new dcs --profile go,claude --clone https://git.example.org/dcs.git
  mayfly new scratch --network none --volume var:/var:8GiB`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.newMachine(cmd.Context(), args[0], &o, cmd.Flags().Changed)
		},
	}
	f := cmd.Flags()
	o.settings.register(f)
	for _, flag := range []string{"no-detect", "trust", "config"} { // of mayfly run only
		f.MarkHidden(flag)
	}
	f.StringVar(&o.mode, "mode", "", "`how` the workspace is given: copy or share")
	f.StringArrayVar(&o.clone, "clone", nil, "clone a repository into the workspace: `URL[@REF]` (repeatable)")
	f.StringArrayVar(&o.volumes, "volume", nil, "a disk that outlives stops: `NAME:MOUNT[:SIZE]` (repeatable)")
	f.StringVar(&o.init, "init", "", "`program` that is process 1: mayfly, or systemd for services and Docker")
	f.StringVar(&o.shell, "shell", "", "login `shell`: bash, dash, fish, sh or zsh")
	f.StringArrayVar(&o.dotfiles, "dotfiles", nil, "a `directory` or a git URL with files for the home directory (repeatable)")
	f.StringVar(&o.shellInit, "shell-init", "", "shell `text` for all shells and commands")
	f.BoolVar(&o.history, "history", false, "keep what is typed into the machine's shells, bash and zsh")
	f.BoolVar(&o.autostart, "autostart", false, "let systemd start the machine, once mayfly systemd install was run")
	f.BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// madeJSON is what mayfly new made, as new --json prints it. Fields are only added.
type madeJSON struct {
	Name      string       `json:"name"`
	File      string       `json:"file"`
	Workspace string       `json:"workspace"`
	Data      string       `json:"data"` // what is kept of the machine
	Mode      string       `json:"mode"`
	Network   string       `json:"network"`
	Address   string       `json:"address,omitempty"`
	MAC       string       `json:"mac,omitempty"`
	Profiles  []string     `json:"profiles"`
	Packages  []string     `json:"packages"`
	Clones    []clonedJSON `json:"clones"`
	HostKey   string       `json:"host_key"` // the fingerprint of its SSH host key
	Next      []string     `json:"next"`     // commands to type
}

type clonedJSON struct {
	URL    string `json:"url"`
	Path   string `json:"path"`
	Commit string `json:"commit"`
	Branch string `json:"branch,omitempty"`
}

// newMachine defines a machine. What it made it removes again if it fails.
func (a *app) newMachine(ctx context.Context, name string, o *newOptions, changed func(string) bool) error {
	if err := naming.Check(name); err != nil {
		if f, ok := fault.Of(err); ok && f.Args["better"] != "" {
			err = hint.Wrap(err, "mayfly new "+f.Args["better"])
		}
		return usageError{err}
	}
	settings, err := a.newSettings(name, o, changed)
	if err != nil {
		return err
	}
	// Before anything is made: what is wrong with the flags, and with the host.
	cfg, err := a.tryFile(settings)
	if err != nil {
		return err
	}
	dirs, err := a.dirs()
	if err != nil {
		return err
	}
	if err := enough("a new machine", dirs.State, host.FreeBytes(dirs.State), newDisk); err != nil {
		return err
	}
	d := &defining{app: a}
	made, err := d.define(ctx, name, cfg, o.typed, func(taken definition.Taken) ([]byte, error) {
		all, err := withAddress(settings, cfg, taken)
		if err != nil {
			return nil, err
		}
		return config.Encode("Machine "+name+". mayfly edit "+name+" checks it; mayfly restart "+name+" uses it.", all)
	})
	if err != nil {
		return a.interrupted(d.rollback(err))
	}
	return a.printMade(made)
}

// newDisk is the space in bytes that defining a machine needs; its image is another
// matter.
const newDisk = 64 << 20

// newSettings returns the flags as settings of the machine's file.
func (a *app) newSettings(name string, o *newOptions, changed func(string) bool) ([]config.Setting, error) {
	if o.noWorkspace && (len(o.clone) > 0 || o.workspace != "") {
		return nil, usageError{errors.New("--no-workspace excludes --workspace and --clone")}
	}
	list, err := o.settings.list(a.getenv, changed)
	if err != nil {
		return nil, err
	}
	if !changed("workspace") && !o.noWorkspace {
		list = append(list, config.Setting{From: "the default", Key: "workspace.path", Value: "~/" + filepath.Join(workspacesDir, name)})
	}
	add := func(flag, key string, value any) {
		if changed(flag) {
			list = append(list, config.Setting{From: "--" + flag, Key: key, Value: value})
		}
	}
	add("mode", "workspace.mode", o.mode)
	add("volume", "volume", o.volumes)
	add("init", "image.init", o.init)
	add("shell", "home.shell", o.shell)
	add("dotfiles", "home.dotfiles", o.dotfiles)
	add("shell-init", "home.shell_init", o.shellInit)
	add("history", "home.history", o.history)
	add("autostart", "machine.autostart", o.autostart)
	o.typed = make(map[string]string)
	for _, spec := range o.clone {
		c, typed, err := parseClone(spec)
		if err != nil {
			return nil, usageError{err}
		}
		o.typed[c.URL] = typed
		table := map[string]any{"url": c.URL}
		if c.Ref != "" {
			table["ref"] = c.Ref
		}
		list = append(list, config.Setting{From: "--clone", Key: "workspace.clone", Value: []any{table}})
	}
	return list, nil
}

// tryFile reads settings as the file that they will be in.
func (a *app) tryFile(settings []config.Setting) (config.Config, error) {
	dirs, err := a.dirs()
	if err != nil {
		return config.Config{}, err
	}
	// First as they are, for errors that name the flags.
	if _, err := config.Load(config.Sources{Settings: settings, ProfileDir: filepath.Join(dirs.Config, "profiles")}); err != nil {
		return config.Config{}, usageError{err}
	}
	data, err := config.Encode("", settings)
	if err != nil {
		return config.Config{}, usageError{err}
	}
	return a.loadFile(config.File{Path: "the flags", Data: data})
}

// withAddress adds the address of a machine on the bridge, if it has none.
func withAddress(settings []config.Setting, cfg config.Config, taken definition.Taken) ([]config.Setting, error) {
	if cfg.Network.Mode != plan.NetworkBridge {
		return settings, nil
	}
	if cfg.Network.Address != "" {
		return settings, taken.Check(netip.MustParsePrefix(cfg.Network.Address), cfg.Network.MAC)
	}
	network := bridge.Default().Address
	if current, err := bridge.Current(bridge.Default()); err == nil {
		network = current.Address
	}
	address, mac, err := taken.Next(network)
	if err != nil {
		return nil, err
	}
	return append(settings,
		config.Setting{Key: "network.address", Value: address.String()},
		config.Setting{Key: "network.mac", Value: mac}), nil
}

func (a *app) printMade(made madeJSON) error {
	made.Next = []string{"mayfly check " + made.Name, "mayfly start " + made.Name, "mayfly ssh " + made.Name}
	if made.Profiles == nil {
		made.Profiles = []string{}
	}
	if made.Packages == nil {
		made.Packages = []string{}
	}
	if a.json {
		return a.printJSON(a.Out, made)
	}
	rows := [][2]string{{"machine", made.Name}, {"file", made.File}}
	if made.Workspace != "" {
		rows = append(rows, [2]string{"workspace", fmt.Sprintf("%s (%s)", termsafe.Quote(made.Workspace), made.Mode)})
	}
	for _, c := range made.Clones {
		rows = append(rows, [2]string{"cloned", fmt.Sprintf("%s at %.12s to %s", termsafe.Line(c.URL), c.Commit, termsafe.Quote(c.Path))})
	}
	if len(made.Profiles) > 0 {
		rows = append(rows, [2]string{"profiles", strings.Join(made.Profiles, ", ")})
	}
	if len(made.Packages) > 0 {
		rows = append(rows, [2]string{"packages", strings.Join(made.Packages, " ")})
	}
	network := made.Network
	if made.Address != "" {
		network += ", " + made.Address + ", MAC " + made.MAC
	}
	rows = append(rows, [2]string{"network", network}, [2]string{"host key", made.HostKey}, [2]string{"next", strings.Join(made.Next, ", ")})
	for _, r := range rows {
		fmt.Fprintf(a.Out, "%-10s %s\n", r[0]+":", r[1])
	}
	return nil
}
