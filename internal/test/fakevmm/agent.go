package fakevmm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// agent is what the agent of a guest knows.
type agent struct {
	prepared   bool
	configured *wire.Configure
	adjusted   time.Duration // of its clock
}

// answer serves one stream.
func (v *VMM) answer(stream io.ReadWriter) {
	var req wire.Request
	if wire.ReadMessage(stream, &req) != nil {
		return
	}
	err := v.happens(Step(req.Op))
	if errors.Is(err, errDead) {
		return
	}
	switch req.Op {
	case wire.OpHello:
		wire.WriteMessage(stream, wire.Hello{Version: wire.Version, Kernel: "6.12.0-fake", Uptime: int64(time.Second)})
	case wire.OpPrepare:
		if err == nil {
			err = v.prepare(req.Prepare)
		}
		wire.WriteMessage(stream, wire.Prepared{Error: text(err), Nanos: int64(time.Second)})
	case wire.OpConfigure:
		if err == nil {
			err = v.configure(req.Configure)
		}
		wire.WriteMessage(stream, wire.Configured{Error: text(err), Nanos: int64(time.Second)})
	case wire.OpClock:
		v.mu.Lock()
		v.agent.adjusted += time.Duration(req.Clock.Adjust)
		now := time.Now().Add(v.agent.adjusted)
		v.mu.Unlock()
		wire.WriteMessage(stream, wire.Clocked{Now: now.UnixNano()})
	case wire.OpExec:
		frames := wire.NewFrameWriter(stream)
		frames.Write(wire.FrameExit, []byte{0})
	case wire.OpBooted:
		wire.WriteMessage(stream, wire.Booted{State: "running"})
	case wire.OpPowerOff:
		wire.WriteMessage(stream, wire.Configured{Error: text(err)})
		if err == nil {
			v.Tell(machine.Event{Kind: machine.Shutdown, Reason: machine.ByGuest})
			v.end(nil)
		}
	default:
		wire.WriteMessage(stream, wire.Configured{Error: text(err)})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// prepare does what a guest does that mounts its image.
func (v *VMM) prepare(p *wire.Prepare) error {
	if len(p.Layers) == 0 {
		return errors.New("there are no layers")
	}
	for _, serial := range p.Layers {
		if err := v.readable(serial); err != nil {
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.agent.prepared = true
	return nil
}

// configure does what a guest does that becomes a machine.
func (v *VMM) configure(c *wire.Configure) error {
	v.mu.Lock()
	prepared, configured := v.agent.prepared, v.agent.configured != nil
	v.mu.Unlock()
	switch {
	case !prepared:
		return errors.New("the guest is not prepared")
	case configured:
		return errors.New("the guest is configured already")
	}
	if err := v.readable(machine.Serial(plan.SlotScratch)); err != nil {
		return err
	}
	if c.Workspace != nil {
		if err := v.readable(c.Workspace.Serial); err != nil {
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.agent.configured = c
	return nil
}

// readable reports whether the disk with this serial number has a content.
func (v *VMM) readable(serial string) error {
	for slot, disk := range v.Spec.Disks {
		if machine.Serial(slot) != serial || disk.Path == "" {
			continue
		}
		f, err := os.Open(disk.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Read(make([]byte, 1)); err != nil {
			return fmt.Errorf("read disk %s: %w", serial, err)
		}
		return nil
	}
	return fmt.Errorf("no disk has the serial number %s", serial)
}
