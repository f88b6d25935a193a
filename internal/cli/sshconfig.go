package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/shellquote"
)

func (a *app) sshConfigCommand() *cobra.Command {
	var install, uninstall bool
	cmd := &cobra.Command{
		Use:   "ssh-config [--install | --uninstall]",
		Short: "Make ssh, and all that uses it, know machines as NAME.mayfly",
		Long: `Print the configuration with which ssh, and all that uses it, knows machines as
NAME.mayfly: scp, sftp, rsync, git, editors.

With --install it is written to a file of mayfly's own, and one line that
includes that file is put at the top of ~/.ssh/config. --uninstall takes that
line away again; everything else there stays as it is.`,
		Example: `  mayfly ssh-config --install
  scp -r results run-3f9a2c.mayfly:
  code --remote ssh-remote+run-3f9a2c.mayfly /home/me/project`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			switch {
			case install && uninstall:
				return usageError{errors.New("--install and --uninstall exclude each other")}
			case install:
				return a.installSSHConfig()
			case uninstall:
				return a.uninstallSSHConfig()
			}
			text, err := a.sshConfig()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.Out, text)
			return err
		},
	}
	cmd.Flags().BoolVar(&install, "install", false, "write it down, and include it from ~/.ssh/config")
	cmd.Flags().BoolVar(&uninstall, "uninstall", false, "take back what --install did")
	return cmd
}

// sshOption is a line of ssh_config(5).
type sshOption struct{ key, value string }

// sshOptions are the options with which ssh reaches machines. A machine may be in the
// hands of an attacker, who then is the server: it is offered nothing that it
// could use elsewhere, no password, no agent, no display.
func (a *app) sshOptions(user string) ([]sshOption, error) {
	files, err := a.sshFiles()
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	// The name can be anybody's, of a submodule's URL say, and before 9.6 ssh left it
	// to this line to quote it (CVE-2023-51385). sshConfig takes none with a quote.
	proxy := proxyQuote(exe) + " ssh-proxy -- '%h'"
	if dir := a.getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		// An editor that was not started from this shell has other variables.
		proxy = "env " + proxyQuote("XDG_STATE_HOME="+dir) + " " + proxy
	}
	if strings.ContainsAny(proxy, "\r\n") {
		return nil, fmt.Errorf("ssh cannot take a file name with a line break: %q", exe)
	}
	knownHosts, err := sshQuote(files.KnownHosts)
	if err != nil {
		return nil, err
	}
	identity, err := sshQuote(files.Identity)
	if err != nil {
		return nil, err
	}
	return []sshOption{
		{"User", user},
		{"ProxyCommand", proxy},
		// The key of every machine is known before the first connection.
		{"UserKnownHostsFile", knownHosts},
		{"StrictHostKeyChecking", "yes"},
		{"UpdateHostKeys", "no"}, // or a machine could add keys to the file
		{"CheckHostIP", "no"},
		{"IdentityFile", identity},
		{"IdentitiesOnly", "yes"}, // not all that an agent has, which may ask for each
		{"PreferredAuthentications", "publickey"},
		{"ForwardAgent", "no"},
		{"ForwardX11", "no"},
	}, nil
}

// sshFiles returns where the files of SSH are.
func (a *app) sshFiles() (mayfly.SSHFiles, error) {
	c, err := a.client()
	if err != nil {
		return mayfly.SSHFiles{}, err
	}
	return c.SSHFiles()
}

// sshConfig is the configuration as a file.
func (a *app) sshConfig() (string, error) {
	c, err := a.client()
	if err != nil {
		return "", err
	}
	options, err := a.sshOptions(c.UserName())
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by mayfly ssh-config.\nHost *%s \"!*'*\"\n", mayfly.SSHSuffix)
	for _, o := range options {
		fmt.Fprintf(&b, "    %s %s\n", o.key, o.value)
	}
	return b.String(), nil
}

// proxyQuote quotes s for the shell that ssh starts a ProxyCommand with, after ssh
// has replaced what begins with a percent sign.
func proxyQuote(s string) string {
	return strings.ReplaceAll(shellquote.Quoted(s), "%", "%%")
}

