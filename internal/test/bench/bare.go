package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// guest is a virtual machine without a supervisor: what machines of mayfly are compared
// with. So this file talks to the VMM and to the guest's agent itself.
type guest struct {
	vmm     vmm
	session session
	end     func() bool
}

// vmm is a VMM that runs.
type vmm struct {
	sockets map[machine.Socket]net.Conn
	kill    func() // and waits for the end
}

// session is a conversation with a guest's agent.
type session interface {
	Open() (net.Conn, error)
	Close() error
}

// boot returns when the agent of the guest in v has answered. The guest ends with ctx,
// too.
func boot(ctx context.Context, v vmm) (*guest, error) {
	g := &guest{vmm: v, end: context.AfterFunc(ctx, v.kill)}
	go io.Copy(io.Discard, v.sockets[machine.Console])
	dialing, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var err error
	if g.session, err = wire.Dial(dialing, v.sockets[machine.Control]); err == nil {
		err = g.ask(func(s io.ReadWriteCloser) error { _, err := client.Hello(s); return err })
	}
	if err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// close kills the guest and waits for its end.
func (g *guest) close() {
	g.end()
	if g.session != nil {
		g.session.Close()
	}
	g.vmm.kill()
}

// confined starts c as a supervisor does.
func confined(ctx context.Context, c machine.Command) (vmm, error) {
	p, err := machine.Start(ctx, c, os.Stderr, nil)
	if err != nil {
		return vmm{}, err
	}
	return vmm{p.Sockets, p.Kill}, nil
}

// unconfined starts c as it is: QEMU's own network connects, which a confined QEMU may
// not.
func unconfined(c machine.Command) (v vmm, err error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.Stderr = append([]string{"PATH=/usr/bin:/bin"}, c.Env...), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	v.sockets = make(map[machine.Socket]net.Conn)
	v.kill = func() {
		if cmd.Process != nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
		for _, conn := range v.sockets {
			conn.Close()
		}
	}
	defer func() {
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
		if err != nil {
			v.kill()
		}
	}()
	for _, f := range c.Files {
		if f.Socket == "" {
			flag := os.O_RDONLY
			if f.Writable {
				flag = os.O_RDWR
			}
			file, err := os.OpenFile(f.Path, flag, 0)
			if err != nil {
				return v, err
			}
			cmd.ExtraFiles = append(cmd.ExtraFiles, file)
			continue
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return v, err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fds[1]), string(f.Socket)))
		ours := os.NewFile(uintptr(fds[0]), string(f.Socket))
		conn, err := net.FileConn(ours)
		ours.Close()
		if err != nil {
			return v, err
		}
		v.sockets[f.Socket] = conn
	}
	return v, cmd.Start()
}

// ask has a conversation with the agent.
func (g *guest) ask(what func(io.ReadWriteCloser) error) error {
	stream, err := g.session.Open()
	if err != nil {
		return err
	}
	defer stream.Close()
	return what(stream)
}

// shell runs a script in the guest and returns what it prints.
func (g *guest) shell(script string) (string, error) {
	var out, messages bytes.Buffer
	err := g.ask(func(s io.ReadWriteCloser) error {
		code, err := client.Exec(s, &wire.Exec{Argv: []string{"/bin/bash", "-c", script}, Dir: "/"},
			client.Stdio{Stdout: &out, Stderr: &messages})
		return exited(code, err, &messages)
	})
	return out.String(), err
}

// floor returns the least that a machine of p's can be: its kernel and initramfs, until
// the agent answers.
func (p program) floor(ctx context.Context, dir string) (machine.Command, error) {
	var d struct{ Command machine.Command }
	if err := p.json(ctx, dir, &d, "run", "--dry-run", "--no-detect", "--cold"); err != nil {
		return machine.Command{}, err
	}
	return bare(d.Command)
}

