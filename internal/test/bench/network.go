package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// Sizes of what is sent. Large enough that the beginning of a connection does not
// matter, and small enough for an emulated guest.
const (
	transferSize = 200e6 // bytes
	connections  = 300
)

// measureNetwork compares the network of a machine with QEMU's own, and a machine
// that has one with a machine that has none.
func (b *bench) measureNetwork(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	if _, err := timed(b.runTrue(ctx, dir)); err != nil {
		return err
	}
	for _, measure := range []func(context.Context, string) error{
		b.measureTransfer, b.measureInterception, b.measureNetworkStart, b.measureNetworkMemory,
	} {
		if err := measure(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// transfer is what one guest achieved.
type transfer struct{ up, down, conns float64 } // Mbit/s, Mbit/s, 1/s

// measureTransfer lets guests send to and receive from this computer, in turns
// through our network and through QEMU's.
func (b *bench) measureTransfer(ctx context.Context, dir string) error {
	d, err := dryRun(ctx, b.mayfly, dir, "--cold")
	if err != nil {
		return err
	}
	srv, err := newLoad()
	if err != nil {
		return err
	}
	defer srv.close()
	var ours, slirp []transfer
	for range b.runs(5) {
		for _, side := range []struct {
			slirp bool
			all   *[]transfer
		}{{false, &ours}, {true, &slirp}} {
			t, err := b.transferOnce(ctx, d.Plan, srv, side.slirp)
			if err != nil {
				return fmt.Errorf("slirp %v: %w", side.slirp, err)
			}
			*side.all = append(*side.all, t)
		}
	}
	each := func(all []transfer, f func(transfer) float64) []float64 {
		values := make([]float64, len(all))
		for i, t := range all {
			values[i] = f(t)
		}
		return values
	}
	for _, row := range []struct {
		name, unit, what string
		least            float64
		f                func(transfer) float64
	}{
		{"network: down", "Mbit/s", "200 MB from this computer's loopback to a guest; baseline: the same through QEMU's own user network", 1.5, func(t transfer) float64 { return t.down }},
		{"network: up", "Mbit/s", "200 MB from a guest; baseline as above", 1.2, func(t transfer) float64 { return t.up }},
		{"network: connections", "1/s", "300 connections of a guest, one after the other, with one line each; baseline as above", 0, func(t transfer) float64 { return t.conns }},
	} {
		r := newRow(row.name, row.unit, each(ours, row.f), each(slirp, row.f), row.what)
		if row.least > 0 {
			r = r.ratioAtLeast(row.least)
		}
		b.add(r)
	}
	return nil
}

// transferOnce boots a guest and has it send, receive and connect.
func (b *bench) transferOnce(ctx context.Context, p plan.Plan, srv *load, slirp bool) (transfer, error) {
	var t transfer
	g, err := b.bootGuest(ctx, p, srv.ports(), slirp)
	if err != nil {
		return t, err
	}
	defer g.close()
	address, err := g.output("getent ahostsv4 " + g.host + " | head -n1 | cut -d' ' -f1")
	if err != nil {
		return t, err
	}
	open := func(l *loadPort) string {
		return fmt.Sprintf("exec 3<>/dev/tcp/%s/%d; ", strings.TrimSpace(address), l.port)
	}
	const mbit = transferSize * 8 / 1e6
	if t.down, err = srv.source.during(func() error {
		_, err := g.output(open(srv.source) + "cat <&3 >/dev/null")
		return err
	}); err != nil {
		return t, err
	}
	if t.up, err = srv.sink.during(func() error {
		_, err := g.output(open(srv.sink) + fmt.Sprintf("head -c %d /dev/zero >&3", int64(transferSize)))
		return err
	}); err != nil {
		return t, err
	}
	if t.conns, err = srv.greeter.during(func() error {
		_, err := g.output(fmt.Sprintf("for ((i = 0; i < %d; i++)); do %s read -r -u 3 line; exec 3>&-; done", connections, open(srv.greeter)))
		return err
	}); err != nil {
		return t, err
	}
	return transfer{up: mbit / t.up, down: mbit / t.down, conns: connections / t.conns}, nil
}

// load is what guests connect to.
type load struct{ source, sink, greeter *loadPort }

// loadPort is one service. It takes times on this side, where the clock is right.
type loadPort struct {
	listener net.Listener
	port     int
	begun    chan time.Time
	ended    chan time.Time
}

func newLoad() (*load, error) {
	var l load
	for _, s := range []struct {
		port  **loadPort
		serve func(net.Conn) error
	}{
		{&l.source, func(c net.Conn) error {
			_, err := io.CopyN(c, zeros{}, transferSize)
			if err == nil {
				err = c.(*net.TCPConn).CloseWrite()
			}
			io.Copy(io.Discard, c)
			return err
		}},
		{&l.sink, func(c net.Conn) error {
			n, err := io.Copy(io.Discard, c)
			if err == nil && n != transferSize {
				err = fmt.Errorf("%d bytes came", n)
			}
			return err
		}},
		{&l.greeter, func(c net.Conn) error {
			_, err := io.WriteString(c, "hello\n")
			io.Copy(io.Discard, c)
			return err
		}},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		p := &loadPort{listener, listener.Addr().(*net.TCPAddr).Port, make(chan time.Time, connections), make(chan time.Time, connections)}
		*s.port = p
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				p.begun <- time.Now()
				s.serve(conn)
				conn.Close()
				p.ended <- time.Now()
			}
		}()
	}
	return &l, nil
}

func (l *load) ports() []int { return []int{l.source.port, l.sink.port, l.greeter.port} }

func (l *load) close() {
	for _, p := range []*loadPort{l.source, l.sink, l.greeter} {
		p.listener.Close()
	}
}

// during returns the seconds from the begin of the first connection to the end of the
// last of those that f causes.
func (p *loadPort) during(f func() error) (float64, error) {
	if err := f(); err != nil {
		return 0, err
	}
	var first, last time.Time
	for {
		select {
		case t := <-p.begun:
			if first.IsZero() {
				first = t
			}
			continue
		default:
		}
		select {
		case last = <-p.ended:
			continue
		case <-time.After(300 * time.Millisecond):
		}
		break
	}
	if first.IsZero() || last.IsZero() {
		return 0, errors.New("nobody connected")
	}
	return last.Sub(first).Seconds(), nil
}

// zeros is an endless stream.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// measureNetworkStart measures what the network adds to a start.
func (b *bench) measureNetworkStart(ctx context.Context, dir string) error {
	var with, without []float64
	if _, err := timed(b.runTrue(ctx, dir, "--network", plan.NetworkNone)); err != nil {
		return err
	}
	for range b.runs(15) {
		for _, side := range []struct {
			mode string
			all  *[]float64
		}{{plan.NetworkUser, &with}, {plan.NetworkNone, &without}} {
			took, err := timed(b.runTrue(ctx, dir, "--network", side.mode))
			if err != nil {
				return err
			}
			*side.all = append(*side.all, milliseconds(took))
		}
	}
	r := newRow("network: start", "ms", with, without, "mayfly run --discard -- true with a network, from a template; baseline: without one. Promised: at most 50 ms more")
	b.add(r.differenceAtMost(50))
	return nil
}

// measureNetworkMemory measures what the network adds to an idle supervisor.
func (b *bench) measureNetworkMemory(ctx context.Context, dir string) error {
	machines, err := openMachines()
	if err != nil {
		return err
	}
	var with, without []float64
	for range b.runs(3) {
		for _, side := range []struct {
			mode string
			all  *[]float64
		}{{plan.NetworkUser, &with}, {plan.NetworkNone, &without}} {
			rss, err := b.idleMemory(ctx, machines, dir, side.mode)
			if err != nil {
				return err
			}
			*side.all = append(*side.all, rss)
		}
	}
	r := newRow("network: memory", "MiB", with, without, "resident memory of an idle supervisor with a network; baseline: without one. Promised: at most 15 MiB more")
	b.add(r.differenceAtMost(15))
	return nil
}

// idleMemory returns the resident memory in MiB of the supervisor of an idle machine.
func (b *bench) idleMemory(ctx context.Context, machines state.Store, dir, mode string) (float64, error) {
	d, err := dryRun(ctx, b.mayfly, dir, "--cold", "--network", mode)
	if err != nil {
		return 0, err
	}
	owner, _, err := b.startMachine(ctx, machines, d.Plan)
	if err != nil {
		return 0, err
	}
	defer owner.Close()
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(idle):
	}
	return statusMiB(fmt.Sprintf("/proc/%d/status", owner.Machine.Status().Supervisor.PID), "VmRSS")
}
