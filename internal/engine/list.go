package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// Stopped is the state of a machine that is defined and does not run. The others are the
// phases of package state, and of one that is ready and not well its control.Health.
const Stopped = "stopped"

// The states of a machine's image.
const (
	ImageCurrent  = "current"
	ImageStale    = "stale"    // it runs with another one than it would be started with now
	ImageOutdated = "outdated" // the one that it would be started with is not built
)

// Listed is what a list of machines has of one.
type Listed struct {
	Name      string
	State     string
	Started   time.Time
	Kept      bool
	Workspace string
	VCPUs     int
	MemoryMiB int

	Defined  bool   // has a file of its own
	File     string // that file
	Network  string // none, user or bridge
	Address  string // on a bridge
	Image    string // ImageCurrent, …; empty for a machine without a file
	Changed  bool   // the file was changed since the machine was started
	Sessions []wire.SessionInfo
	Ports    []plan.Port // that are published, or would be
	// Listening are the ports on which programs of the guest listen.
	Listening []control.Listening

	MemoryUsed int64 // bytes of the host's
	DiskUsed   int64 // bytes of the host's
	DiskBound  int64 // of what the guest can write to its own disk, bytes; 0 where that is not known
	Trouble    error // why the machine is paused or unreachable, or how it died
	FileErr    error // what is wrong with the file; nothing can be started from it
	PlanErr    error // why it could not be planned
}

// List returns all machines, sorted by name.
func (e *Engine) List(ctx context.Context) ([]Listed, error) {
	e.tellLive(ctx, "")
	machines := e.machines()
	running, err := machines.List()
	if err != nil {
		return nil, err
	}
	defined, err := e.definitions().List()
	if err != nil {
		return nil, err
	}
	rows := make([]Listed, 0, len(running)+len(defined))
	byName := make(map[string]int)
	for _, m := range running {
		byName[m.Name] = len(rows)
		rows = append(rows, runRow(m))
	}
	sessions := make([][]wire.SessionInfo, len(running))
	conditions := make([]control.Condition, len(running))
	ports := make([][]plan.Port, len(running))
	listening := make([][]control.Listening, len(running))
	var asked sync.WaitGroup
	for i, m := range running {
		ports[i] = rows[i].Ports
		if rows[i].State == string(state.Running) {
			asked.Go(func() { sessions[i], conditions[i] = Machine{e: e, m: m}.glance(ctx) })
			asked.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, glanceTimeout)
				defer cancel()
				if now, heard, ok := control.PortsOf(ctx, m); ok {
					ports[i], listening[i] = now, heard
				}
			})
		}
	}
	if len(defined) > 0 {
		look := e.newLook(ctx)
		for _, d := range defined {
			i, ok := byName[d.Name]
			if !ok {
				i = len(rows)
				rows = append(rows, Listed{Name: d.Name, State: Stopped})
			}
			look.define(&rows[i], d, machines.At(d.Name))
		}
	}
	asked.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) // nobody was heard out
	}
	for i := range running {
		j := slices.IndexFunc(rows, func(r Listed) bool { return r.Name == running[i].Name })
		rows[j].Sessions, rows[j].Ports, rows[j].Listening = sessions[i], ports[i], listening[i]
		if err := conditions[i].Err(); err != nil {
			rows[j].State, rows[j].Trouble = string(conditions[i].Health), err
		}
	}
	slices.SortFunc(rows, func(x, y Listed) int { return cmp.Compare(x.Name, y.Name) })
	return rows, nil
}

// glance returns what a running machine says of itself at once: one that does not is busy,
// or lies.
func (m Machine) glance(ctx context.Context) ([]wire.SessionInfo, control.Condition) {
	c := control.ConditionOf(ctx, m.m, glanceTimeout)
	if c.Err() != nil {
		return nil, c // its guest does not answer
	}
	sessions, err := m.sessions(ctx, glanceTimeout)
	if err != nil {
		c = control.ConditionOf(ctx, m.m, glanceTimeout) // asking may have found it out
	}
	return sessions, c
}

