package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/shellquote"
)

// shellInitFile holds what shells begin with: the variables of the configuration and
// then wire.Configure.ShellInit.
const shellInitFile = "/etc/mayfly/init.sh"

// rcFiles are read by shells, the last of each kind by its user's wish. What the
// configuration says comes after what they say, so that it holds.
var rcFiles = []string{".bashrc", ".zshrc", ".profile", ".bash_profile", ".bash_login", ".zprofile"}

// setUpShells makes the user's shells begin with the text of the configuration.
func (t tree) setUpShells(req *wire.Configure) error {
	if req.ShellInit == "" {
		return nil
	}
	var b strings.Builder
	b.WriteString("# Written by mayfly when the machine starts.\n")
	for _, kv := range req.Env {
		if key, value, ok := strings.Cut(kv, "="); ok {
			fmt.Fprintf(&b, "export %s=%s\n", key, shellquote.Quoted(value))
		}
	}
	b.WriteString(strings.TrimRight(req.ShellInit, "\n") + "\n")
	if err := t.writeFile(shellInitFile, []byte(b.String()), 0o644); err != nil {
		return err
	}
	home, err := t.resolve(req.User.Home + "/.")
	if err != nil {
		return err
	}
	line := "\n. " + shellInitFile + "\n"
	for _, name := range rcFiles {
		file := path.Join(home, name)
		old, err := t.readFile(file)
		if err != nil {
			return err
		}
		if old == nil && name != ".bashrc" && name != ".zshrc" && name != ".profile" {
			continue // one that is not there hides no other
		}
		if err := t.writeFile(file, append(old, line...), 0o644); err != nil {
			return err
		}
		if err := os.Chown(filepath.Join(t.upper, file), req.User.UID, req.User.GID); err != nil {
			return err
		}
	}
	return nil
}

// Limits of the program that tells what the shells' beginning exports.
const (
	shellInitTimeout = 10 * time.Second
	shellInitLimit   = 256 << 10
)

// unexported are variables of a shell's own.
var unexported = []string{"PWD", "OLDPWD", "SHLVL", "_"}

// readShellInit lets a shell begin and returns the environment that it has then, for
// commands that no shell starts.
func (a *agent) readShellInit(m *machine) ([]string, error) {
	if _, err := os.Stat(shellInitFile); errors.Is(err, fs.ErrNotExist) {
		return m.env, nil
	}
	shell := "/bin/bash"
	if _, err := os.Stat(shell); err != nil {
		shell = "/bin/sh"
	}
	r, w, err := os.Pipe()
	if err != nil {
		return m.env, err
	}
	defer r.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		w.Close()
		return m.env, err
	}
	defer null.Close()
	argv := []string{shell, "-c", ". " + shellInitFile + " 3>&- >/dev/null && exec env -0 >&3"}
	pid, status, err := a.reaper.start(func() (int, error) {
		return syscall.ForkExec(shell, argv, &syscall.ProcAttr{
			Dir: m.user.Home, Env: m.env,
			Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), w.Fd()},
			Sys:   &syscall.SysProcAttr{Setsid: true, Credential: m.credential},
		})
	})
	w.Close()
	if err != nil {
		return m.env, fmt.Errorf("begin a shell: %w", err)
	}
	r.SetReadDeadline(time.Now().Add(shellInitTimeout))
	out, err := io.ReadAll(io.LimitReader(r, shellInitLimit))
	syscall.Kill(-pid, syscall.SIGKILL) // what it has left in the background
	ws := <-status
	switch {
	case err != nil:
		return m.env, fmt.Errorf("it did not end within %v", shellInitTimeout)
	case ws.ExitStatus() != 0 || len(out) == 0:
		return m.env, fmt.Errorf("it failed (%d)", exitCode(ws))
	}
	return parseEnv(out), nil
}

// parseEnv reads what `env -0` prints.
func parseEnv(out []byte) []string {
	var env []string
	for kv := range bytes.SplitSeq(out, []byte{0}) {
		key, _, ok := strings.Cut(string(kv), "=")
		if ok && key != "" && !slices.Contains(unexported, key) {
			env = append(env, string(kv))
		}
	}
	return env
}
