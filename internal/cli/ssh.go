package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/terminal"
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
	a.rawFlag(cmd.Flags())
	return cmd
}

// ssh becomes the ssh program, or runs it where its output reaches a terminal.
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
	if !a.raw && terminal.Is(a.Out) {
		return a.guardedSSH(program, argv, m)
	}
	return fmt.Errorf("start %s: %w", program, syscall.Exec(program, argv, os.Environ()))
}

// guardedSSH runs the ssh program, whose output comes to our terminal through a guard. Its
// input is the terminal itself, which it makes raw.
func (a *app) guardedSSH(program string, argv []string, m described) error {
	r, w, err := os.Pipe()
	if err != nil {
		return runError{err, exitMayfly}
	}
	defer r.Close()
	child, err := os.StartProcess(program, argv, &os.ProcAttr{Files: []*os.File{a.In, w, a.Err}})
	w.Close()
	if err != nil {
		return runError{fmt.Errorf("start %s: %w", program, err), exitMayfly}
	}
	// What comes from the keyboard has reached ssh, too; the end of ssh is ours.
	numbers, end := a.signals.Forward(func(error) { child.Kill() }, func() bool { return false })
	defer end()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case n := <-numbers:
				if sig := syscall.Signal(n); sig == syscall.SIGTERM || sig == syscall.SIGHUP {
					child.Signal(sig)
				}
			case <-ended:
				return
			}
		}
	}()
	guard := terminal.NewGuard(a.Out, m.Name(), m.Plan().Workspace)
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		io.Copy(guard, r)
	}()
	status, err := terminal.WaitJob(child.Pid)
	if err != nil {
		return runError{err, exitMayfly}
	}
	// One that goes on in the background, ssh -f, has its output dropped.
	select {
	case <-copied:
	case <-time.After(sshLastOutput):
		r.Close()
		<-copied
	}
	guard.Restore()
	if _, _, restore, err := terminal.Raw[mayfly.Size](a.In); err == nil {
		guard.Drain(a.In)
		restore()
	}
	a.noteClipboard(guard, m)
	if status.Signaled() {
		return exitCode(128 + int(status.Signal()))
	}
	return exitCode(status.ExitStatus())
}

// sshLastOutput is how long the rest of the output of an ssh that has ended may take.
const sshLastOutput = time.Second

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
