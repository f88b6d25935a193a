package engine

import (
	"context"
	"os"
	"syscall"

	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/proc"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Details is what is known of one machine.
type Details struct {
	Listed
	// Plan is how the machine was started, or would be. It has no name when nothing
	// is known.
	Plan plan.Plan
	// Persists is all that outlives a stop.
	Persists []Persist
	Walls    Walls
	// Undo is the machine's last apply, if it can be taken back.
	Undo *workspace.UndoRecord
}

// Walls are those around a machine's VMM that the host has or has not.
type Walls struct {
	Namespaces bool // a root, processes and a network of its own
	Landlock   int  // the kernel's version of it; 0 for none
}

// What outlives a stop.
const (
	PersistCopy    = "copy"    // the private copy of the workspace
	PersistChanges = "changes" // changes of it that were not applied, the state of coding agents, and with History that of shells
	PersistAgents  = "agents"  // the state of coding agents, and with History that of shells
	PersistVolume  = "volume"
	PersistHostKey = "host-key" // of SSH; it outlives a reset, too
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
func (e *Engine) Inspect(ctx context.Context, name string) (Details, error) {
	rows, err := e.List(ctx)
	if err != nil {
		return Details{}, err
	}
	var out Details
	for _, r := range rows {
		if r.Name == name {
			out.Listed = r
		}
	}
	if out.Name == "" {
		_, err := e.find(name)
		return out, err
	}
	if m, err := e.find(name); err == nil && m.Alive() {
		if out.Plan, err = e.planOf(m); err != nil {
			return out, err
		}
	} else if out.Defined {
		if out.Plan, err = e.planNamed(ctx, e.definitions().At(name), true); err != nil {
			return out, err
		}
	}
	if last, err := e.LastApply(name); err == nil {
		out.Undo = &last
	}
	out.Walls = Walls{Namespaces: out.Plan.Machine.Engine.Isolate, Landlock: proc.LandlockVersion()}
	if d, ok := definition.Of(out.Plan); ok {
		out.Persists = persists(d, out.Plan)
	}
	return out, nil
}

// persists lists all that outlives a stop of the machine.
func persists(d definition.Definition, p plan.Plan) []Persist {
	var list []Persist
	add := func(row Persist) {
		if fi, err := os.Stat(row.Path); err == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				row.Bytes = st.Blocks * 512
			}
		}
		list = append(list, row)
	}
	keep := Persist{What: PersistAgents, History: p.Keep.History != "", Path: d.File(definition.KeepFile)}
	if p.Workspace.Copied() {
		add(Persist{What: PersistCopy, In: p.Workspace.Path, Path: d.File(definition.CopyFile)})
		keep.What, keep.In = PersistChanges, p.Workspace.Path
	}
	add(keep)
	for _, v := range p.Volumes {
		add(Persist{What: PersistVolume, Volume: v.Name, SizeMiB: v.SizeMiB, In: v.Mount, Path: d.VolumeFile(v.Name)})
	}
	if key := d.File(definition.HostKeyFile); exists(key) {
		add(Persist{What: PersistHostKey, Path: key})
	}
	return list
}
