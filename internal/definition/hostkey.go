package definition

import (
	"fmt"
	"os"

	"github.com/mayfly-vm/mayfly/internal/sshkey"
)

// HostKey returns the private key of the machine's SSH server, in OpenSSH's format. It is
// made when there is none, and stays as long as the definition.
func (d Definition) HostKey() ([]byte, error) {
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the SSH host key of %s: %w", d.Name, err)
	}
	path := d.File(HostKeyFile)
	if _, err := sshkey.Ensure(path, d.Name); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}
