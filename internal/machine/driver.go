package machine

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Driver runs machines with one engine. All drivers pass the suite of package
// conformance.
type Driver interface {
	// Capabilities says what machines of this driver can have.
	Capabilities() Capabilities
	// Command returns the command line that Start runs for spec. It depends on
	// spec alone and opens nothing: a dry run prints it, and a saved machine is
	// identified by it.
	Command(spec Spec) Command
	// Start starts the VMM of spec. ctx bounds the start and not the VMM's life:
	// that ends by itself, by Kill, or with this process.
	Start(ctx context.Context, spec Spec, files Files) (VMM, error)
}

// VMM is a virtual machine monitor that was started. Its methods may be called
// from several goroutines.
type VMM interface {
	// PID is the process in which the guest runs.
	PID() int
	// Done is closed when the VMM has ended.
	Done() <-chan struct{}
	// Err waits for the VMM's end and returns why it ended: nil after a clean end.
	Err() error
	// Dial opens a connection of the machine: Control, Console, or the
	// NetworkCard of a machine that has one. A later connection takes over from
	// an earlier one of the same name. Closing it leaves the machine alone.
	Dial(ctx context.Context, name Socket) (net.Conn, error)
	// Save stops the guest and writes its state, without the memory, to w. It
	// returns for how long the guest has stood still. Nothing but Kill follows.
	Save(ctx context.Context, w io.Writer) (pause time.Duration, err error)
	// Restore gives a VMM that was started with Spec.Incoming the state that Save
	// wrote, and lets the guest go on.
	Restore(ctx context.Context, r io.Reader) error
	// Events returns what happens to the machine. It is closed when the VMM has ended.
	Events() <-chan Event
	// Continue lets a guest go on that is Paused.
	Continue(ctx context.Context) error
	// Quit asks the VMM to end, without asking the guest, and waits for that.
	Quit(ctx context.Context) error
	// Kill ends the VMM at once and waits for that. It may be called again.
	Kill()
}

// Files are what a VMM is given open. They stay the caller's.
type Files struct {
	// Log takes what the VMM prints. All of it is written when the VMM has ended.
	Log io.Writer
	// Given are the files that a Command only names: Tap, ShareFile.
	Given map[string]*os.File
}

// Channel is the device through which host and guest talk.
type Channel string

// The channels.
const (
	VirtioSerial Channel = "virtio-serial"
	Vsock        Channel = "vsock"
)

// Capabilities are what machines of a driver can have.
type Capabilities struct {
	// Save says that a machine can be saved and restored.
	Save bool
	// Shares says that directories can be served to a machine from its start, and
	// HotShares that they can also be added to one that runs.
	Shares, HotShares bool
	// Stream says that a card's frames can go over a connection, and Tap that they
	// can go through a tap of the host's.
	Stream, Tap bool
	Control     Channel
	// Disks is the greatest number of disks, those of the slots and kept ones.
	Disks int
}

// Check returns an error if spec needs what c does not have.
func (c Capabilities) Check(spec Spec) error {
	disks := plan.DiskSlots + len(spec.Kept)
	switch {
	case spec.Incoming && !c.Save:
		return fmt.Errorf("the engine cannot restore machines")
	case len(spec.Shares) > 0 && !c.Shares:
		return fmt.Errorf("the engine has no live directories")
	case spec.Card != nil && spec.Card.Tap && !c.Tap:
		return fmt.Errorf("the engine has no cards on a bridge")
	case spec.Card != nil && !spec.Card.Tap && !c.Stream:
		return fmt.Errorf("the engine has no network")
	case disks > c.Disks:
		return fmt.Errorf("the engine takes %d disks, and the machine has %d", c.Disks, disks)
	}
	return nil
}
