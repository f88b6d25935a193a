package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Driver runs machines with QEMU.
type Driver struct{}

var _ machine.Driver = Driver{}

// Capabilities are those of QEMU since 7.2.
func (Driver) Capabilities() machine.Capabilities {
	return machine.Capabilities{
		Save: true, Shares: true, Stream: true, Tap: true,
		Control: machine.VirtioSerial,
		Disks:   plan.DiskSlots + plan.MaxKeptDisks,
	}
}

// Command returns the command line of spec's machine. The set of devices is
// the same for every machine, in the same slots: what is saved of one fits all.
func (Driver) Command(spec machine.Spec) machine.Command { return command(spec) }

// Start starts QEMU, confined.
func (d Driver) Start(ctx context.Context, spec machine.Spec, files machine.Files) (machine.VMM, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p, err := machine.Start(d.Command(spec), files.Log, files.Given)
	if err != nil {
		return nil, err
	}
	return &vmm{process: p}, nil
}

// vmm is a QEMU that runs.
type vmm struct {
	process *machine.Process

	mu      sync.Mutex // guards monitor
	monitor *Monitor   // opened when it is first needed: most machines need none
}

func (v *vmm) PID() int              { return v.process.PID }
func (v *vmm) Done() <-chan struct{} { return v.process.Done() }
func (v *vmm) Err() error            { return v.process.Err() }
func (v *vmm) Kill()                 { v.process.Kill() }

// Dial duplicates a connection. A port of virtio has no ends of its own: it goes on
// with whoever reads and writes.
func (v *vmm) Dial(_ context.Context, name machine.Socket) (net.Conn, error) {
	return v.process.Duplicate(name)
}

func (v *vmm) Save(ctx context.Context, w io.Writer) (pause time.Duration, err error) {
	m, err := v.openMonitor(ctx)
	if err != nil {
		return 0, err
	}
	return m.Save(ctx, w)
}

func (v *vmm) Restore(ctx context.Context, r io.Reader) error {
	m, err := v.openMonitor(ctx)
	if err != nil {
		return err
	}
	return m.Restore(ctx, r)
}

func (v *vmm) Quit(ctx context.Context) error {
	conn := v.process.Sockets[machine.Monitor]
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	defer stop()
	m, err := v.openMonitor(ctx)
	if err != nil {
		return err
	}
	// It may be gone before it answers.
	quitErr := m.Execute("quit", nil, nil)
	if err := v.process.Wait(ctx); err != nil {
		return errors.Join(quitErr, err)
	}
	return nil
}

// openMonitor returns the connection to the monitor. The end of ctx ends the wait for
// QEMU's greeting, and the connection with it.
func (v *vmm) openMonitor(ctx context.Context) (*Monitor, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.monitor != nil {
		return v.monitor, nil
	}
	conn := v.process.Sockets[machine.Monitor]
	if conn == nil {
		return nil, fmt.Errorf("qemu was started without a monitor")
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	defer stop()
	m, err := NewMonitor(conn)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	v.monitor = m
	return m, nil
}
