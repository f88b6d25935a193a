package supervisor

import (
	"fmt"
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
