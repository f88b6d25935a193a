package qemu

import (
	"context"
	"errors"
	"io"
	"net"
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
	p, err := machine.Start(ctx, d.Command(spec), files.Log, files.Given)
	if err != nil {
		return nil, err
	}
	return newVMM(p), nil
}

// vmm is a QEMU that runs.
type vmm struct {
	process *machine.Process
	events  chan machine.Event

	opened  chan struct{} // closed when there is a monitor, or there is none to come; guards the following
	monitor *Monitor
	err     error
}

// newVMM returns the VMM that p is, and begins to hear of its events.
func newVMM(p *machine.Process) *vmm {
	v := &vmm{process: p, events: make(chan machine.Event, machine.EventBuffer), opened: make(chan struct{})}
	go v.openMonitor()
	return v
}

func (v *vmm) PID() int              { return v.process.PID }
func (v *vmm) Done() <-chan struct{} { return v.process.Done() }
func (v *vmm) Err() error            { return v.process.Err() }
func (v *vmm) Kill()                 { v.process.Kill() }

func (v *vmm) Events() <-chan machine.Event { return v.events }

// Dial duplicates a connection. A port of virtio has no ends of its own: it goes on
// with whoever reads and writes.
func (v *vmm) Dial(_ context.Context, name machine.Socket) (net.Conn, error) {
	return v.process.Duplicate(name)
}

func (v *vmm) Save(ctx context.Context, w io.Writer) (pause time.Duration, err error) {
	m, err := v.awaitMonitor(ctx)
	if err != nil {
		return 0, err
	}
	return m.Save(ctx, w)
}

func (v *vmm) Restore(ctx context.Context, r io.Reader) error {
	m, err := v.awaitMonitor(ctx)
	if err != nil {
		return err
	}
	return m.Restore(ctx, r)
}

func (v *vmm) Continue(ctx context.Context) error {
	m, err := v.awaitMonitor(ctx)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- m.Execute("cont", nil, nil) }() // ends with the VMM at the latest
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (v *vmm) Quit(ctx context.Context) error {
	m, err := v.awaitMonitor(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { m.conn.SetDeadline(time.Now()) })
	defer stop()
	// It may be gone before it answers.
	quitErr := m.Execute("quit", nil, nil)
	if err := v.process.Wait(ctx); err != nil {
		return errors.Join(quitErr, err)
	}
	return nil
}

// openMonitor opens the monitor and hears of events until the VMM ends.
func (v *vmm) openMonitor() {
	defer close(v.events)
	conn := v.process.Sockets[machine.Monitor]
	if conn == nil {
		v.err = errors.New("qemu was started without a monitor")
		close(v.opened)
		<-v.Done()
		return
	}
	v.monitor, v.err = newMonitor(conn, func(e machine.Event) { machine.Post(v.events, e) })
	close(v.opened)
	if v.err != nil {
		<-v.Done()
		return
	}
	<-v.monitor.done
}

// awaitMonitor returns the connection to the monitor.
func (v *vmm) awaitMonitor(ctx context.Context) (*Monitor, error) {
	select {
	case <-v.opened:
		return v.monitor, v.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
