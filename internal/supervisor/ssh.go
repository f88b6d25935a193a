package supervisor

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/sshkey"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// maxAuthorizedKeys bounds the file of them in bytes; sshkey finds no more. In base64
// it fits into a message.
const maxAuthorizedKeys = 512 << 10

// newSSH describes the SSH server of m, nil when nobody may log in. The public part
// of its host key goes into m's directory: who connects knows from there whom to
// expect.
func newSSH(m state.Machine, p plan.Plan) (*wire.SSH, error) {
	keys, err := readSmall(m.File(state.AuthorizedKeysFile), maxAuthorizedKeys)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read who may log in by SSH: %w", err)
	}
	if len(keys) == maxAuthorizedKeys {
		return nil, fmt.Errorf("%s is too large", state.AuthorizedKeysFile)
	}
	private, err := hostKey(p)
	if err != nil {
		return nil, err
	}
	public, err := sshkey.PublicOf(private)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.WriteUnsynced(m.File(state.HostKeyFile), public.Line(), 0o600); err != nil {
		return nil, fmt.Errorf("write the SSH host key: %w", err)
	}
	return &wire.SSH{
		HostKey:        private,
		AuthorizedKeys: keys,
		Listen:         p.Network.Mode == plan.NetworkBridge,
		Dir:            p.Dir(),
	}, nil
}

// hostKey returns the private host key of the machine of p: that of its definition, or
// one that nobody will see again.
func hostKey(p plan.Plan) ([]byte, error) {
	if d, ok := definition.Of(p); ok {
		return d.HostKey()
	}
	return sshkey.Generate(p.Name)
}
