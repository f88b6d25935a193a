package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Sizes of what is sent. Large enough that the beginning of a connection does not
// matter, and small enough for an emulated guest.
const (
	transferSize = 200e6 // bytes
	connections  = 300
)

// transfer is what one guest achieved.
type transfer struct{ up, down, conns float64 } // Mbit/s, Mbit/s, 1/s

// shell runs a script in a guest and returns what it prints.
type shell func(script string) (string, error)

// measureTransfer lets guests send to and receive from this computer, in turns
// through our network and through QEMU's.
func (b *bench) measureTransfer(ctx context.Context) error {
	srv, err := newLoad()
	if err != nil {
		return err
	}
	defer srv.close()
	var up, down, conns values
	for range b.runs(5) {
		ours, err := b.transferOurs(ctx, srv)
		if err != nil {
			return err
		}
		slirp, err := b.transferSlirp(ctx, srv)
		if err != nil {
			return fmt.Errorf("QEMU's network: %w", err)
		}
		up.compare(ours.up, slirp.up)
		down.compare(ours.down, slirp.down)
		conns.compare(ours.conns, slirp.conns)
	}
	b.add(down.row("network: down", "Mbit/s", "200 MB from this computer's loopback to a guest; baseline: the same through QEMU's own user network").ratioAtLeast(1.5))
	b.add(up.row("network: up", "Mbit/s", "200 MB from a guest; baseline as above").ratioAtLeast(1.2))
	b.add(conns.row("network: connections", "1/s", "300 connections of a guest, one after the other, with one line each; baseline as above"))
	return nil
}

// transferOurs has a machine send, receive and connect.
func (b *bench) transferOurs(ctx context.Context, srv *load) (transfer, error) {
	var allow []string
	for _, port := range srv.ports() {
		allow = append(allow, fmt.Sprintf("%s:%d", plan.HostName, port))
	}
	m, err := b.start(ctx, mayfly.Spec{NoWorkspace: true, NoDetect: true, Settings: []mayfly.Setting{
		cold, set("network.egress", plan.EgressAllowlist), set("network.allow", allow),
	}})
	if err != nil {
		return transfer{}, err
	}
	defer m.Close()
	return srv.use(plan.HostName, func(script string) (string, error) {
		var out, messages bytes.Buffer
		code, err := m.Exec(ctx, mayfly.Cmd{Argv: []string{"/bin/bash", "-c", script}, Stdout: &out, Stderr: &messages})
		return out.String(), exited(code, err, &messages)
	})
}

// transferSlirp has a guest behind QEMU's own network send, receive and connect.
func (b *bench) transferSlirp(ctx context.Context, srv *load) (transfer, error) {
	g, err := b.bootSlirp(ctx)
	if err != nil {
		return transfer{}, err
	}
	defer g.close()
	return srv.use(slirpHost, g.shell)
}

// use has a guest send, receive and connect.
func (l *load) use(host string, run shell) (transfer, error) {
	var t transfer
	address, err := run("getent ahostsv4 " + host + " | head -n1 | cut -d' ' -f1")
	if err != nil {
		return t, err
	}
	open := func(l *loadPort) string {
		return fmt.Sprintf("exec 3<>/dev/tcp/%s/%d; ", strings.TrimSpace(address), l.port)
	}
	const mbit = transferSize * 8 / 1e6
	for _, part := range []struct {
		port        *loadPort
		connections int
		script      string
		amount      float64
		rate        *float64
	}{
		{l.source, 1, open(l.source) + "cat <&3 >/dev/null", mbit, &t.down},
		{l.sink, 1, open(l.sink) + fmt.Sprintf("head -c %d /dev/zero >&3", int64(transferSize)), mbit, &t.up},
		{l.greeter, connections, fmt.Sprintf("for ((i = 0; i < %d; i++)); do %s read -r -u 3 line; exec 3>&-; done", connections, open(l.greeter)), connections, &t.conns},
	} {
		seconds, err := part.port.during(part.connections, func() error {
			_, err := run(part.script)
			return err
		})
		if err != nil {
			return t, err
		}
		*part.rate = part.amount / seconds
	}
	return t, nil
}

// exited returns the error of a script that ended with code and has printed messages.
func exited(code int, err error, messages fmt.Stringer) error {
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, strings.TrimSpace(messages.String()))
	}
	return err
}

// load is what guests connect to.
type load struct{ source, sink, greeter *loadPort }

// loadPort is one service. It takes times on this side, where the clock is right.
type loadPort struct {
	net.Listener
	port   int
	served chan interval
}

// interval is the time of a connection, and what went wrong.
type interval struct {
	begun, ended time.Time
	err          error
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
		p := &loadPort{listener, listener.Addr().(*net.TCPAddr).Port, make(chan interval, connections)}
		*s.port = p
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				begun := time.Now()
				err = s.serve(conn)
				conn.Close()
				p.served <- interval{begun, time.Now(), err}
			}
		}()
	}
	return &l, nil
}

func (l *load) ports() []int { return []int{l.source.port, l.sink.port, l.greeter.port} }

func (l *load) close() {
	for _, p := range []*loadPort{l.source, l.sink, l.greeter} {
		p.Close()
	}
}

// during returns the seconds from the begin of the first to the end of the last of n
// connections, which f causes.
func (p *loadPort) during(n int, f func() error) (float64, error) {
	if err := f(); err != nil {
		return 0, err
	}
	var first, last interval
	for i := range n {
		select {
		case last = <-p.served:
		case <-time.After(10 * time.Second):
			return 0, fmt.Errorf("%d connections came; want %d", i, n)
		}
		if last.err != nil {
			return 0, last.err
		}
		if i == 0 {
			first = last
		}
	}
	return last.ended.Sub(first.begun).Seconds(), nil
}

// zeros is an endless stream.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// measureNetwork measures what the network adds to a start and to an idle supervisor.
func (b *bench) measureNetwork(ctx context.Context) error {
	dir, err := b.smallProject()
	if err != nil {
		return err
	}
	p := b.programs[0]
	start := func(mode string) (float64, error) {
		took, err := timed(p.runTrue(ctx, dir, "--network", mode))
		return milliseconds(took), err
	}
	memory := func(mode string) (float64, error) {
		m, err := b.start(ctx, mayfly.Spec{Dir: dir, NoDetect: true, Settings: []mayfly.Setting{cold, set("network.mode", mode)}})
		if err != nil {
			return 0, err
		}
		defer m.Close()
		rss, _, err := b.supervisorMemory(ctx, m)
		return rss, err
	}
	both := func(n int, measure func(mode string) (float64, error)) (values, error) {
		return pairs(n, func() (float64, error) { return measure(plan.NetworkUser) }, func() (float64, error) { return measure(plan.NetworkNone) })
	}
	if _, err := both(1, start); err != nil { // makes the templates
		return err
	}
	starts, err := both(b.runs(15), start)
	if err != nil {
		return err
	}
	memories, err := both(b.runs(3), memory)
	if err != nil {
		return err
	}
	b.add(starts.row("network: start", "ms", "mayfly run --discard -- true with a network, from a template; baseline: without one. Promised: at most 50 ms more").differenceAtMost(50))
	b.add(memories.row("network: memory", "MiB", "resident memory of an idle supervisor with a network; baseline: without one. Promised: at most 15 MiB more").differenceAtMost(15))
	return nil
}
