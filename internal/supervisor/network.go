package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/mayfly-vm/mayfly/internal/budget"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/network"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/bridge"
	"github.com/mayfly-vm/mayfly/internal/network/intercept"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/network/vnet"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// maxSecrets bounds the values of a machine's secrets together, in bytes.
const maxSecrets = 1 << 20

// readGiven reads what the machine's owner gives by the pipe.
func readGiven(pipe *os.File) (control.Given, error) {
	defer pipe.Close()
	var given control.Given
	if err := json.NewDecoder(io.LimitReader(pipe, maxSecrets)).Decode(&given); err != nil {
		return given, errors.New("read the secrets: their owner is gone")
	}
	return given, nil
}

// makeSecrets makes the placeholders that the guest gets in the place of values. had are those that the machine had
// before, by the names of secrets and the newest first; it is changed to what it has now.
func makeSecrets(values map[string]string, planned []plan.Secret, had map[string][]string) ([]secret.Secret, error) {
	var all []secret.Secret
	for _, p := range planned {
		value, ok := values[p.Name]
		if !ok {
			return nil, fmt.Errorf("read the secrets: there is no value of %s", p.Name)
		}
		s := secret.Secret{
			Name: p.Name, Value: secret.NewValue(value), Hosts: p.Hosts, Places: p.Places,
			AllowForeign: p.AllowForeign, Pass: p.Pass, Withheld: p.Withheld,
		}
		s.Placeholder, s.Earlier = secret.Renew(s.Value, had[p.Name])
		had[p.Name] = s.Placeholders()
		all = append(all, s)
	}
	return all, nil
}

// guestNetwork is what is behind a machine's network card, with the record of it.
type guestNetwork struct {
	*network.Network
	plan    plan.Network
	audit   *audit.Log
	log     *slog.Logger
	secrets []secret.Secret
	bridge  bridge.Config // of a machine on the host's bridge, as its tap
	tap     *os.File      // nil in the other modes
}

