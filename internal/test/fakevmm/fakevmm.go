// Package fakevmm is a driver whose machines are goroutines of the test.
//
// A guest speaks the real protocol (package wire) over a pipe, and answers for what
// its VMM was started with: a disk that it is asked to mount must be in its slot. A
// Script says what goes wrong, and when. Nothing waits for a time, so that a test can
// run in a bubble of package synctest.
package fakevmm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Step is a moment at which a VMM or its guest can do other than well: one of those
// below, or an operation of the guest's.
type Step string

// The steps of a VMM.
const (
	Start   Step = "start"
	Greet   Step = "greet" // the guest answers the host for the first time
	Save    Step = "save"
	Restore Step = "restore"
	Quit    Step = "quit"
	// Continue is asked of a guest that stands still.
	Continue Step = "continue"
)

// Fault is what happens at a step.
type Fault struct {
	Die    bool  // the VMM ends, by Err
	Silent bool  // nothing happens until the VMM's end
	Err    error // what the VMM, or the guest, says
	// Do is called before, unless it is nil.
	Do func()
}

// Script says what happens at the steps that do not go well.
type Script map[Step]Fault

// Driver starts fake VMMs. It may be used by several goroutines.
type Driver struct {
	// Lacks is taken from the driver's capabilities.
	Lacks machine.Capabilities
	// Script returns how the next VMM behaves, which is that of number n, from 0;
	// nil for well.
	Script func(n int, spec machine.Spec) Script

	mu   sync.Mutex // guards vmms
	vmms []*VMM
}

var _ machine.Driver = (*Driver)(nil)

// Capabilities are all that there are, but for Lacks.
func (d *Driver) Capabilities() machine.Capabilities {
	return machine.Capabilities{
		Save: !d.Lacks.Save, Shares: !d.Lacks.Shares, HotShares: !d.Lacks.HotShares,
		Stream: !d.Lacks.Stream, Tap: !d.Lacks.Tap,
		Control: machine.Vsock,
		Disks:   plan.DiskSlots + plan.MaxKeptDisks - d.Lacks.Disks,
	}
}

// Command names the hardware in words.
func (d *Driver) Command(spec machine.Spec) machine.Command {
	c := machine.Command{Path: spec.Machine.Engine.Path}
	c.Args = append(c.Args, fmt.Sprintf("memory=%d", spec.Machine.MemoryMiB), "kernel="+spec.Kernel, "initramfs="+spec.Initramfs)
	for slot, disk := range spec.Disks {
		if disk.Path != "" {
			c.Args = append(c.Args, machine.Serial(slot)+"="+disk.Path)
		}
	}
	return c
}

// VMMs returns all that were started, in order.
func (d *Driver) VMMs() []*VMM {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*VMM(nil), d.vmms...)
}

// Start starts a VMM whose guest boots, or waits to be restored.
func (d *Driver) Start(ctx context.Context, spec machine.Spec, files machine.Files) (machine.VMM, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	v := &VMM{Spec: spec, log: files.Log, done: make(chan struct{}), up: make(chan struct{}), events: make(chan machine.Event, machine.EventBuffer)}
	d.mu.Lock()
	n := len(d.vmms)
	d.vmms = append(d.vmms, v)
	d.mu.Unlock()
	if d.Script != nil {
		v.script = d.Script(n, spec)
	}
	if f := v.script[Start]; f.Err != nil && !f.Die {
		v.end(f.Err)
		return nil, f.Err
	}
	if v.happens(Start) != nil {
		return v, nil // it was started, and has died
	}
	if !spec.Incoming {
		close(v.up)
	}
	return v, nil
}

// VMM is a fake virtual machine monitor.
type VMM struct {
	Spec machine.Spec

	script Script
	log    io.Writer
	done   chan struct{} // closed at its end; err is set before
	up     chan struct{} // closed when the guest runs

	mu     sync.Mutex // guards what follows, and who posts events
	events chan machine.Event
	err    error
	conns  []net.Conn // the guest's ends
	port   net.Conn   // that of the last conversation
	steps  []Step
	agent  agent
	work   sync.WaitGroup

	consoles sync.WaitGroup // until what the kernel prints at its start was read
}

// errKilled is why a VMM ended that was killed.
var errKilled = errors.New("signal: killed")

// PID is 0: there is no process.
func (v *VMM) PID() int { return 0 }

// Done is closed when the VMM has ended.
func (v *VMM) Done() <-chan struct{} { return v.done }

// Err waits for the VMM's end and returns why it ended.
func (v *VMM) Err() error {
	<-v.done
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err
}

// Steps returns what was asked of the VMM and its guest.
func (v *VMM) Steps() []Step {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]Step(nil), v.steps...)
}

// Configured returns what the guest was made; nil before.
func (v *VMM) Configured() *wire.Configure {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.agent.configured
}

// Kill ends the VMM and waits for its goroutines.
func (v *VMM) Kill() {
	v.end(errKilled)
	v.work.Wait()
}

