package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/filelock"
	"github.com/mayfly-vm/mayfly/internal/sshkey"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// SSHSuffix makes a machine's name one that ssh, and what is built on it, tells from
// other hosts.
const SSHSuffix = ".mayfly"

// SSHFiles are the files of SSH that are not a machine's.
type SSHFiles struct {
	Identity   string // mayfly's own private key for its user
	Config     string // ssh_config(5)
	KnownHosts string // the host keys of all machines
	lock       string // held by who writes KnownHosts
}

// SSH returns where the files of SSH are.
func (e *Engine) SSH() SSHFiles {
	dir := filepath.Join(e.dirs.State, "ssh")
	return SSHFiles{
		Identity:   filepath.Join(e.dirs.Data, "ssh/id_ed25519"),
		Config:     filepath.Join(dir, "config"),
		KnownHosts: filepath.Join(dir, "known_hosts"),
		lock:       filepath.Join(dir, "lock"),
	}
}

// EnsureIdentity makes the private key of mayfly's own unless it is there.
func (e *Engine) EnsureIdentity() error {
	_, err := sshkey.Ensure(e.SSH().Identity, "mayfly")
	return err
}

// writeKnownHosts makes the file of known hosts that of the machines that there are.
// They take turns, so that nobody writes what he saw before another.
func (e *Engine) writeKnownHosts(ctx context.Context) error {
	files := e.SSH()
	if err := os.MkdirAll(filepath.Dir(files.lock), 0o700); err != nil {
		return fmt.Errorf("write the known hosts: %w", err)
	}
	release, err := filelock.Acquire(ctx, files.lock, nil)
	if err != nil {
		return err
	}
	defer release()
	machines := e.machines()
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
			b.WriteString(key.KnownHost(m.Name + SSHSuffix))
		}
	}
	if old, err := os.ReadFile(files.KnownHosts); err == nil && string(old) == b.String() {
		return nil
	}
	return atomicfile.Write(files.KnownHosts, []byte(b.String()), 0o600)
}
