package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/sshconfig"
)

func (a *app) sshConfigCommand() *cobra.Command {
	var install, uninstall bool
	cmd := &cobra.Command{
		Use:   "ssh-config [--install | --uninstall]",
		Short: "Let ssh, scp, git and editors reach machines as NAME.mayfly",
		Long: `Print the configuration with which ssh, scp, sftp, rsync, git and editors reach
machines as NAME.mayfly.

--install writes it to a file of mayfly's own and adds one line at the top of
~/.ssh/config, which includes that file. --uninstall removes the line and leaves
the rest as it is.`,
		Example: `  mayfly ssh-config --install
  scp -r results run-3f9a2c.mayfly:
  code --remote ssh-remote+run-3f9a2c.mayfly /home/me/project`,
		Args: takes(0, 0),
		RunE: func(*cobra.Command, []string) error {
			switch {
			case install && uninstall:
				return usageError{errors.New("--install and --uninstall exclude each other")}
			case install:
				return a.installSSHConfig()
			case uninstall:
				return a.uninstallSSHConfig()
			}
			text, _, err := a.sshConfig()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.Out, text)
			return err
		},
	}
	cmd.Flags().BoolVar(&install, "install", false, "write it to a file, and include that from ~/.ssh/config")
	cmd.Flags().BoolVar(&uninstall, "uninstall", false, "undo --install")
	return cmd
}

// sshOptions are the options with which ssh reaches machines as user.
func (a *app) sshOptions(files mayfly.SSHFiles, user string) ([]sshconfig.Option, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return sshconfig.Machines{
		User: user, Program: exe, StateDir: a.getenv("XDG_STATE_HOME"),
		Identity: files.Identity, KnownHosts: files.KnownHosts,
	}.Options()
}

// sshConfig is the configuration as a file, and where the files of SSH are.
func (a *app) sshConfig() (string, mayfly.SSHFiles, error) {
	files, err := a.client.SSHFiles()
	if err != nil {
		return "", files, err
	}
	options, err := a.sshOptions(files, a.client.UserName())
	return sshconfig.Text(mayfly.SSHSuffix, options), files, err
}

func (a *app) installSSHConfig() error {
	text, files, err := a.sshConfig()
	if err != nil {
		return err
	}
	return sshconfig.Install(a.getenv("HOME"), files.Config, text)
}

func (a *app) uninstallSSHConfig() error {
	files, err := a.client.SSHFiles()
	if err != nil {
		return err
	}
	return sshconfig.Uninstall(a.getenv("HOME"), files.Config)
}