// runRow is the row of a machine that runs, or has left its directory.
func runRow(m state.Machine) Listed {
	st := m.Status()
	row := Listed{Name: m.Name, State: string(st.Phase), Started: st.Started, Kept: st.Kept}
	if p, err := m.Plan(); err == nil {
		row.Workspace, row.VCPUs, row.MemoryMiB = p.Workspace.Path, p.Machine.VCPUs, p.Machine.MemoryMiB
		row.Network, row.Address, row.Ports = p.Network.Mode, p.Network.Address, p.Network.Ports
	}
	row.DiskUsed, row.DiskBound = diskUsed(m.Dir), diskBound(m)
	if st.Phase == state.Dead && st.Reason != "" {
		row.Trouble = fault.Wrap(errors.New(st.Reason), st.Code, args{"name": m.Name})
	}
	if st.Phase != state.Dead {
		row.MemoryUsed = residentBytes(st.VMM.PID)
	}
	return row
}

// look is what listing machines needs to know once.
type look struct {
	e       *Engine
	user    config.Sources
	userErr error
	facts   host.Facts
	err     error
	store   *image.Store
	found   []found
}

func (e *Engine) newLook(ctx context.Context) *look {
	l := &look{e: e}
	l.user, l.userErr = e.userSources()
	if l.facts, l.err = e.facts(ctx, false, false); l.err == nil {
		l.store, l.err = e.images()
	}
	return l
}

// define adds to a row what the definition says.
func (l *look) define(row *Listed, d definition.Definition, m state.Machine) {
	row.Defined, row.File = true, d.Path
	if fi, err := os.Stat(d.Path); err == nil && row.State == string(state.Running) && fi.ModTime().After(row.Started) {
		row.Changed = true
	}
	row.DiskUsed += diskUsed(d.Dir)
	cfg, err := l.load(d)
	if err != nil {
		row.FileErr = err
		return
	}
	if row.State == Stopped {
		row.Network, row.Address = cfg.Network.Mode, cfg.Network.Address
		if cfg.Workspace.Path != "" {
			row.Workspace = plan.WorkspacePath(cfg, l.e.home(), "")
		}
	}
	if l.err != nil {
		return
	}
	p, err := outline(cfg, l.facts, d)
	if err != nil {
		row.PlanErr = err
		return
	}
	if row.State == Stopped {
		row.VCPUs, row.MemoryMiB = p.Machine.VCPUs, p.Machine.MemoryMiB
		row.Ports = p.Network.Ports
	}
	row.Image = l.imageState(p, m)
}

// load reads the configuration of a machine, with the user's read once.
func (l *look) load(d definition.Definition) (config.Config, error) {
	file, err := config.ReadFile(d.Path)
	if err != nil {
		return config.Config{}, err
	}
	if l.userErr != nil {
		return config.Config{}, l.userErr
	}
	return mergeFile(l.user, file)
}

// lookup is the store's Lookup. Machines share images, and each has dozens of files to
// check.
func (l *look) lookup(pi plan.Image) (image.Image, error) {
	same := func(f found) bool { return f.plan.Equal(pi) }
	if i := slices.IndexFunc(l.found, same); i >= 0 {
		return l.found[i].image, l.found[i].err
	}
	f := found{plan: pi}
	f.image, f.err = l.store.Lookup(pi)
	l.found = append(l.found, f)
	return f.image, f.err
}

// found is what looking for an image has given.
type found struct {
	plan  plan.Image
	image image.Image
	err   error
}

func (l *look) imageState(p plan.Plan, m state.Machine) string {
	next, err := l.lookup(p.Image)
	if err != nil {
		return ImageOutdated
	}
	var now image.Image
	if m.Alive() && state.ReadJSON(m.File(state.ImageFile), &now) == nil && !slices.Equal(now.Files(), next.Files()) {
		return ImageStale
	}
	return ImageCurrent
}

// diskBound returns how much the guest can write to its scratch disk: the size of the file.
func diskBound(m state.Machine) int64 {
	fi, err := os.Stat(m.File(state.ScratchFile))
	if err != nil {
		return 0
	}
	return fi.Size()
}

// diskUsed returns the bytes that the files below dir take. Of a machine's directory
// there are few.
func diskUsed(dir string) int64 {
	var total int64
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			continue
		}
		if fi.IsDir() {
			total += diskUsed(filepath.Join(dir, e.Name()))
		} else if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			total += st.Blocks * 512
		}
	}
	return total
}

// residentBytes returns the memory that a process has of its own in bytes, 0 if that is
// not known: what a machine shares with its template is nobody's.
func residentBytes(pid int) int64 {
	if pid <= 0 {
		return 0
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}
