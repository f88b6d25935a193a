package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// secrets gets the values of the plan's secrets.
func (a *app) secrets(ctx context.Context, p plan.Plan) (map[string]secret.Value, error) {
	values := make(map[string]secret.Value)
	var errs []error
	for _, s := range p.Network.Secrets {
		v, err := secret.Resolve(ctx, s.From, a.getenv)
		if err != nil {
			errs = append(errs, fmt.Errorf("secret %s: %w", s.Name, err))
			continue
		}
		values[s.Name] = v
	}
	return values, errors.Join(errs...)
}

// reportNetwork says what the machine was refused, and writes what it reached to the
// file learn if that is not empty.
func (a *app) reportNetwork(m state.Machine, p plan.Plan, learn string) error {
	if p.Network.Mode != plan.NetworkUser {
		return nil
	}
	if st, err := control.ChangeNetwork(m, control.NetworkChange{}); err != nil {
		a.debug("%v", err)
	} else if n := deniedCount(st); n > 0 {
		what := "connections"
		if n == 1 {
			what = "connection"
		}
		a.note("%d %s denied: %s; mayfly audit %s", n, what, deniedSummary(st), m.Name)
	}
	if learn == "" {
		return nil
	}
	return a.learn(m, learn)
}

// checkLearn finds out before a long run whether its list can be written.
func checkLearn(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return usageError{hint.Errorf("rm "+path+", or another name", "--learn: %s is there already", path)}
	}
	if fi, err := os.Stat(filepath.Dir(path)); err != nil || !fi.IsDir() {
		return usageError{fmt.Errorf("--learn: there is no directory %s", filepath.Dir(path))}
	}
	return nil
}

// learn writes the hosts that the machine m reached as a configuration.
func (a *app) learn(m state.Machine, path string) error {
	type host struct {
		name string
		port int
	}
	reached := make(map[host]bool)
	refused := make(map[host]string)
	err := audit.Read(m.AuditFile(), func(e audit.Event) error {
		if e.Kind != audit.Flow && e.Kind != audit.Name {
			return nil
		}
		h := host{cmp.Or(e.Name, e.Addr), e.Port}
		switch e.Verdict {
		case audit.Allow:
			reached[h] = true
		case audit.Deny:
			refused[h] = e.Reason
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("learn what the machine reached: %w", err)
	}
	order := func(x, y host) int {
		return cmp.Or(strings.Compare(x.name, y.name), x.port-y.port)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# What machine %s reached. Look at it before you use it:\n# mayfly run --config %s\nversion = 1\n\n[network]\negress = \"allowlist\"\nallow = [\n", m.Name, path)
	for _, h := range slices.SortedFunc(maps.Keys(reached), order) {
		fmt.Fprintf(&b, "\t%q,\n", plan.Rule{Host: h.name, Port: h.port})
	}
	b.WriteString("]\n")
	if len(refused) > 0 {
		b.WriteString("\n# It was refused:\n")
	}
	for _, h := range slices.SortedFunc(maps.Keys(refused), order) {
		fmt.Fprintf(&b, "#   %q: %q\n", plan.Rule{Host: h.name, Port: h.port}, refused[h])
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = f.WriteString(b.String())
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("write what the machine reached: %w", err)
	}
	a.note("%d hosts and ports are in %s", len(reached), path)
	return nil
}