// sshQuote quotes a file name for ssh_config(5), which has no way to write some.
func sshQuote(name string) (string, error) {
	if strings.ContainsAny(name, "\"\\\r\n") || strings.Contains(name, "${") {
		return "", fmt.Errorf("ssh cannot take the file name %q", name)
	}
	return `"` + strings.ReplaceAll(name, "%", "%%") + `"`, nil
}

// maxSSHConfig bounds the user's file in bytes.
const maxSSHConfig = 1 << 20

func (a *app) installSSHConfig() error {
	text, err := a.sshConfig()
	if err != nil {
		return err
	}
	files, err := a.sshFiles()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(files.Config), 0o700); err != nil {
		return err
	}
	if err := atomicfile.Write(files.Config, []byte(text), 0o600); err != nil {
		return err
	}
	line, err := includeLine(files.Config)
	if err != nil {
		return err
	}
	return a.editSSHConfig(func(old []byte) []byte { return addInclude(old, line) })
}

func (a *app) uninstallSSHConfig() error {
	files, err := a.sshFiles()
	if err != nil {
		return err
	}
	line, err := includeLine(files.Config)
	if err != nil {
		return err
	}
	if err := a.editSSHConfig(func(old []byte) []byte { return dropLine(old, line) }); err != nil {
		return err
	}
	if err := os.Remove(files.Config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func includeLine(file string) (string, error) {
	// Include takes patterns, and what it makes of percent signs depends on its
	// version.
	if strings.ContainsAny(file, "*?[%") {
		return "", hint.Errorf("mayfly ssh-config prints what belongs into ~/.ssh/config", "ssh cannot include the file %q", file)
	}
	quoted, err := sshQuote(file)
	return "Include " + quoted, err
}

// editSSHConfig changes the user's ~/.ssh/config. A link stays one: what it leads to
// is changed.
func (a *app) editSSHConfig(edit func([]byte) []byte) error {
	home := a.getenv("HOME")
	if !filepath.IsAbs(home) {
		return fmt.Errorf("find ~/.ssh/config: HOME is %q", home)
	}
	name := filepath.Join(home, ".ssh/config")
	perm := fs.FileMode(0o600)
	real, err := filepath.EvalSymlinks(name)
	var old []byte
	switch {
	case err == nil:
		fi, err := os.Stat(real)
		if err != nil {
			return err
		}
		if !fi.Mode().IsRegular() || fi.Size() > maxSSHConfig {
			return hint.Errorf("mayfly ssh-config prints what belongs there", "%s is no file that mayfly would change", name)
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
			return hint.Errorf("mayfly ssh-config prints what belongs there", "%s belongs to somebody else", name)
		}
		perm = fi.Mode().Perm()
		if old, err = os.ReadFile(real); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(name); err == nil {
			return fmt.Errorf("%s is a link that leads nowhere", name)
		}
		if len(edit(nil)) == 0 {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		real = name
	default:
		return err
	}
	changed := edit(old)
	if bytes.Equal(changed, old) {
		return nil
	}
	return atomicfile.Write(real, changed, perm)
}

// addInclude puts line at the top of a file as ssh_config(5), if it does not stand
// before the first block already: within one it would hold for the block's hosts
// only.
func addInclude(file []byte, line string) []byte {
	for l := range bytes.Lines(file) {
		words := strings.FieldsFunc(string(l), func(r rune) bool { return strings.ContainsRune(" \t\r\n=", r) })
		if len(words) > 0 && (strings.EqualFold(words[0], "Host") || strings.EqualFold(words[0], "Match")) {
			break
		}
		if string(bytes.TrimSpace(l)) == line {
			return file
		}
	}
	return append([]byte(line+"\n"), file...)
}

// dropLine takes all lines away that are line.
func dropLine(file []byte, line string) []byte {
	var out []byte
	for l := range bytes.Lines(file) {
		if string(bytes.TrimSpace(l)) != line {
			out = append(out, l...)
		}
	}
	return out
}