// Say makes the guest break into the conversation with these bytes.
func (v *VMM) Say(b []byte) {
	v.mu.Lock()
	port := v.port
	v.mu.Unlock()
	port.Write(b)
}

// End ends the VMM without a last word of its own.
func (v *VMM) End(err error) { v.end(err) }

// Die ends the VMM as if it did so by itself.
func (v *VMM) Die(err error) {
	if err != nil {
		fmt.Fprintln(v.log, err)
	}
	v.end(err)
}

func (v *VMM) end(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.done:
		return
	default:
	}
	v.err = err
	for _, c := range v.conns {
		c.Close()
	}
	close(v.done)
	close(v.events)
}

// Events returns what the test tells of the machine, and why it was shut down.
func (v *VMM) Events() <-chan machine.Event { return v.events }

// Tell makes e happen to the machine.
func (v *VMM) Tell(e machine.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.done:
	default:
		machine.Post(v.events, e)
	}
}

// Continue lets the guest go on.
func (v *VMM) Continue(ctx context.Context) error {
	if err := v.within(ctx, Continue); err != nil {
		return err
	}
	v.Tell(machine.Event{Kind: machine.Resumed})
	return nil
}

// errDead is the error of what is asked of a VMM that has ended.
var errDead = errors.New("the VMM has ended")

// happens notes a step and does what the script says. An error means that the step
// does not go well.
func (v *VMM) happens(s Step) error {
	v.mu.Lock()
	v.steps = append(v.steps, s)
	v.mu.Unlock()
	f, ok := v.script[s]
	if !ok {
		return nil
	}
	if f.Do != nil {
		f.Do()
	}
	switch {
	case f.Die:
		v.Die(f.Err)
		return errDead
	case f.Silent:
		<-v.done
		return errDead
	}
	return f.Err
}

// within is happens, for as long as ctx lasts.
func (v *VMM) within(ctx context.Context, s Step) error {
	result := make(chan error, 1)
	v.work.Go(func() { result <- v.happens(s) })
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Dial opens a connection to the guest, or to its console.
func (v *VMM) Dial(_ context.Context, name machine.Socket) (net.Conn, error) {
	var serve func(net.Conn)
	switch {
	case name == machine.Console:
		serve = v.console
	case name == machine.Control:
		serve = v.control
	case name == machine.NetworkCard && v.Spec.Card != nil && !v.Spec.Card.Tap:
		serve = func(c net.Conn) { io.Copy(io.Discard, c) }
	default:
		return nil, fmt.Errorf("the VMM has no %s", name)
	}
	ours, theirs := net.Pipe()
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.done:
		theirs.Close() // an end of file, as a socket has
		return ours, nil
	default:
	}
	v.conns = append(v.conns, theirs)
	switch name {
	case machine.Console:
		v.consoles.Add(1)
	case machine.Control:
		v.port = theirs
	}
	v.work.Go(func() {
		defer theirs.Close()
		serve(theirs)
	})
	return ours, nil
}

// Banner is what the kernel of a guest prints.
const Banner = "Linux version 6.12.0-fake\n"

func (v *VMM) console(c net.Conn) {
	select {
	case <-v.up:
		io.WriteString(c, Banner)
		v.consoles.Done()
		<-v.done
	case <-v.done:
		v.consoles.Done()
	}
}

// control is the guest's agent on one connection.
func (v *VMM) control(c net.Conn) {
	select {
	case <-v.up:
	case <-v.done:
		return
	}
	v.consoles.Wait()
	if v.happens(Greet) != nil {
		return
	}
	session, err := wire.Accept(c, bufio.NewReader(c), nil)
	if err != nil {
		return
	}
	defer session.Close()
	var streams sync.WaitGroup
	defer streams.Wait()
	for {
		stream, err := session.Accept()
		if err != nil {
			return
		}
		streams.Go(func() {
			defer stream.Close()
			v.answer(stream)
		})
	}
}

// savedState is what Save writes.
type savedState struct{ Prepared bool }

// Save writes what the agent knows.
func (v *VMM) Save(ctx context.Context, w io.Writer) (time.Duration, error) {
	if err := v.within(ctx, Save); err != nil {
		return 0, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Millisecond, json.NewEncoder(w).Encode(savedState{v.agent.prepared})
}

// Restore lets the guest go on that was saved.
func (v *VMM) Restore(ctx context.Context, r io.Reader) error {
	if err := v.within(ctx, Restore); err != nil {
		return err
	}
	if !v.Spec.Incoming {
		return errors.New("the VMM does not wait for a saved machine")
	}
	var s savedState
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return fmt.Errorf("read the saved state: %w", err)
	}
	v.mu.Lock()
	v.agent.prepared = s.Prepared
	v.mu.Unlock()
	close(v.up)
	return nil
}

// Quit ends the VMM.
func (v *VMM) Quit(ctx context.Context) error {
	if err := v.within(ctx, Quit); err != nil {
		return err
	}
	v.Tell(machine.Event{Kind: machine.Shutdown, Reason: machine.ByHostRequest})
	v.end(nil)
	return nil
}
