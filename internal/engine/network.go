package engine

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// ChangeNetwork changes what the running machine name may reach, and returns the state of
// its network.
func (e *Engine) ChangeNetwork(name string, change control.NetworkChange) (control.NetworkState, error) {
	m, err := e.find(name)
	if err != nil {
		return control.NetworkState{}, err
	}
	st, err := control.ChangeNetwork(m, change)
	return st, e.aboutVersion(err, name)
}

// Audit calls yield for each line of the audit log of the machine name, which may be
// gone. With follow it goes on with what is added until done is closed.
func (e *Engine) Audit(who string, follow bool, done <-chan struct{}, yield func(audit.Event) error) error {
	if err := naming.Check(who); err != nil {
		return InputError{err}
	}
	m := e.machines().At(who)
	writeAudit(m)
	path := m.AuditFile()
	read := audit.Read
	if follow {
		read = func(path string, yield func(audit.Event) error) error { return audit.Follow(path, done, yield) }
	}
	err := read(path, yield)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.AuditMissing, args{"name": who}, "there is no record of a machine %s", termsafe.Quote(who))
	case errors.Is(err, audit.ErrChanged):
		return fault.Wrap(err, fault.AuditChanged, args{"file": path})
	}
	return err
}

// writeAudit sees to it that all that m did is in its audit log, if m runs. An error is that
// of a machine that does not, or that has another version: its log is whole but for minutes.
func writeAudit(m state.Machine) {
	control.ChangeNetwork(m, control.NetworkChange{Audit: true})
}

// Reached is a host that a machine has asked for.
type Reached struct {
	Rule    plan.Rule
	Refused string // why; empty for one that it reached
}

// Reached returns the hosts that the machine has reached, and then those that it was
// refused, each sorted.
func (m Machine) Reached() ([]Reached, error) {
	type host struct {
		name string
		port int
	}
	reached := make(map[host]bool)
	refused := make(map[host]string)
	writeAudit(m.m)
	err := audit.Read(m.m.AuditFile(), func(e audit.Event) error {
		if e.Kind != audit.Flow && e.Kind != audit.Name {
			return nil
		}
		h := host{cmp.Or(e.Name, e.Addr), e.Port}
		if h.name == "" {
			return nil // many refusals that have nothing in common
		}
		switch e.Verdict {
		case audit.Allow:
			reached[h] = true
		case audit.Deny:
			refused[h] = e.Reason
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("learn what the machine reached: %w", err)
	}
	order := func(x, y host) int {
		return cmp.Or(strings.Compare(x.name, y.name), x.port-y.port)
	}
	var all []Reached
	for _, h := range slices.SortedFunc(maps.Keys(reached), order) {
		all = append(all, Reached{Rule: plan.Rule{Host: h.name, Port: h.port}})
	}
	for _, h := range slices.SortedFunc(maps.Keys(refused), order) {
		all = append(all, Reached{plan.Rule{Host: h.name, Port: h.port}, cmp.Or(refused[h], "refused")})
	}
	return all, nil
}
