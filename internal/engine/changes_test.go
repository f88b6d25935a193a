package engine

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// A guest that says nothing more, or takes nothing, is not waited for for ever. One that
// goes on is, however long it takes.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 500 * time.Millisecond
		host, guest := net.Pipe()
		defer host.Close()
		defer guest.Close()
		p := patient{host, "m", limit}
		go func() {
			for range 12 {
				time.Sleep(limit / 10)
				guest.Write([]byte("x"))
			}
		}()
		if _, err := io.ReadFull(p, make([]byte, 12)); err != nil {
			t.Errorf("a slow guest: %v", err)
		}
		for name, do := range map[string]func([]byte) (int, error){"read": p.Read, "write": p.Write} {
			begun := time.Now()
			if _, err := do(make([]byte, 1)); fault.CodeOf(err) != fault.MachineSilent {
				t.Errorf("%s = %v; want the code %s", name, err, fault.MachineSilent)
			}
			if took := time.Since(begun); took != limit {
				t.Errorf("%s took %v; want %v", name, took, limit)
			}
		}
	})
}

// A list that will be too long is refused while the guest counts.
func TestListed(t *testing.T) {
	var told []Event
	m := Machine{m: state.Machine{Name: "m"}, p: plan.Plan{Name: "m"}, e: &Engine{opt: Options{Tell: func(e Event) { told = append(told, e) }}}}
	for _, p := range []wire.Progress{{Counted: 5}, {Counted: 1_000_000, Names: 100 << 20}, {Counted: 7, Listed: 3, Read: 5 << 20}} {
		if err := m.listed(p, &workspace.DiffOptions{Memory: 4 << 30}); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if len(told) != 3 || told[0].Code != ProgressCounted || told[2].Code != ProgressListed || told[2].Args["mib"] != "5" || told[2].Args["listed"] != "3" {
		t.Errorf("told was %+v", told)
	}
	for _, p := range []wire.Progress{{Counted: 1_000_001}, {Counted: 5, Names: 256<<20 + 1}} {
		if err := m.listed(p, &workspace.DiffOptions{Memory: 4 << 30}); fault.CodeOf(err) != fault.ChangesTooMany {
			t.Errorf("%+v: %v; want the code %s", p, err, fault.ChangesTooMany)
		}
	}
}
