package mayfly

import (
	"context"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// The states of a machine beside "starting", "running", "stopping" and "dead".
const (
	StateStopped     = engine.Stopped              // defined, and does not run
	StatePaused      = string(control.Paused)      // it stands still, as when the host's disk is full
	StateUnreachable = string(control.Unreachable) // its guest has broken off the conversation
)

// The states of a machine's image.
const (
	ImageCurrent  = engine.ImageCurrent
	ImageStale    = engine.ImageStale    // it runs with another one than it would be started with now
	ImageOutdated = engine.ImageOutdated // the one that it would be started with is not built
)

// Info is what a list of machines has of one.
type Info struct {
	Name      string    `json:"name"`
	State     string    `json:"state"`
	Started   time.Time `json:"started"`
	Kept      bool      `json:"kept"`
	Workspace string    `json:"workspace"`
	VCPUs     int       `json:"vcpus"`
	MemoryMiB int       `json:"memory_mib"`

	Defined  bool      `json:"defined"`           // has a file of its own
	File     string    `json:"file,omitempty"`    // that file
	Network  string    `json:"network"`           // none, user or bridge
	Address  string    `json:"address,omitempty"` // on a bridge
	Image    string    `json:"image"`             // ImageCurrent, …; empty for a machine without a file
	Changed  bool      `json:"changed"`           // the file was changed since the machine was started
	Sessions []Session `json:"sessions,omitempty"`
	// Ports are those that are published, or that a start would publish.
	Ports []Port `json:"ports,omitempty"`
	// Listening are the ports on which programs of the machine listen, as it says itself.
	Listening []Listening `json:"listening,omitempty"`
	// MemoryUsed and DiskUsed are in bytes, of the host's.
	MemoryUsed int64 `json:"memory_used"`
	DiskUsed   int64 `json:"disk_used"`
	// DiskBound is how much the guest can write to its own disk, in bytes.
	DiskBound int64 `json:"disk_bound,omitempty"`
	// Reason says why the machine is paused or unreachable, or how it died.
	Reason string `json:"reason,omitempty"`

	// FileError says that nothing can be started from the file, and PlanError that it
	// could not be planned, and why.
	FileError error `json:"-"`
	PlanError error `json:"-"`
	// Trouble is what Reason says, as an [Error].
	Trouble error `json:"-"`
}

// List returns all machines, sorted by name.
func (c *Client) List(ctx context.Context) ([]Info, error) {
	rows, err := c.e.List(ctx)
	if err != nil {
		return nil, public(err)
	}
	return convert(rows, newInfo), nil
}

func newInfo(r engine.Listed) Info {
	reason := ""
	if r.Trouble != nil {
		reason = r.Trouble.Error()
	}
	return Info{
		r.Name, r.State, r.Started, r.Kept, r.Workspace, r.VCPUs, r.MemoryMiB,
		r.Defined, r.File, r.Network, r.Address, r.Image, r.Changed, newSessions(r.Sessions), convert(r.Ports, func(p plan.Port) Port { return Port(p) }),
		convert(r.Listening, func(l control.Listening) Listening { return Listening(l) }),
		r.MemoryUsed, r.DiskUsed, r.DiskBound, reason, public(r.FileErr), public(r.PlanErr), public(r.Trouble),
	}
}

// Details is what is known of one machine.
type Details struct {
	Info
	// Plan is how the machine was started, or would be.
	Plan Plan
	// Persists is all that outlives a stop.
	Persists []Persist
	Walls    Walls
	// Undo is the machine's last apply, nil if it cannot be taken back.
	Undo *Undoable
}

// Walls are those around a machine's QEMU that not every host has. Its filter of system
// calls is always there.
type Walls struct {
	Namespaces bool `json:"namespaces"` // a root, processes and a network of its own
	Landlock   int  `json:"landlock"`   // the kernel's version of it; 0 for none
}

// What outlives a stop.
const (
	PersistCopy    = engine.PersistCopy    // the private copy of the workspace
	PersistChanges = engine.PersistChanges // its changes that were not applied, and what PersistAgents is
	PersistAgents  = engine.PersistAgents  // the state of coding agents, and with History that of shells
	PersistVolume  = engine.PersistVolume
	PersistHostKey = engine.PersistHostKey // of SSH; a reset leaves it
)

// Persist is one thing that outlives a stop.
type Persist struct {
	What    string
	Volume  string // its name
	SizeMiB int    // of the volume
	History bool
	In      string // the place in the machine
	Path    string // on the host
	Bytes   int64  // that it takes there
}

// Inspect returns what is known of the machine name.
func (c *Client) Inspect(ctx context.Context, name string) (Details, error) {
	d, err := c.e.Inspect(ctx, name)
	if err != nil {
		return Details{}, public(err)
	}
	persists := convert(d.Persists, func(p engine.Persist) Persist { return Persist(p) })
	out := Details{newInfo(d.Listed), newPlan(d.Plan), persists, Walls(d.Walls), nil}
	if d.Undo != nil {
		undo := newUndoable(*d.Undo)
		out.Undo = &undo
	}
	return out, nil
}

// Names returns the names of machines that run or have left something, and of those that
// are defined.
func (c *Client) Names() (running, defined []string, err error) {
	if running, err = c.e.RunNames(); err != nil {
		return nil, nil, public(err)
	}
	defined, err = c.e.DefinedNames()
	return running, defined, public(err)
}

// Usage is what a running machine takes of the host.
type Usage struct {
	Name       string  `json:"name"`
	CPU        float64 `json:"cpu"`         // CPUs, as a mean since the last time: 1.5 for one and a half
	CPUSeconds float64 `json:"cpu_seconds"` // since the start
	Memory     int64   `json:"memory"`      // bytes
	Disk       int64   `json:"disk"`        // bytes
	DiskBound  int64   `json:"disk_bound"`  // of what its guest can write to its own disk
}

// Meter measures what running machines take.
type Meter struct{ m *engine.Meter }

// NewMeter begins to measure.
func (c *Client) NewMeter() (*Meter, error) {
	m, err := c.e.NewMeter()
	return &Meter{m}, public(err)
}

// Read returns what running machines take, with CPUs as a mean since the last time.
func (m *Meter) Read() ([]Usage, error) {
	rows, err := m.m.Read()
	if err != nil {
		return nil, public(err)
	}
	return convert(rows, func(u engine.Usage) Usage { return Usage(u) }), nil
}

// LogOptions choose what Logs reads.
type LogOptions struct {
	// Supervisor reads what the supervisor and the engine (VMM) have logged, in place
	// of the console.
	Supervisor bool
	// Follow goes on with what is added until the machine ends.
	Follow bool
}

// Logs calls write with what the console of the machine name has printed. It is the
// guest's text, not fit for a terminal as it is.
func (c *Client) Logs(ctx context.Context, name string, o LogOptions, write func([]byte) error) error {
	return public(c.e.Logs(ctx, name, engine.LogOptions(o), write))
}
