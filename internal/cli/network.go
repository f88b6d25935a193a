package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
)

// reportNetwork says what the machine was refused, and writes what it reached to the
// file learn if that is not empty.
func (a *app) reportNetwork(m started, learn string) error {
	if m.Plan().Network.Mode != "user" {
		return nil
	}
	st, err := a.client.ChangeNetwork(m.Name(), mayfly.NetworkChange{})
	if err != nil {
		a.debug("%v", err)
	}
	if n := words.DeniedCount(st); n > 0 {
		a.note("%s denied: %s; mayfly audit %s", words.Connections(n), words.Denied(st), m.Name())
	}
	if text := words.Unattended(st); text != "" {
		a.note("denied %s; mayfly policy %s allow HOST", text, m.Name())
	}
	if text := words.Needless(st); text != "" {
		a.debug("denied, and not needed by the coding agent: %s", text)
	}
	if learn == "" {
		return nil
	}
	return a.learn(m, learn)
}

// checkLearn finds out before a long run whether its list can be written.
func checkLearn(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return usageError{hint.Errorf("rm "+path+", or another name", "--learn: %s exists already", path)}
	}
	return checkOutput("--learn", path)
}

// checkOutput finds out whether there is a directory for a file that the user wants
// written: mayfly makes none that was mistyped.
func checkOutput(flag, path string) error {
	if fi, err := os.Stat(filepath.Dir(path)); err != nil || !fi.IsDir() {
		return usageError{fmt.Errorf("%s: there is no directory %s", flag, filepath.Dir(path))}
	}
	return nil
}

// learn writes the hosts that the machine m reached as a configuration.
func (a *app) learn(m started, path string) error {
	all, err := m.Reached()
	if err != nil {
		return err
	}
	if err := atomicfile.WriteNew(path, []byte(words.Learned(m.Name(), path, all)), 0o644); err != nil {
		return fmt.Errorf("write what the machine reached: %w", err)
	}
	a.note("what the machine reached is in %s", path)
	return nil
}
