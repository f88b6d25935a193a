package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/machine/drivers"
	"github.com/mayfly-vm/mayfly/internal/network"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/vnet"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// guest is a virtual machine without a supervisor, for comparing what is behind its
// network card.
type guest struct {
	host    string // this computer's loopback interface, as seen from the guest
	session interface {
		Open() (net.Conn, error)
		Close() error
	}
	closers []func()
}

func (g *guest) close() {
	for _, f := range slices.Backward(g.closers) {
		f()
	}
}

// bootGuest boots the machine of p with our network, which lets it reach ports of this
// computer, or with QEMU's own.
func (b *bench) bootGuest(ctx context.Context, p plan.Plan, ports []int, slirp bool) (_ *guest, err error) {
	g := &guest{host: plan.HostName}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	img, err := lookUp(p)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "guest-")
	if err != nil {
		return nil, err
	}
	g.closers = append(g.closers, func() { os.RemoveAll(dir) })
	spec := machine.Spec{
		Machine: p.Machine, Kernel: img.Kernel.Path, Initramfs: img.Initramfs,
		Card: &machine.Card{MAC: vnet.GuestMAC, MTU: vnet.MTU},
	}
	scratch := filepath.Join(dir, "scratch")
	if err := image.CopySparse(scratch, img.Scratch); err != nil {
		return nil, err
	}
	spec.Disks[plan.SlotScratch] = machine.Disk{Path: scratch, Writable: true}
	prepare := &wire.Prepare{Scratch: machine.Serial(plan.SlotScratch)}
	for i, layer := range img.Layers {
		spec.Disks[plan.SlotFirstLayer+i] = machine.Disk{Path: layer.Path}
		prepare.Layers = append(prepare.Layers, machine.Serial(plan.SlotFirstLayer+i))
	}
	driver, err := drivers.For(p.Machine.Engine)
	if err != nil {
		return nil, err
	}
	command := driver.Command(spec)
	setUp := &wire.Network{
		Address: netip.PrefixFrom(vnet.Guest, vnet.PrefixBits).String(), Gateway: vnet.Gateway.String(), DNS: vnet.Gateway.String(),
	}
	if slirp {
		g.host = "10.0.2.2"
		setUp = &wire.Network{Address: "10.0.2.15/24", Gateway: g.host, DNS: "10.0.2.3"}
		for i, arg := range command.Args {
			if strings.HasPrefix(arg, "stream,id=net,") {
				command.Args[i] = "user,id=net,ipv6=off"
			}
		}
	}
	sockets, err := g.startVMM(command)
	if err != nil {
		return nil, err
	}
	if !slirp {
		if err := g.attach(sockets[machine.NetworkCard], dir, ports); err != nil {
			return nil, err
		}
	}
	return g, g.configure(ctx, sockets[machine.Control], prepare, &wire.Configure{
		Hostname: "bench", MachineID: strings.Repeat("0", 32), Network: setUp,
		User: wire.User{Name: p.Guest.User.Name, UID: p.Guest.User.UID, GID: p.Guest.User.GID, Home: p.Guest.User.Home, Shell: "bash"},
	})
}

// startVMM executes command as it is: QEMU's own network needs what a confined QEMU
// may not do.
func (g *guest) startVMM(command machine.Command) (map[machine.Socket]net.Conn, error) {
	cmd := exec.Command(command.Path, command.Args...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin"}, command.Env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	sockets := make(map[machine.Socket]net.Conn)
	for _, f := range command.Files {
		file, ours, err := openFile(f)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		if ours != nil {
			sockets[f.Socket] = ours
			g.closers = append(g.closers, func() { ours.Close() })
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g.closers = append(g.closers, func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	go discard(sockets[machine.Console])
	return sockets, nil
}

// openFile returns the VMM's end of f, and ours of a connection.
func openFile(f machine.File) (*os.File, net.Conn, error) {
	if f.Socket == "" {
		flag := os.O_RDONLY
		if f.Writable {
			flag = os.O_RDWR
		}
		file, err := os.OpenFile(f.Path, flag, 0)
		return file, nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours := os.NewFile(uintptr(fds[0]), string(f.Socket))
	defer ours.Close()
	conn, err := net.FileConn(ours)
	return os.NewFile(uintptr(fds[1]), string(f.Socket)), conn, err
}

// attach puts our network behind the card.
func (g *guest) attach(card net.Conn, dir string, ports []int) error {
	record, err := audit.Open(filepath.Join(dir, "audit"), "bench")
	if err != nil {
		return err
	}
	g.closers = append(g.closers, func() { record.Close() })
	p := plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAllowlist}
	for _, port := range ports {
		p.Allow = append(p.Allow, plan.Rule{Host: plan.HostName, Port: port})
	}
	n, err := network.New(network.Config{Plan: p, Audit: record, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	g.closers = append(g.closers, n.Close)
	n.Attach(card)
	return nil
}

// configure makes a machine of the guest that boots.
func (g *guest) configure(ctx context.Context, control net.Conn, prepare *wire.Prepare, configure *wire.Configure) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	session, err := wire.Dial(ctx, control)
	if err != nil {
		return err
	}
	g.session = session
	g.closers = append(g.closers, func() { session.Close() })
	configure.Entropy = make([]byte, 256)
	rand.Read(configure.Entropy)
	for _, step := range []func(io.ReadWriter) error{
		func(s io.ReadWriter) error { _, err := client.Hello(s); return err },
		func(s io.ReadWriter) error { _, err := client.Prepare(s, prepare); return err },
		func(s io.ReadWriter) error {
			configure.Time = time.Now().UnixNano()
			_, err := client.Configure(s, configure)
			return err
		},
	} {
		stream, err := session.Open()
		if err != nil {
			return err
		}
		err = step(stream)
		stream.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// output runs a script in the guest and returns what it prints.
func (g *guest) output(script string) (string, error) {
	stream, err := g.session.Open()
	if err != nil {
		return "", err
	}
	var out, messages bytes.Buffer
	code, err := client.Exec(stream, &wire.Exec{Argv: []string{"/bin/bash", "-c", script}, Dir: "/"},
		client.Stdio{Stdout: &out, Stderr: &messages})
	if err == nil && code != 0 {
		err = errors.New(strings.TrimSpace(messages.String()))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", script, err)
	}
	return out.String(), nil
}