// bare returns c without all that makes a machine of ours: its disks, its
// devices but the control port, its sandbox and its namespaces.
func bare(c machine.Command) (machine.Command, error) {
	kept := []string{"-L", "-no-user-config", "-nodefaults", "-display", "-no-reboot", "-machine", "-accel", "-cpu", "-smp", "-m", "-kernel", "-initrd", "-append"}
	out := machine.Command{Path: c.Path, Env: c.Env, Readable: c.Readable, Writable: c.Writable}
	for i := 0; i < len(c.Args); {
		n := 1
		if i+1 < len(c.Args) && c.Args[i+1][0] != '-' {
			n = 2
		}
		if slices.Contains(kept, c.Args[i]) {
			out.Args = append(out.Args, c.Args[i:i+n]...)
		}
		i += n
	}
	if !slices.Contains(out.Args, "-kernel") {
		return out, errors.New("mayfly's command line for QEMU names no kernel")
	}
	out.Files = []machine.File{{Socket: machine.Console}, {Socket: machine.Control}}
	out.Args = append(out.Args,
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", machine.FirstFile),
		"-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=control,fd=%d", machine.FirstFile+1),
		"-device", "virtio-serial-pci,id=serial,max_ports=2",
		"-device", "virtserialport,bus=serial.0,nr=1,chardev=control,name="+wire.PortName,
	)
	return out, nil
}

// bareBoot boots c until init has answered, and kills it. It returns the time until the
// answer.
func bareBoot(ctx context.Context, c machine.Command) (time.Duration, error) {
	start := time.Now()
	v, err := confined(ctx, c)
	if err != nil {
		return 0, err
	}
	g, err := boot(ctx, v)
	if err != nil {
		return 0, err
	}
	hello := time.Since(start)
	g.close()
	return hello, nil
}

// slirpHost is this computer's loopback interface as QEMU's own network has it.
const slirpHost = "10.0.2.2"

// bootSlirp boots a machine of ours whose card is in QEMU's own network, in place of ours.
func (b *bench) bootSlirp(ctx context.Context) (*guest, error) {
	c, err := b.client(nil)
	if err != nil {
		return nil, err
	}
	d, err := c.DryRun(ctx, mayfly.Spec{NoWorkspace: true, NoDetect: true, Settings: []mayfly.Setting{cold}})
	if err != nil {
		return nil, err
	}
	var command machine.Command
	if err := convert(d.Command, &command); err != nil {
		return nil, err
	}
	for i, arg := range command.Args {
		if strings.HasPrefix(arg, "stream,id=net,") {
			command.Args[i] = "user,id=net,ipv6=off"
		}
	}
	for i, f := range command.Files {
		if !f.Writable {
			continue // a layer
		}
		scratch := filepath.Join(b.dir, "scratch")
		if err := run(exec.CommandContext(ctx, "cp", "--sparse=always", b.image.Scratch, scratch)); err != nil {
			return nil, err
		}
		command.Files[i].Path = scratch
	}
	v, err := unconfined(command)
	if err != nil {
		return nil, err
	}
	g, err := boot(ctx, v)
	if err != nil {
		return nil, err
	}
	if err := g.setUp(wire.User{
		Name: d.Plan.User.Name, UID: d.Plan.User.UID, GID: d.Plan.User.GID, Home: d.Plan.User.Home, Shell: d.Plan.User.Shell,
	}, len(b.image.Layers)); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// setUp makes the guest one that runs commands, as a supervisor does.
func (g *guest) setUp(u wire.User, layers int) error {
	prepare := &wire.Prepare{Scratch: machine.Serial(plan.SlotScratch)}
	for i := range layers {
		prepare.Layers = append(prepare.Layers, machine.Serial(plan.SlotFirstLayer+i))
	}
	configure := &wire.Configure{
		Hostname: "bench", MachineID: strings.Repeat("0", 32), Entropy: make([]byte, 256), User: u,
		Network: &wire.Network{Address: "10.0.2.15/24", Gateway: slirpHost, DNS: "10.0.2.3"},
	}
	rand.Read(configure.Entropy)
	if err := g.ask(func(s io.ReadWriteCloser) error { _, err := client.Prepare(s, prepare); return err }); err != nil {
		return err
	}
	return g.ask(func(s io.ReadWriteCloser) error {
		configure.Time = time.Now().UnixNano()
		_, err := client.Configure(s, configure)
		return err
	})
}
