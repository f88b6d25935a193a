package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/systemd"
)

// systemdOptions are the flags of mayfly systemd.
type systemdOptions struct {
	user   bool
	system bool
	enable bool
	remove bool
}

func (a *app) systemdCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "systemd",
		Short: "Let systemd start, stop and limit a machine",
		Long: `Let systemd start, stop and limit a machine, like any service:

  systemctl --user start mayfly@NAME
  systemctl --user status mayfly@NAME
  journalctl --user -u mayfly@NAME

mayfly does not need systemd: mayfly start NAME works without it.`,
	}, a.systemdInstallCommand(), a.systemdUninstallCommand(), a.systemdPrintCommand(), a.systemdTimerCommand())
}

// scopeFlags registers the flags that choose a service manager.
func (o *systemdOptions) scopeFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.user, "user", false, "use your own service manager, systemctl --user (the default)")
	cmd.Flags().BoolVar(&o.system, "system", false, "use the host's service manager, with sudo: the machine runs as you, even when you are not logged in")
}

func (a *app) systemdInstallCommand() *cobra.Command {
	var o systemdOptions
	cmd := &cobra.Command{
		Use:   "install [flags] NAME",
		Short: "Write the units of a machine",
		Long: `Write the unit mayfly@.service, which all machines share, and a drop-in with the
limits of this machine: its memory plus 1 GiB, 100% of a CPU for each virtual
CPU, and 512 processes and threads of the host.

Install the units again after you change the machine's file. Your own drop-ins
stay and come after those of mayfly: systemctl --user edit mayfly@NAME.`,
		Example: `  mayfly systemd install web
  mayfly systemd install --enable web
  sudo mayfly systemd install --system --enable web`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.systemdInstall(cmd.Context(), o, args[0])
		},
	}
	o.scopeFlags(cmd)
	cmd.Flags().BoolVar(&o.enable, "enable", false, "start the machine at each login, or with --system when the host starts")
	return cmd
}

func (a *app) systemdUninstallCommand() *cobra.Command {
	var o systemdOptions
	cmd := &cobra.Command{
		Use:   "uninstall [flags] NAME",
		Short: "Remove the units of a machine",
		Long: `Remove the drop-ins of a machine, and with the last of them the shared unit.
Your own files stay. A running machine keeps running.`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := naming.Check(args[0]); err != nil {
				return usageError{err}
			}
			return a.systemdRemove(cmd.Context(), o, func(d systemd.Dir) ([]string, error) { return d.RemoveMachine(args[0]) })
		},
	}
	o.scopeFlags(cmd)
	return cmd
}

func (a *app) systemdPrintCommand() *cobra.Command {
	var o systemdOptions
	cmd := &cobra.Command{
		Use:               "print [flags] NAME",
		Short:             "Print the units of a machine",
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeNamed,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, account, err := a.systemdDir(o)
			if err != nil {
				return err
			}
			files, _, err := a.systemdFiles(dir.Scope, account, args[0])
			if err != nil {
				return err
			}
			for i, f := range files {
				if i > 0 {
					fmt.Fprintln(a.Out)
				}
				fmt.Fprintf(a.Out, "# %s\n%s", filepath.Join(dir.Path, f.Path), f.Text)
			}
			return nil
		},
	}
	o.scopeFlags(cmd)
	return cmd
}

