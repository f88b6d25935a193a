package mayfly

import (
	"context"
	"time"

	"github.com/mayfly-vm/mayfly/internal/attack"
	"github.com/mayfly-vm/mayfly/internal/engine"
)

// Health is what this computer can do.
type Health struct {
	Healthy bool     `json:"healthy"`
	Facts   document `json:"facts"`
	Checks  []Check  `json:"checks"`
}

// Check is one thing that machines need, or are better with.
type Check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // the command that closes the gap, if there is one
}

// Doctor looks at this computer anew. With fix it fetches a QEMU that is good enough where
// the distribution's is not, and as root gives this program an AppArmor profile where it
// takes one to make user namespaces; with refresh KVM is tested again.
func (c *Client) Doctor(ctx context.Context, refresh, fix bool) (Health, error) {
	h, err := c.e.Doctor(ctx, refresh, fix)
	if err != nil {
		return Health{}, public(err)
	}
	out := Health{Healthy: h.Healthy, Facts: newDocument(h.Facts)}
	for _, check := range h.Checks {
		out.Checks = append(out.Checks, Check{check.Name, string(check.Status), check.Detail, check.Fix})
	}
	return out, nil
}

// Attempt is the outcome of one attempt to get out of a machine's network.
type Attempt struct {
	Name    string        `json:"name"`
	Refused bool          `json:"refused"`
	Skipped bool          `json:"skipped,omitempty"` // there was nothing to aim at
	How     string        `json:"how"`
	Took    time.Duration `json:"took"`            // ns
	Trace   string        `json:"trace,omitempty"` // what the audit log must have of it
	// Recorded says that the attempt is in the machine's audit log.
	Recorded bool `json:"recorded"`
}

// Failed reports whether the machine's walls have not held.
func (a Attempt) Failed() bool { return !a.Skipped && (!a.Refused || !a.Recorded) }

// Attack lets the running machine name try to reach what it must not. reached is the
// number of its connections that reached this computer. What the machine says of the
// attempts can be believed only if nobody hostile works in it yet.
func (c *Client) Attack(ctx context.Context, name string) (attempts []Attempt, reached int, err error) {
	rows, reached, err := c.e.Attack(ctx, name)
	for _, r := range rows {
		attempts = append(attempts, newAttempt(r.Result, r.Recorded))
	}
	return attempts, reached, public(err)
}

func newAttempt(r attack.Result, recorded bool) Attempt {
	return Attempt{r.Name, r.Refused, r.Skipped, r.How, r.Took, r.Trace, recorded}
}

// AttackCommand is the word, before a target, with which [Options.Program] is executed
// inside of a machine to make the attempts of [Client.Attack].
const AttackCommand = engine.AttackCommand

// RunAttack makes these attempts and calls yield with each.
func RunAttack(ctx context.Context, target string, getenv func(string) string, yield func(any)) error {
	return public(engine.RunAttack(ctx, target, getenv, func(r attack.Result) { yield(r) }))
}

// SSHSuffix makes a machine's name one that ssh tells from other hosts.
const SSHSuffix = engine.SSHSuffix

// SSHFiles are the files of SSH that are not a machine's.
type SSHFiles struct {
	Identity   string // mayfly's own private key for its user
	Config     string // ssh_config(5)
	KnownHosts string // the host keys of all machines
}

// SSHFiles returns where the files of SSH are, and makes the key.
func (c *Client) SSHFiles() (SSHFiles, error) {
	f := c.e.SSH()
	return SSHFiles{f.Identity, f.Config, f.KnownHosts}, public(c.e.EnsureIdentity())
}

// UserName returns the name that the user has in machines.
func (c *Client) UserName() string { return c.e.UserName() }
