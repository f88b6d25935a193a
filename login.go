package mayfly

import (
	"context"
	"time"

	"github.com/mayfly-vm/mayfly/internal/login"
)

// Login is a log-in of a coding agent that the host keeps, and lends to each machine in
// which the agent can work: without the value, which no method returns.
type Login struct {
	Agent    string    `json:"agent"`
	Kind     string    `json:"kind"`     // LoginKey or LoginSubscription
	Variable string    `json:"variable"` // that holds the placeholder in machines
	Hosts    []string  `json:"hosts"`    // whose requests get the value
	Since    time.Time `json:"since"`
	// Ended says that the provider of a subscription does not renew it any more.
	Ended bool `json:"ended,omitempty"`
}

// The kinds of log-ins.
const (
	LoginKey          = string(login.APIKey)       // that stays the same
	LoginSubscription = string(login.Subscription) // whose tokens the host renews
)

func newLogin(l login.Login) Login {
	return Login{Agent: l.Agent, Kind: string(l.Kind), Variable: l.Key.Variable, Hosts: l.Key.Hosts, Since: l.Since, Ended: l.Refused}
}

// Logins returns the log-ins that the host keeps, sorted by agents. Those that cannot be
// read are in the error, beside the others.
func (c *Client) Logins() ([]Login, error) {
	list, err := c.e.Logins()
	return convert(list, newLogin), public(err)
}

// KeepLogin keeps a key for a coding agent, in the place of what is kept for it. Machines
// get it when they are started the next time.
func (c *Client) KeepLogin(ctx context.Context, agent, key string) (Login, error) {
	l, err := c.e.KeepLogin(ctx, agent, key)
	if err != nil {
		return Login{}, public(err)
	}
	return newLogin(l), nil
}

// ImportLogin takes over the log-in of a subscription that a coding agent has on this host,
// in the place of what is kept for it, and returns the file that has it. It renews tokens
// from then on: the agent's own log-in on this host ends when one of both has done so.
func (c *Client) ImportLogin(ctx context.Context, agent string) (l Login, file string, err error) {
	kept, file, err := c.e.ImportLogin(ctx, agent)
	if err != nil {
		return Login{}, "", public(err)
	}
	return newLogin(kept), file, nil
}

// RemoveLogin forgets the log-in of a coding agent.
func (c *Client) RemoveLogin(ctx context.Context, agent string) error {
	return public(c.e.RemoveLogin(ctx, agent))
}