// openNetwork makes what will be behind the machine's network card.
func (s *supervisor) openNetwork(secrets []secret.Secret) (_ *guestNetwork, err error) {
	if err := s.machine.MakeAuditDir(); err != nil {
		return nil, err
	}
	path := s.machine.AuditFile()
	if err := s.held.add(filepath.Dir(path)); err != nil {
		return nil, err
	}
	record, err := audit.Open(s.held.path(path), s.machine.Name)
	if err != nil {
		return nil, err
	}
	opened := closers{func() { record.Close() }}
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	n := &guestNetwork{plan: s.plan.Network, audit: record, log: s.log, secrets: secrets}
	if s.plan.Network.Mode == plan.NetworkBridge {
		if n.bridge, n.tap, err = openTap(s.machine.Name, s.plan.Network.Address); err != nil {
			return nil, err
		}
		opened.add(func() { n.tap.Close() })
	}
	n.Network, err = network.New(network.Config{
		Plan: s.plan.Network, Secrets: secrets, Proxies: s.proxies, Audit: record, Log: s.log, Budget: s.budget, Half: s.noteHalf, Noticed: s.noteListener,
		Ask: network.Asker{Attended: s.events.attended, Asked: s.noteQuestion, Settled: s.noteAnswer},
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

// noteHalf says that a published port is not the machine's on ::1.
func (s *supervisor) noteHalf(p plan.Port) {
	port := strconv.Itoa(p.HostPort)
	s.note(control.NotePortHalf, fault.Args{"port": port},
		"another program has [::1]:%s: localhost:%s may lead to it, and 127.0.0.1:%s leads to the machine", port, port, port)
}

// noteListener says that a program of the guest listens, and what leads to it.
func (s *supervisor) noteListener(l network.Listener) {
	port := strconv.Itoa(l.Port)
	args := fault.Args{"name": s.machine.Name, "port": port, "why": string(l.Why)}
	if l.Published {
		s.note(control.NoteForwarded, fault.Args{"name": s.machine.Name, "port": port},
			"a program in %s listens on port %s, which is localhost:%s here", s.machine.Name, port, port)
		return
	}
	s.note(control.NoteListening, args, "a program in %s listens on port %s", s.machine.Name, port)
}

// noteQuestion says that a host is asked about. Its name can be any that a host may have, and is
// told as it is: of a long one the end says whose it is.
func (s *supervisor) noteQuestion(q network.Question) {
	host, port := termsafe.Line(q.Host), strconv.Itoa(q.Port)
	s.note(control.NoteQuestion, fault.Args{"name": s.machine.Name, "host": host, "port": port},
		"%s wants to reach %s:%s, which no rule covers; it waits for an answer", s.machine.Name, host, port)
}

// noteAnswer says what became of a question.
func (s *supervisor) noteAnswer(q network.Question, answer network.Answer) {
	host, port := termsafe.Line(q.Host), strconv.Itoa(q.Port)
	words := map[network.Answer]string{
		network.AnsweredAllow: "is allowed", network.AnsweredOnce: "is allowed once",
		network.AnsweredDeny: "is denied", network.Unanswered: "is denied, as nobody answered",
	}
	s.note(control.NoteAnswered, fault.Args{"name": s.machine.Name, "host": host, "port": port, "answer": string(answer)},
		"%s:%s %s", host, port, words[answer])
}

// openTap opens a port of the host's bridge for a machine with this address.
func openTap(name, address string) (bridge.Config, *os.File, error) {
	b, err := bridge.Current(bridge.Default())
	if err != nil {
		return b, nil, err
	}
	prefix, err := netip.ParsePrefix(address)
	if err != nil {
		return b, nil, err
	}
	if own := b.Address; prefix.Masked() != own.Masked() || prefix.Addr() == own.Addr() {
		args := fault.Args{"address": prefix.String(), "bridge": b.Name, "network": own.Masked().String()}
		return b, nil, fault.New(fault.BridgeAddressForeign, args,
			"%v is no address for a machine on the bridge %s, which has %v", prefix, b.Name, own)
	}
	tap, err := bridge.OpenTap(b, name)
	return b, tap, err
}

// Close ends what is behind the network card, after the VMM.
func (n *guestNetwork) Close() {
	n.Network.Close()
	if n.tap != nil {
		n.tap.Close()
	}
	if err := n.audit.Close(); err != nil {
		n.log.Error("close the audit log", "err", err)
	}
}

// publish opens the machine's ports, once there is a guest to connect to.
func (n *guestNetwork) publish(g *guest) error { return n.Publish(guestPorts{g}) }

// guestPorts are the ports of a guest.
type guestPorts struct{ *guest }

// Connect connects to a port.
func (g guestPorts) Connect(ctx context.Context, port int) (net.Conn, error) {
	stream, err := g.openFor(portCost, budget.Reserve)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { abandon(stream) })
	stream.SetDeadline(time.Now().Add(connectTimeout))
	conn, err := client.Connect(stream, port)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		stream.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}

// listenInterval is how often a guest can change what it says of its ports: each time the
// host begins or ends to listen.
const listenInterval = 10 * time.Millisecond

// Watch calls seen with those of ports on which somebody listens, until ctx ends.
func (g guestPorts) Watch(ctx context.Context, ports []int, seen func(listening []int)) error {
	stream, err := g.open()
	if err != nil {
		return err
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { abandon(stream) })
	defer stop()
	return client.Ports(stream, ports, func(listening []int) {
		seen(listening)
		select {
		case <-time.After(listenInterval):
		case <-ctx.Done():
		}
	})
}

// noticeInterval is how often a guest can change what it says of itself: each time, ports of
// the host can be opened and closed.
const noticeInterval = 250 * time.Millisecond

// notice follows on which ports anybody listens in the guest, until the conversation ends.
func (s *supervisor) notice(g *guest, n *guestNetwork) {
	stream, err := g.open()
	if err != nil {
		return
	}
	defer stream.Close()
	err = client.Noticed(stream, func(listening []int) {
		n.Noticed(listening)
		select {
		case <-time.After(noticeInterval):
		case <-g.session.CloseChan():
		}
	})
	s.log.Debug("notice the ports of the guest", "err", err)
	n.Noticed(nil)
}

// connectTimeout bounds the time in which the guest has to connect to a port.
const connectTimeout = 15 * time.Second

// setUp returns how the guest is to set up its network card; nil for none.
func (n *guestNetwork) setUp() *wire.Network {
	var set *wire.Network
	switch n.plan.Mode {
	case plan.NetworkUser:
		set = userNetwork()
		set.Authority, set.AuthorityHash = n.Authority(), intercept.SubjectHash
	case plan.NetworkBridge:
		set = &wire.Network{
			Address: n.plan.Address, MAC: n.plan.MAC,
			Gateway: n.bridge.Address.Addr().String(), DNS: bridge.Resolver(),
		}
	default:
		return nil
	}
	for _, a := range n.plan.Authorities {
		set.HostAuthorities = append(set.HostAuthorities, wire.Authority{Certificate: a.Certificate, Hash: a.Hash})
	}
	return set
}

// userNetwork is what all machines of user mode have in common.
func userNetwork() *wire.Network {
	return &wire.Network{
		Address: netip.PrefixFrom(vnet.Guest, vnet.PrefixBits).String(),
		Gateway: vnet.Gateway.String(), DNS: vnet.Gateway.String(),
	}
}

// networkEnv returns the variables of a machine that its network brings: the
// placeholders of secrets, and where the programs that do not look where all others do
// find what they are to trust.
func networkEnv(n *wire.Network, secrets []secret.Secret) []string {
	var env []string
	if n != nil && len(n.Authority)+len(n.HostAuthorities) > 0 {
		env = wire.TrustEnv()
	}
	for _, s := range secrets {
		env = append(env, s.Name+"="+s.Placeholder)
	}
	return env
}
