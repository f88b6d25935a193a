package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/filelock"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/sshkey"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// sshSuffix makes a machine's name one that ssh, and what is built on it, tells from
// other hosts.
const sshSuffix = ".mayfly"

func (a *app) sshCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ssh NAME [SSH-OPTION…] [-- COMMAND [ARGUMENT…]]",
		Short: "Log in to a running machine by SSH",
		Long: `Log in to a running machine by the ssh program of this computer. The machine
needs no network for it. Options of ssh's own come after the name; see ssh(1).
As always with ssh, a shell in the machine takes the command apart once more.

mayfly ssh-config makes ssh, scp, sftp, rsync, git and editors know machines,
as NAME.mayfly.`,
		Example: `  mayfly ssh run-3f9a2c
  mayfly ssh run-3f9a2c -- make test
  mayfly ssh run-3f9a2c -N -L 8080:localhost:80`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ssh(cmd.Context(), args[0], args[1:])
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// ssh becomes the ssh program.
func (a *app) ssh(ctx context.Context, name string, args []string) error {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return runError{hint.Errorf("mayfly shell "+name+", or install openssh-client", "there is no ssh program"), exitMayfly}
	}
	name = strings.TrimSuffix(name, sshSuffix)
	m, p, err := a.running(ctx, name)
	if err != nil {
		return err
	}
	if !m.Alive() {
		return runError{hint.Errorf("mayfly ls", "reach machine %s: it does not run", name), exitMayfly}
	}
	options, err := a.sshOptions(p.Guest.User.Name)
	if err != nil {
		return err
	}
	argv := []string{"ssh"}
	for _, o := range options {
		argv = append(argv, "-o", o.key+"="+o.value)
	}
	// Whatever the user's own configuration makes of the name.
	argv = append(argv, "-o", "HostKeyAlias="+name+sshSuffix, name+sshSuffix)
	argv = append(argv, args...)
	a.debug("%s", strings.Join(argv, " "))
	return fmt.Errorf("start %s: %w", program, syscall.Exec(program, argv, os.Environ()))
}

// sshProxyCommand is what ssh runs in the place of a connection of its own.
func (a *app) sshProxyCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "ssh-proxy NAME",
		Hidden: true,
		Args:   usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.sshProxy(cmd.Context(), strings.TrimSuffix(args[0], sshSuffix))
		},
	}
}

// sshProxy joins our standard streams with a machine's SSH server.
func (a *app) sshProxy(ctx context.Context, name string) error {
	machines, err := a.machines()
	if err != nil {
		return err
	}
	m, _, err := a.running(ctx, name)
	if err != nil {
		return err
	}
	stream, err := control.OpenGuest(m)
	if err != nil {
		return err
	}
	defer stream.Close()
	// ssh looks at the file when it has heard of the server, which it does through
	// us.
	if err := a.writeKnownHosts(ctx, machines); err != nil {
		return err
	}
	var terminfo *wire.Terminfo
	if term := a.getenv("TERM"); term != "" {
		if data := findTerminfo(term, a.getenv("HOME")); data != nil {
			terminfo = &wire.Terminfo{Name: term, Data: data}
		}
	}
	if err := client.SSH(stream, terminfo); err != nil {
		return err
	}
	go func() {
		// It may outlive us, blocked in a read.
		io.Copy(stream, a.In)
		stream.Close()
	}()
	_, err = io.Copy(a.Out, stream)
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.EPIPE) { // ssh is gone
		return fmt.Errorf("copy from the machine: %w", err)
	}
	return nil
}

// sshFiles are the files of SSH that are not a machine's.
type sshFiles struct {
	identity   string // mayfly's own private key for its user
	config     string // ssh_config(5)
	knownHosts string // the host keys of all machines
	lock       string // held by who writes knownHosts
}

func (a *app) sshFiles() (sshFiles, error) {
	dirs, err := a.dirs()
	if err != nil {
		return sshFiles{}, err
	}
	dir := filepath.Join(dirs.State, "ssh")
	return sshFiles{
		identity:   filepath.Join(dirs.Data, "ssh/id_ed25519"),
		config:     filepath.Join(dir, "config"),
		knownHosts: filepath.Join(dir, "known_hosts"),
		lock:       filepath.Join(dir, "lock"),
	}, nil
}

// authorizeKeys writes down who may log in to a new machine: the holders of the
// user's own keys, and of one that mayfly makes for them.
func (a *app) authorizeKeys(m state.Machine) error {
	files, err := a.sshFiles()
	if err != nil {
		return err
	}
	own, err := sshkey.Ensure(files.identity, "mayfly")
	if err != nil {
		return err
	}
	keys := append([]sshkey.Public{own}, sshkey.UserKeys(a.getenv("HOME"))...)
	return os.WriteFile(m.File(state.AuthorizedKeysFile), sshkey.AuthorizedKeys(keys...), 0o600)
}

// writeKnownHosts makes the file of known hosts that of the machines that there are.
// They take turns, so that nobody writes what he saw before another.
func (a *app) writeKnownHosts(ctx context.Context, machines state.Store) error {
	files, err := a.sshFiles()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(files.lock), 0o700); err != nil {
		return fmt.Errorf("write the known hosts: %w", err)
	}
	release, err := filelock.Acquire(ctx, files.lock, nil)
	if err != nil {
		return err
	}
	defer release()
	all, err := machines.List()
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, m := range all {
		line, err := os.ReadFile(m.File(state.HostKeyFile))
		if err != nil {
			continue // it is not that far, or gone
		}
		if key, err := sshkey.Parse(line); err == nil {
			b.WriteString(key.KnownHost(m.Name + sshSuffix))
		}
	}
	if old, err := os.ReadFile(files.knownHosts); err == nil && string(old) == b.String() {
		return nil
	}
	return atomicfile.Write(files.knownHosts, []byte(b.String()), 0o600)
}
