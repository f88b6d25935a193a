package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
)

func (a *app) sshCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ssh NAME [SSH-OPTION…] [-- COMMAND [ARGUMENT…]]",
		Short: "Log in to a running machine by SSH",
		Long: `Log in to a running machine with the host's ssh program. The machine needs no
network for it. Put options of ssh after the name; see ssh(1). As always with
ssh, a shell in the machine parses the command again.

mayfly ssh-config lets ssh, scp, sftp, rsync, git and editors reach machines as
NAME.mayfly.`,
		Example: `  mayfly ssh run-3f9a2c
  mayfly ssh run-3f9a2c -- make test
  mayfly ssh run-3f9a2c -N -L 8080:localhost:80`,
		Args:              takes(1, anyNumber),
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
		return runError{hint.Errorf("mayfly shell "+name+", or install openssh-client", "the host has no ssh program"), exitMayfly}
	}
	name = strings.TrimSuffix(name, mayfly.SSHSuffix)
	m, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	if !m.Alive() {
		return runError{hint.Errorf("mayfly ls", "reach machine %s: it does not run", name), exitMayfly}
	}
	files, err := a.client.SSHFiles()
	if err != nil {
		return err
	}
	options, err := a.sshOptions(files, m.Plan().User.Name)
	if err != nil {
		return err
	}
	argv := []string{"ssh"}
	for _, o := range options {
		argv = append(argv, "-o", o.Key+"="+o.Value)
	}
	// Whatever the user's own configuration makes of the name.
	argv = append(argv, "-o", "HostKeyAlias="+name+mayfly.SSHSuffix, name+mayfly.SSHSuffix)
	argv = append(argv, args...)
	a.debug("%s", strings.Join(argv, " "))
	return fmt.Errorf("start %s: %w", program, syscall.Exec(program, argv, os.Environ()))
}

// sshProxyCommand is what ssh runs in the place of a connection of its own.
func (a *app) sshProxyCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "ssh-proxy NAME",
		Hidden: true,
		Args:   takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.sshProxy(cmd.Context(), strings.TrimSuffix(args[0], mayfly.SSHSuffix))
		},
	}
}

// sshProxy joins our standard streams with a machine's SSH server.
func (a *app) sshProxy(ctx context.Context, name string) error {
	m, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	return m.SSH(ctx, a.terminal(), a.In, a.Out)
}
