package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/network"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/bridge"
	"github.com/mayfly-vm/mayfly/internal/network/intercept"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/network/vnet"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// maxSecrets bounds the values of a machine's secrets together, in bytes.
const maxSecrets = 1 << 20

// readSecrets reads the values from the pipe of the machine's owner, and makes the
// stand-ins that the guest gets in their place.
func readSecrets(pipe *os.File, planned []plan.Secret) ([]secret.Secret, error) {
	defer pipe.Close()
	var values map[string]string
	if err := json.NewDecoder(io.LimitReader(pipe, maxSecrets)).Decode(&values); err != nil {
		return nil, errors.New("read the secrets: their owner is gone")
	}
	var all []secret.Secret
	for _, p := range planned {
		value, ok := values[p.Name]
		if !ok {
			return nil, fmt.Errorf("read the secrets: there is no value of %s", p.Name)
		}
		v := secret.NewValue(value)
		all = append(all, secret.Secret{
			Name: p.Name, Value: v, Placeholder: secret.Placeholder(v), Hosts: p.Hosts, AllowForeign: p.AllowForeign,
		})
	}
	return all, nil
}

// makeNetwork makes what will be behind the machine's network card.
func (s *supervisor) makeNetwork() (err error) {
	path := s.machine.AuditFile()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the directory of audit logs: %w", err)
	}
	if s.audit, err = audit.Open(path, s.machine.Name); err != nil {
		return err
	}
	if s.plan.Network.Mode == plan.NetworkBridge {
		if err := s.openTap(); err != nil {
			return err
		}
	}
	s.network, err = network.New(network.Config{
		Plan: s.plan.Network, Secrets: s.secrets, Audit: s.audit, Log: s.log,
	})
	return err
}

// openTap opens a port of the host's bridge.
func (s *supervisor) openTap() (err error) {
	if s.bridge, err = bridge.Current(bridge.Default()); err != nil {
		return err
	}
	address, err := netip.ParsePrefix(s.plan.Network.Address)
	if err != nil {
		return err
	}
	if own := s.bridge.Address; address.Masked() != own.Masked() || address.Addr() == own.Addr() {
		return hint.Errorf("network.address in "+own.Masked().String(), "%v is no address for a machine on the bridge %s, which has %v", address, s.bridge.Name, own)
	}
	s.tap, err = bridge.OpenTap(s.bridge, s.machine.Name)
	return err
}

// endNetwork ends what is behind the network card, after the VMM.
func (s *supervisor) endNetwork() {
	if s.network != nil {
		s.network.Close()
	}
	if s.tap != nil {
		s.tap.Close()
	}
	if s.audit != nil {
		if err := s.audit.Close(); err != nil {
			s.log.Error("close the audit log", "err", err)
		}
	}
}

// startMachine starts the VMM of a machine, with its network.
func (s *supervisor) startMachine(ctx context.Context, spec machine.Spec) error {
	if err := s.startVMM(ctx, spec); err != nil {
		return err
	}
	if spec.Card == nil || spec.Card.Tap {
		return nil
	}
	card, err := s.vmm.Dial(ctx, machine.NetworkCard)
	if err != nil {
		return err
	}
	s.network.Attach(card)
	return nil
}

// publish opens the machine's ports, once there is a guest to connect to.
func (s *supervisor) publish() error {
	session := s.session
	return s.network.Publish(func(ctx context.Context, port int) (net.Conn, error) {
		stream, err := session.Open()
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { stream.Close() })
		defer stop()
		stream.SetDeadline(time.Now().Add(connectTimeout))
		if err := client.Connect(stream, port); err != nil {
			stream.Close()
			return nil, err
		}
		stream.SetDeadline(time.Time{})
		return halfStream{stream}, nil
	})
}

// connectTimeout bounds the time in which the guest has to connect to a port.
const connectTimeout = 15 * time.Second

// halfStream is a stream to the guest as a connection: the multiplexer's Close ends
// one direction only.
type halfStream struct{ net.Conn }

func (h halfStream) CloseWrite() error { return h.Conn.Close() }

// setUp returns how the guest is to set up its network card; nil for none.
func (s *supervisor) setUp() *wire.Network {
	switch n := s.plan.Network; n.Mode {
	case plan.NetworkUser:
		set := userNetwork()
		set.Authority, set.AuthorityHash = s.network.Authority(), intercept.SubjectHash
		return set
	case plan.NetworkBridge:
		return &wire.Network{
			Address: n.Address, MAC: n.MAC,
			Gateway: s.bridge.Address.Addr().String(), DNS: bridge.Resolver(),
		}
	}
	return nil
}

// userNetwork is what all machines of user mode have in common.
func userNetwork() *wire.Network {
	return &wire.Network{
		Address: netip.PrefixFrom(vnet.Guest, vnet.PrefixBits).String(),
		Gateway: vnet.Gateway.String(), DNS: vnet.Gateway.String(),
	}
}

// networkEnv returns the variables of a machine that its network brings: the
// stand-ins of secrets, and where the programs that do not look where all others do
// find what they are to trust.
func networkEnv(n *wire.Network, secrets []secret.Secret) []string {
	var env []string
	if n != nil && len(n.Authority) > 0 {
		env = append(env,
			"SSL_CERT_FILE="+wire.TrustedFile,         // OpenSSL, Go, Python, Ruby, rustls
			"REQUESTS_CA_BUNDLE="+wire.TrustedFile,    // Python's requests, which has its own
			"PIP_CERT="+wire.TrustedFile,              // so has pip
			"UV_NATIVE_TLS=1",                         // and uv
			"CARGO_HTTP_CAINFO="+wire.TrustedFile,     // and cargo
			"AWS_CA_BUNDLE="+wire.TrustedFile,         // and the AWS tools
			"NODE_EXTRA_CA_CERTS="+wire.AuthorityFile, // Node and Bun, beside their own
			"DENO_TLS_CA_STORE=system,mozilla",
		)
	}
	for _, s := range secrets {
		env = append(env, s.Name+"="+s.Placeholder)
	}
	return env
}
