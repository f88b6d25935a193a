package supervisor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// A guest can tell as much as it likes: of more than newsBurst in newsInterval nobody
// hears.
const (
	newsBurst    = 4
	newsInterval = 10 * time.Second
)

// maxProgram bounds the name of a program that a guest tells of, in bytes.
const maxProgram = 64

// follow tells what the guest says that happens in it, until the conversation ends.
func (s *supervisor) follow(g *guest) {
	stream, err := g.open()
	if err != nil {
		return
	}
	defer stream.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var clock sync.WaitGroup
	defer clock.Wait()
	defer cancel()
	clock.Go(func() { s.keepClock(ctx, g) })
	var began time.Time
	heard := 0
	client.News(stream, func(n wire.News) {
		if now := time.Now(); now.Sub(began) >= newsInterval {
			began, heard = now, 0
		}
		if heard++; heard > newsBurst || n.Killed == nil {
			return
		}
		s.tellKilled(*n.Killed)
	})
}

// clockInterval is how often a guest hears the time when nobody uses it.
const clockInterval = 10 * time.Second

// keepClock has the guest put its clock right until ctx ends. Each request tells it the
// time.
func (s *supervisor) keepClock(ctx context.Context, g *guest) {
	tick := time.NewTicker(clockInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		stream, err := g.open()
		if err != nil {
			return
		}
		stop := context.AfterFunc(ctx, func() { abandon(stream) })
		stream.SetDeadline(time.Now().Add(clockInterval))
		if _, err := client.Clock(stream, 0); err != nil {
			s.log.Debug("tell the guest the time", "err", err)
		}
		stop()
		stream.Close()
	}
}

// tellKilled says that the guest ran out of memory.
func (s *supervisor) tellKilled(k wire.Killed) {
	program := termsafe.Line(k.Program[:min(len(k.Program), maxProgram)])
	memory := fmt.Sprintf("%d MiB", s.plan.Machine.MemoryMiB)
	if gib := s.plan.Machine.MemoryMiB / 1024; gib*1024 == s.plan.Machine.MemoryMiB {
		memory = fmt.Sprintf("%d GiB", gib)
	}
	s.log.Info("the guest ran out of memory", "program", program)
	args := fault.Args{"name": s.machine.Name, "memory": memory, "program": program}
	s.note(control.NoteOutOfMemory, args, "the machine ran out of memory (%s): its kernel killed %s", memory, program)
}
