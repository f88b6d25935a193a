package supervisor

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// How a machine is treated whose VMM has paused it because the host cannot write.
const (
	// roomInterval is the time between two looks at the free space.
	roomInterval = time.Second
	// roomBytes are enough to go on. Of a small file system a part of it is.
	roomBytes = 16 << 20
	roomPart  = 16
	// retryInterval is the time after which it is tried in any case: free space does not
	// tell of quotas.
	retryInterval = 10 * time.Second
	// settleInterval is the time for which a machine must go on to be well again: what
	// could not be written is written first.
	settleInterval = 300 * time.Millisecond
	// faultAge is the time after an error of a disk in which a pause is its doing.
	faultAge = 15 * time.Second
	// continueTimeout bounds the wait for a VMM that is to go on.
	continueTimeout = 5 * time.Second
)

// maxUnknown bounds the names of unknown events that are logged, each once.
const maxUnknown = 32

// ending is what a VMM has told of its end.
type ending struct {
	mu       sync.Mutex // guards what follows
	reason   string     // of its shutdown
	panicked bool
}

// hearer follows what a VMM tells, and lets its machine go on when it can.
type hearer struct {
	s    *supervisor
	v    *vm
	spec machine.Spec

	fault   machine.Event // the last error that pauses the guest, at that time
	faultAt time.Time
	paused  bool
	settle  bool      // it goes on, perhaps not for long
	floor   int64     // so many free bytes were too few
	tried   time.Time // to go on
	next    <-chan time.Time
	unknown map[string]bool
}

// hear follows what v tells until its end.
func (s *supervisor) hear(v *vm, spec machine.Spec) {
	h := hearer{s: s, v: v, spec: spec, unknown: make(map[string]bool)}
	for {
		select {
		case e, ok := <-v.Events():
			if !ok {
				return
			}
			h.take(e)
		case <-h.next:
			h.look()
		}
	}
}

func (h *hearer) take(e machine.Event) {
	log := h.s.log.With("event", string(e.Kind), "reason", e.Reason)
	switch e.Kind {
	case machine.IOError:
		if e != h.fault || time.Since(h.faultAt) > retryInterval {
			log.Warn("the host cannot serve a disk", "disk", e.Disk, "halts", e.Halts)
		}
		if !e.Halts {
			return
		}
		news := e != h.fault
		h.fault, h.faultAt = e, time.Now()
		if h.paused && !h.settle && news {
			h.say() // it came behind the pause
		}
	case machine.Paused:
		if time.Since(h.faultAt) > faultAge && !h.paused {
			h.fault = machine.Event{}
			if !h.v.ready.Load() {
				return // it is being saved
			}
		}
		h.settle, h.next = false, time.After(roomInterval)
		if !h.paused {
			h.paused, h.tried = true, time.Now()
			h.say()
		}
		_, _, h.floor = h.place()
	case machine.Resumed:
		if h.paused {
			h.settle, h.next = true, time.After(settleInterval)
		}
	case machine.Panicked, machine.Shutdown:
		log.Info("the machine ends")
		h.v.ending.mu.Lock()
		defer h.v.ending.mu.Unlock()
		if e.Kind == machine.Panicked {
			h.v.ending.panicked = true
		} else {
			h.v.ending.reason = e.Reason
		}
	case machine.MemoryFailure:
		log.Warn("the host's memory has a fault")
		h.s.note(control.NoteMemoryFailure, fault.Args{"name": h.s.machine.Name}, "the host's memory has a fault in what %s uses", h.s.machine.Name)
	case machine.UnknownEvent:
		if !h.unknown[e.Reason] && len(h.unknown) < maxUnknown {
			h.unknown[e.Reason] = true
			log.Debug("an unknown event")
		}
	default:
		log.Warn("the VMM tells")
	}
}

// look lets the machine go on if that may work now, and finds out whether it has.
func (h *hearer) look() {
	h.next = nil
	if h.settle {
		h.settle, h.paused = false, false
		h.s.changeCondition(control.Condition{Health: control.Well}, control.NoteGoesOn, "%s goes on", h.s.machine.Name)
		return
	}
	h.next = time.After(roomInterval)
	dir, enough, free := h.place()
	if h.fault.Kind == "" {
		return // nobody knows what it waits for
	}
	if now := time.Now(); free >= enough && free > h.floor || now.Sub(h.tried) >= retryInterval {
		h.tried, h.floor = now, free
		ctx, cancel := context.WithTimeout(context.Background(), continueTimeout)
		defer cancel()
		if err := h.v.Continue(ctx); err != nil {
			h.s.log.Warn("let the machine go on", "dir", dir, "free", free, "err", err)
		}
	}
}

// place returns the directory of the disk that could not be written, and of its file
// system how many bytes are enough to go on and how many are free.
func (h *hearer) place() (dir string, enough, free int64) {
	path := h.s.machine.File(state.ScratchFile)
	for slot, d := range h.spec.Disks {
		if machine.Serial(slot) == h.fault.Disk && slot != plan.SlotScratch && d.Path != "" {
			path = d.Path
		}
	}
	for i, d := range h.spec.Kept {
		if machine.KeptSerial(i) == h.fault.Disk && d.Path != "" {
			path = d.Path
		}
	}
	dir = filepath.Dir(path)
	u, err := h.s.measure(dir)
	if err != nil {
		return dir, roomBytes, 0
	}
	return dir, min(roomBytes, u.Total/roomPart), u.Free
}

// say tells that the machine stands still, and why.
func (h *hearer) say() {
	name := h.s.machine.Name
	c := control.Condition{Health: control.Paused, Code: fault.MachinePaused, Args: fault.Args{"name": name}}
	dir, _, free := h.place()
	switch {
	case h.fault.NoSpace:
		c.Args["dir"], c.Args["free"] = dir, strconv.FormatInt(free, 10)
		c.Reason = fmt.Sprintf("the file system of %s is full (%d MiB free); it goes on by itself when there is room", dir, free>>20)
	case h.fault.Kind != "":
		c.Args["dir"], c.Args["reason"] = dir, h.fault.Reason
		c.Reason = fmt.Sprintf("the host cannot write its disk in %s: %s; it is tried again every %v", dir, h.fault.Reason, retryInterval)
	default:
		c.Reason = "its VMM stopped it, and does not say why"
	}
	h.s.changeCondition(c, c.Code, "%s is paused: %s", name, c.Reason)
}

// changeCondition tells how the machine does from now on.
func (s *supervisor) changeCondition(c control.Condition, code fault.Code, format string, a ...any) {
	args := c.Args
	if args == nil {
		args = fault.Args{"name": s.machine.Name}
	}
	s.log.Warn("the condition changes", "health", string(c.Health), "reason", c.Reason)
	s.events.send(control.Event{Condition: &c, Note: fmt.Sprintf(format, a...), Code: code, Args: args})
}

// unreachable says that the guest has broken off the conversation.
func (s *supervisor) unreachable(reason string) {
	if s.events.how().Health == control.Unreachable {
		return
	}
	name := s.machine.Name
	c := control.Condition{Health: control.Unreachable, Reason: reason, Code: fault.MachineUnreachable, Args: fault.Args{"name": name, "reason": reason}}
	if s.plan.Keep != nil {
		c.Args["defined"] = name
	}
	s.changeCondition(c, c.Code, "%s is unreachable: %s", name, reason)
}
