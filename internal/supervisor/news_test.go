package supervisor

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// What a guest tells of itself is bounded, and fit to be printed.
func TestTellKilled(t *testing.T) {
	heard := &recorder{}
	s := &supervisor{events: newEvents(heard), log: slog.New(slog.DiscardHandler)}
	s.plan.Machine.MemoryMiB = 2048
	s.machine.Name = "m"
	s.tellKilled(wire.Killed{Program: "a\x1b[2J\n" + strings.Repeat("x", 1<<20)})
	all := heard.all()
	if len(all) != 1 {
		t.Fatalf("%d events; want 1", len(all))
	}
	e := all[0]
	if e.Code != control.NoteOutOfMemory || e.Args["name"] != "m" || e.Args["memory"] != "2 GiB" || len(e.Note) > 400 || strings.ContainsAny(e.Note, "\x1b\n") {
		t.Errorf("the event is %+v; want a line", e)
	}
}