func (a *app) systemdTimerCommand() *cobra.Command {
	var o systemdOptions
	cmd := &cobra.Command{
		Use:   "timer",
		Short: "Update images daily",
		Long: `Write and start a timer that runs mayfly update each day, or when the host is
next on. Running machines are not touched: they use the new images at their next
start.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.systemdTimer(cmd.Context(), o) },
	}
	o.scopeFlags(cmd)
	cmd.Flags().BoolVar(&o.remove, "remove", false, "stop and remove the timer")
	return cmd
}

// scope returns the service manager that the flags choose.
func (o systemdOptions) scope() (systemd.Scope, error) {
	switch {
	case o.user && o.system:
		return 0, usageError{errors.New("--user and --system exclude each other")}
	case o.system:
		return systemd.System, nil
	}
	return systemd.User, nil
}

// systemdDir returns the directory of units, and as whom a machine runs.
func (a *app) systemdDir(o systemdOptions) (systemd.Dir, systemd.Account, error) {
	scope, err := o.scope()
	if err != nil {
		return systemd.Dir{}, systemd.Account{}, err
	}
	return systemd.Find(scope, a.getenv)
}

// systemdFiles returns the units of a machine, and whether its definition wants it
// to be started by itself.
func (a *app) systemdFiles(scope systemd.Scope, who systemd.Account, name string) (files []systemd.File, autostart bool, err error) {
	// With sudo, the machine is another's than root's.
	c, err := mayfly.New(mayfly.Options{Getenv: who.Getenv, OnEvent: a.tell})
	if err != nil {
		return nil, false, err
	}
	size, err := c.Size(name)
	if err != nil {
		return nil, false, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, false, fmt.Errorf("find this program: %w", err)
	}
	m := systemd.Machine{Name: name, Exe: exe, Limits: systemd.LimitsFor(size.MemoryMiB, size.VCPUs), Owner: who.Owner()}
	files, err = m.Files(scope)
	return files, size.Autostart, err
}

func (a *app) systemdInstall(ctx context.Context, o systemdOptions, name string) error {
	if err := a.needSystemd("mayfly start " + name); err != nil {
		return err
	}
	dir, who, err := a.systemdDir(o)
	if err != nil {
		return err
	}
	files, autostart, err := a.systemdFiles(dir.Scope, who, name)
	if err != nil {
		return err
	}
	if err := a.systemdWrite(dir, files); err != nil {
		return err
	}
	unit := systemd.Service(name)
	enable := o.enable || autostart
	if enable {
		if err := a.systemdEnable(dir, unit); err != nil {
			return err
		}
	}
	if err := a.daemonReload(ctx, dir.Scope); err != nil {
		return err
	}
	a.note("next: %s start mayfly@%s", dir.Scope.Command(), name)
	if enable && dir.Scope == systemd.User {
		a.note("it starts when you log in; to have it without a login: loginctl enable-linger")
	}
	return nil
}

func (a *app) systemdWrite(dir systemd.Dir, files []systemd.File) error {
	written, err := dir.Write(files)
	for _, name := range written {
		fmt.Fprintln(a.Out, "wrote "+name)
	}
	if err == nil && len(written) == 0 {
		a.note("the units are as they should be")
	}
	return systemdError(dir.Scope, err)
}

func (a *app) systemdEnable(dir systemd.Dir, unit string) error {
	link, err := dir.Enable(unit)
	if link != "" {
		fmt.Fprintln(a.Out, "wrote "+link)
	}
	return systemdError(dir.Scope, err)
}

// systemdRemove removes units, and says which.
func (a *app) systemdRemove(ctx context.Context, o systemdOptions, remove func(systemd.Dir) ([]string, error)) error {
	dir, _, err := a.systemdDir(o)
	if err != nil {
		return err
	}
	removed, err := remove(dir)
	for _, name := range removed {
		fmt.Fprintln(a.Out, "removed "+name)
	}
	if err != nil {
		return systemdError(dir.Scope, err)
	}
	if len(removed) == 0 {
		return fmt.Errorf("there are no units of it in %s", dir.Path)
	}
	return a.daemonReload(ctx, dir.Scope)
}

// systemdTimer installs the timer that runs mayfly update, or removes it.
func (a *app) systemdTimer(ctx context.Context, o systemdOptions) error {
	if err := a.needSystemd("mayfly update"); err != nil {
		return err
	}
	dir, who, err := a.systemdDir(o)
	if err != nil {
		return err
	}
	if o.remove {
		if dir.Scope.Runs(a.getenv) {
			if err := systemctl(ctx, dir.Scope, "stop", systemd.UpdateTimer); err != nil {
				return err
			}
		}
		return a.systemdRemove(ctx, o, systemd.Dir.RemoveUpdate)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	owner := who.Owner()
	// npm, which fetches agents, is often where only a shell looks.
	if path := who.Getenv("PATH"); path != "" {
		owner.Env = append(owner.Env, "PATH="+path)
	}
	files, err := systemd.Update{Exe: exe, Scope: dir.Scope, Owner: owner}.Files()
	if err != nil {
		return err
	}
	if err := a.systemdWrite(dir, files); err != nil {
		return err
	}
	if err := a.systemdEnable(dir, systemd.UpdateTimer); err != nil {
		return err
	}
	if err := a.daemonReload(ctx, dir.Scope); err != nil || !dir.Scope.Runs(a.getenv) {
		return err
	}
	if err := systemctl(ctx, dir.Scope, "start", systemd.UpdateTimer); err != nil {
		return err
	}
	a.note("next: %s list-timers %s", dir.Scope.Command(), systemd.UpdateTimer)
	return nil
}

// systemdError adds to an error of files what to do about it.
func systemdError(scope systemd.Scope, err error) error {
	switch {
	case errors.Is(err, systemd.ErrForeign):
		return hint.Wrap(err, "look at it, and move it away")
	case scope == systemd.System && errors.Is(err, fs.ErrPermission):
		return hint.Wrap(err, "the same with sudo, or without --system")
	}
	return err
}

// needSystemd refuses to write units that nobody will read.
func (a *app) needSystemd(instead string) error {
	if _, err := exec.LookPath("systemctl"); err != nil {
		return hint.Errorf(instead, "the host has no systemd: %w", err)
	}
	return nil
}

// daemonReload lets a service manager that runs read its units anew.
func (a *app) daemonReload(ctx context.Context, scope systemd.Scope) error {
	if !scope.Runs(a.getenv) {
		a.note("no service manager runs here now; it will read the units when it starts")
		return nil
	}
	return systemctl(ctx, scope, "daemon-reload")
}

func systemctl(ctx context.Context, scope systemd.Scope, args ...string) error {
	return hint.Wrap(scope.Control(ctx, args...), scope.Command()+" "+strings.Join(args, " "))
}
