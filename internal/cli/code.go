package cli

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/sshconfig"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// desktopEditor is an editor of the host that works on another computer by SSH.
type desktopEditor struct {
	name     string
	programs []string // the names that it may have in PATH
	// args opens an absolute path on a host.
	args func(host, path string) []string
}

// desktopEditors returns the editors that mayfly code knows, in the order in which it looks
// for them.
func desktopEditors() []desktopEditor {
	remote := func(host, path string) []string { return []string{"--remote", "ssh-remote+" + host, path} }
	return []desktopEditor{
		{"code", []string{"code"}, remote},
		{"cursor", []string{"cursor"}, remote},
		{"windsurf", []string{"windsurf"}, remote},
		// Some distributions have another zed.
		{"zed", []string{"zeditor", "zed"}, func(host, path string) []string {
			return []string{(&url.URL{Scheme: "ssh", Host: host, Path: path}).String()}
		}},
	}
}

func editorNames() string {
	var names []string
	for _, e := range desktopEditors() {
		names = append(names, e.name)
	}
	return strings.Join(names, ", ")
}

func (a *app) codeCommand() *cobra.Command {
	var editor string
	cmd := &cobra.Command{
		Use:   "code NAME",
		Short: "Open a machine's workspace in a desktop editor, by SSH",
		Long: `Open a machine's workspace in an editor of your desktop, which works in the
machine by SSH. A machine that is defined is started if it does not run.

The editor installs a server in the machine, and trusts what that server says:
a hostile machine may mislead an editor that is attached to it. mayfly diff and
mayfly apply have you judge changes outside of it.

The editor needs the configuration of mayfly ssh-config --install; mayfly asks
before it adds that. With an allow list, --preset vscode lets the machine fetch
the server and extensions of VS Code.`,
		Example: `  mayfly code dcs
  mayfly code dcs --editor zed`,
		Args:              takes(1, 1),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.code(cmd.Context(), strings.TrimSuffix(args[0], mayfly.SSHSuffix), editor)
		},
	}
	cmd.Flags().StringVar(&editor, "editor", "", "use this `editor`: "+editorNames()+" (default: the first in PATH)")
	return cmd
}

// code opens the workspace of the machine name in an editor.
func (a *app) code(ctx context.Context, name, editor string) error {
	e, program, err := findEditor(editor, exec.LookPath)
	if err != nil {
		return err
	}
	if _, _, err := a.client.File(name); err != nil { // it cannot be started
		m, err := a.machine(ctx, name)
		if err != nil {
			return err
		}
		if !m.Alive() {
			return hint.Errorf("mayfly ls", "reach machine %s: it does not run", name)
		}
	}
	if err := a.ensureSSHConfig(); err != nil {
		return err
	}
	if _, _, err := a.client.File(name); err == nil {
		if err := a.startDefined(ctx, name, startOptions{}); err != nil {
			return err
		}
	}
	m, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	path := m.Plan().Workspace
	if path == "" {
		path = m.Plan().User.Home
	}
	args := e.args(name+mayfly.SSHSuffix, path)
	a.debug("%s %s", program, strings.Join(args, " "))
	a.note("%s trusts what %s tells it: review with mayfly diff %s, outside of the editor", e.name, name, name)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = a.Err, a.Err
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	return nil
}

// findEditor returns the editor of that name, or the first that there is, and its program.
func findEditor(name string, lookPath func(string) (string, error)) (desktopEditor, string, error) {
	known := false
	for _, e := range desktopEditors() {
		if name != "" && e.name != name {
			continue
		}
		known = true
		for _, p := range e.programs {
			if path, err := lookPath(p); err == nil {
				return e, path, nil
			}
		}
	}
	switch {
	case !known:
		return desktopEditor{}, "", usageError{fmt.Errorf("--editor %q: it is one of %s", name, editorNames())}
	case name != "":
		return desktopEditor{}, "", hint.Errorf("mayfly code NAME, for an editor that is in PATH", "there is no %s in PATH", name)
	}
	return desktopEditor{}, "", hint.Errorf("mayfly ssh-config --install, and have your editor connect to NAME"+mayfly.SSHSuffix,
		"there is no editor in PATH that mayfly knows: %s", editorNames())
}

// ensureSSHConfig sees to it that programs of the host know machines by their names for SSH.
func (a *app) ensureSSHConfig() error {
	files, err := a.client.SSHFiles()
	if err != nil {
		return err
	}
	has, err := sshconfig.Installed(a.getenv("HOME"), files.Config)
	if has || err != nil {
		return err
	}
	missing := hint.Errorf("mayfly ssh-config --install", "ssh does not know machines as NAME%s yet", mayfly.SSHSuffix)
	if !terminal.Is(a.In) || !terminal.Is(a.Err) {
		return missing
	}
	answer, err := a.ask("add one line to ~/.ssh/config, by which ssh and editors know machines as NAME"+mayfly.SSHSuffix+"?", []string{"yes", "no"})
	switch {
	case err != nil:
		return err
	case answer != "yes":
		return missing
	}
	return a.installSSHConfig()
}
