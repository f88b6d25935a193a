// Package attack tries, from inside a machine, to reach what the machine must not
// reach.
//
// It runs in the guest, as root: mayfly doctor --attack copies the program there, and
// so do the tests. A Target flows in, what there is to aim at, and one Result for
// each attempt flows out. An attempt that gets through does no harm and sends nothing
// that means anything to anybody. What the host recorded of it, the host compares.
package attack

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Target is what there is to aim at.
type Target struct {
	// Egress is the policy in force, as in plan.Network: where all that is
	// public may be reached, reaching it is no attack.
	Egress string `json:"egress"`
	// Allowed is a host that may be reached on port 443, whose requests are
	// intercepted; empty for none.
	Allowed string `json:"allowed,omitempty"`
	// Limited is a host of which only requests with this method and path, or those
	// below it, are allowed; empty for none.
	Limited Limited `json:"limited,omitzero"`
	// Public is an address that is public and no allowed host's by itself.
	Public string `json:"public"`
	// Inside are addresses, with ports, that are the host's or behind it.
	Inside []string `json:"inside"`
	// Names are names that lead to such addresses, or that do not exist.
	Names []string `json:"names"`
	// Placeholder stands for a secret that may not go to Allowed.
	Placeholder string `json:"-"`
	// Lent is a host of a secret; empty for none.
	Lent Lent `json:"lent,omitzero"`
}

// Lent is a host to which a secret goes, and no other credential.
type Lent struct {
	Host        string `json:"host"`
	Placeholder string `json:"-"`
}

// Limited is what may be asked of a host.
type Limited struct {
	Host   string `json:"host"`
	Method string `json:"method"`
	Path   string `json:"path"`
}

// Result is how one attempt ended.
type Result struct {
	Name    string        `json:"name"`
	Refused bool          `json:"refused"`
	Skipped bool          `json:"skipped,omitempty"` // there was nothing to aim at
	How     string        `json:"how"`               // in a few words
	Took    time.Duration `json:"took"`              // ns
	// Trace is a text that the host's record must have a refused line with;
	// empty where nothing of it reaches the host.
	Trace string `json:"trace,omitempty"`
	// Passed says that Trace is in a line about a request that was allowed, had no secret put
	// in, and lost its placeholder.
	Passed bool `json:"passed,omitempty"`
}

// attempt is one way to get out. It reports how it ended: refused, or with an error
// that is not nil.
type attempt struct {
	name  string
	needs need
	try   func(ctx context.Context, t Target) (refused bool, how string)
	// trace is that of Result.
	trace  func(t Target) string
	passed bool // as in Result
	// beside is set for what only waits: it is begun first, beside the others.
	beside bool
}

// need is what an attempt cannot do without.
type need int

const (
	nothing   need = 0
	allowlist need = 1 << iota // a policy under which public hosts are not reached
	allowed                    // Target.Allowed
	secretOf                   // Target.Placeholder
	limited                    // Target.Limited
	lentTo                     // Target.Lent
	lentName                   // a placeholder that can be a header's name
)

func (n need) missing(t Target) string {
	switch {
	case n&allowlist != 0 && t.Egress == "public":
		return "all that is public may be reached"
	case n&(allowed|secretOf) != 0 && t.Allowed == "":
		return "no host is allowed that could be aimed at"
	case n&limited != 0 && t.Limited.Host == "":
		return "no rule limits methods or paths"
	case n&secretOf != 0 && t.Placeholder == "", n&lentTo != 0 && (t.Lent.Host == "" || t.Lent.Placeholder == ""):
		return "the machine has no secret"
	case n&lentName != 0 && !isName(t.Lent.Placeholder):
		return "the placeholder cannot be in a header's name"
	}
	return ""
}

// timeout bounds one attempt. One that takes as long was not refused at once.
const timeout = 45 * time.Second

// patience bounds one that only waits: a guest may take a minute for its headers.
const patience = 90 * time.Second

// Run makes all attempts, one after the other but for those that only wait, and reports each.
func Run(ctx context.Context, t Target, report func(Result)) error {
	list := all(t)
	beside := make([]chan Result, len(list))
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, a := range list {
		if a.beside {
			beside[i] = make(chan Result, 1)
			wg.Go(func() { beside[i] <- a.run(ctx, t) })
		}
	}
	for i, a := range list {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if a.beside {
			report(<-beside[i])
		} else {
			report(a.run(ctx, t))
		}
	}
	return nil
}

func (a attempt) run(ctx context.Context, t Target) Result {
	r := Result{Name: a.name}
	if why := a.needs.missing(t); why != "" {
		r.Skipped, r.How = true, why
		return r
	}
	begun := time.Now()
	most := timeout
	if a.beside {
		most = patience
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	r.Refused, r.How = a.try(ctx, t)
	r.Took = time.Since(begun)
	if a.trace != nil {
		r.Trace, r.Passed = a.trace(t), a.passed
	}
	return r
}

func all(t Target) []attempt {
	var list []attempt
	list = append(list, addresses(t)...)
	list = append(list, names(t)...)
	list = append(list, requests()...)
	list = append(list, secrets()...)
	list = append(list, bodies()...)
	list = append(list, attempt{name: "slow headers", needs: allowed, try: slowHeaders, trace: traceOf("headers"), beside: true})
	list = append(list, packets()...)
	return append(list, floods()...)
}

func traceOf(text string) func(Target) string { return func(Target) string { return text } }

func refusedBy(err error) (bool, string) { return true, err.Error() }

func gotThrough(format string, args ...any) (bool, string) {
	return false, fmt.Sprintf(format, args...)
}
