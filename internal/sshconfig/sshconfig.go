// Package sshconfig writes ssh_config(5): the options with which ssh reaches machines,
// and the line that includes them from the user's ~/.ssh/config.
package sshconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/shellquote"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// Option is a line of ssh_config(5).
type Option struct{ Key, Value string }

// Machines are what the options are made of.
type Machines struct {
	User       string // who the user is in machines
	Program    string // mayfly
	StateDir   string // XDG_STATE_HOME, if it is set
	Identity   string // the private key
	KnownHosts string
}

// Options are the options with which ssh reaches machines. A machine may be in the
// hands of an attacker, who then is the server: it is offered nothing that it
// could use elsewhere, no password, no agent, no display.
func (m Machines) Options() ([]Option, error) {
	// The name can be anybody's, of a submodule's URL say, and before 9.6 ssh left it
	// to this line to quote it (CVE-2023-51385). Text takes none with a quote.
	proxy := shellWord(m.Program) + " ssh-proxy -- '%h'"
	if filepath.IsAbs(m.StateDir) {
		// An editor that was not started from this shell has other variables.
		proxy = "env " + shellWord("XDG_STATE_HOME="+m.StateDir) + " " + proxy
	}
	if strings.ContainsAny(proxy, "\r\n") {
		return nil, fmt.Errorf("ssh cannot take a file name with a line break: %q", m.Program)
	}
	knownHosts, err := quote(m.KnownHosts)
	if err != nil {
		return nil, err
	}
	identity, err := quote(m.Identity)
	if err != nil {
		return nil, err
	}
	return []Option{
		{"User", m.User},
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

// Text returns options as a file that holds for all hosts whose names end in suffix.
func Text(suffix string, options []Option) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by mayfly ssh-config.\nHost *%s \"!*'*\"\n", suffix)
	for _, o := range options {
		fmt.Fprintf(&b, "    %s %s\n", o.Key, o.Value)
	}
	return b.String()
}

// shellWord quotes s for the shell that ssh starts a ProxyCommand with, after ssh
// has replaced what begins with a percent sign.
func shellWord(s string) string {
	return strings.ReplaceAll(shellquote.Quoted(s), "%", "%%")
}

// quote quotes a file name for ssh_config(5), which has no way to write some.
func quote(name string) (string, error) {
	if strings.ContainsAny(name, "\"\\\r\n") || strings.Contains(name, "${") {
		return "", fmt.Errorf("ssh cannot take the file name %q", name)
	}
	return `"` + strings.ReplaceAll(name, "%", "%%") + `"`, nil
}

// maxFile bounds the user's file in bytes.
const maxFile = 1 << 20

// Install writes text to file, and includes it at the top of the ~/.ssh/config of the
// user whose home directory is home.
func Install(home, file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := atomicfile.Write(file, []byte(text), 0o600); err != nil {
		return err
	}
	line, err := includeLine(file)
	if err != nil {
		return err
	}
	return edit(home, func(old []byte) []byte { return addInclude(old, line) })
}

// Installed reports whether Install has done its work, and nobody has taken it back.
func Installed(home, file string) (bool, error) {
	line, err := includeLine(file)
	if err != nil {
		return false, err
	}
	if _, err := os.Stat(file); err != nil {
		return false, nil
	}
	data, err := userfile.Read(filepath.Join(home, ".ssh/config"), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && len(addInclude(data, line)) == len(data), err
}

// Uninstall takes back what Install did.
func Uninstall(home, file string) error {
	line, err := includeLine(file)
	if err != nil {
		return err
	}
	if err := edit(home, func(old []byte) []byte { return dropLine(old, line) }); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func includeLine(file string) (string, error) {
	// Include takes patterns, and what it makes of percent signs depends on its
	// version.
	if strings.ContainsAny(file, "*?[%") {
		return "", fault.New(fault.SSHConfigUnfit, fault.Args{"file": file}, "ssh cannot include the file %q", file)
	}
	quoted, err := quote(file)
	return "Include " + quoted, err
}

// edit changes the user's ~/.ssh/config. A link stays one: what it leads to is changed.
func edit(home string, change func([]byte) []byte) error {
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
		if !fi.Mode().IsRegular() || fi.Size() > maxFile {
			return fault.New(fault.SSHConfigUnfit, fault.Args{"file": name}, "%s is no file that mayfly would change", name)
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
			return fault.New(fault.SSHConfigUnfit, fault.Args{"file": name}, "%s belongs to somebody else", name)
		}
		perm = fi.Mode().Perm()
		if old, err = os.ReadFile(real); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(name); err == nil {
			return fmt.Errorf("%s is a link that leads nowhere", name)
		}
		if len(change(nil)) == 0 {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		real = name
	default:
		return err
	}
	changed := change(old)
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
