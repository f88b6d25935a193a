package agent

import (
	"errors"
	"net"

	"github.com/mayfly-vm/mayfly/internal/guest/incoming"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// sync puts what the host sends into the workspace, as the guest's user.
func (a *agent) sync(stream net.Conn, req *wire.Sync) {
	m, err := a.configured()
	if err == nil && m.workspace == nil {
		err = errors.New("the machine has no workspace")
	}
	if err == nil {
		err = asUser(m.credential, func() error { return incoming.Take(stream, req) })
	}
	if err != nil {
		wire.WriteMessage(stream, wire.SyncAnswer{Result: wire.SyncFailed, Error: err.Error()})
	}
}
