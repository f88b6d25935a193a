package control

import (
	"context"
	"fmt"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// NetworkChange is what is to change of a running machine's network. The parts that
// are set are done in the order of the fields.
type NetworkChange struct {
	Egress string      `json:"egress,omitempty"` // as plan.Network.Egress, or plan.EgressNone
	Deny   []plan.Rule `json:"deny,omitempty"`
	// Allow can have rules that say Once, for connections that wait.
	Allow []plan.Rule `json:"allow,omitempty"`
	Open  *plan.Port  `json:"open,omitempty"`
	Close int         `json:"close,omitempty"` // port of the host
	// AutoPorts forwards ports by themselves from now on, or no more; nil leaves that.
	AutoPorts *bool `json:"auto_ports,omitempty"`
	// Audit is set to read the audit log next: lines that wait for more that are alike
	// are written.
	Audit bool `json:"audit,omitempty"`
}

// NetworkState is the state of a running machine's network. Fields are only added.
type NetworkState struct {
	Mode   string      `json:"mode"`
	Egress string      `json:"egress"`
	Allow  []plan.Rule `json:"allow"`
	Deny   []plan.Rule `json:"deny"`
	Ports  []plan.Port `json:"ports"`
	// Listening are the ports on which programs of the guest listen, as it says; AutoPorts
	// says that they are forwarded by themselves.
	Listening []Listening `json:"listening,omitempty"`
	AutoPorts bool        `json:"auto_ports,omitempty"`
	// Secrets are lent to requests to their hosts, which are allowed by that.
	Secrets []plan.Secret `json:"secrets"`
	// Denied is what was refused since the machine's start, what was refused
	// most often first; MoreDenied counts what is not in it.
	Denied     []audit.Denied `json:"denied"`
	MoreDenied int            `json:"more_denied,omitempty"`
	// Questions are about hosts that no rule covers, the oldest first. Unattended counts the
	// connections that were refused because nobody could be asked.
	Questions  []Question `json:"questions"`
	Unattended int        `json:"unattended,omitempty"`
	// Opened is the port that the change opened.
	Opened *plan.Port `json:"opened,omitempty"`
}

// Listening is a port of a guest on which a program listens: network.Listener.
type Listening struct {
	Port      int    `json:"port"`
	Published bool   `json:"published,omitempty"` // a port of the host leads to it
	Auto      bool   `json:"auto,omitempty"`      // as long as it listens
	Why       string `json:"why,omitempty"`       // it was not forwarded by itself
}

// Question is a host to which connections wait for the user's answer: a change that allows
// or denies it.
type Question struct {
	Host        string    `json:"host"`
	Port        int       `json:"port"`
	Since       time.Time `json:"since"`
	Connections int       `json:"connections"`
}

// ChangeNetwork changes the network of the running machine m and returns its state.
func ChangeNetwork(m state.Machine, change NetworkChange) (NetworkState, error) {
	ctx, cancel := answerContext()
	defer cancel()
	return changeNetwork(ctx, m, change)
}

func changeNetwork(ctx context.Context, m state.Machine, change NetworkChange) (NetworkState, error) {
	conn, answer, err := dial(ctx, m, Request{Op: OpNetwork, Change: &change})
	if err != nil {
		return NetworkState{}, err
	}
	conn.Close()
	if answer.Network == nil {
		return NetworkState{}, fmt.Errorf("machine %s does not tell the state of its network", m.Name)
	}
	return *answer.Network, nil
}

// PortsOf asks which ports of the running machine m are published, and on which programs
// listen. It waits until ctx ends at most, and ok is false then.
func PortsOf(ctx context.Context, m state.Machine) (ports []plan.Port, listening []Listening, ok bool) {
	conn, answer, err := dial(ctx, m, Request{Op: OpNetwork, Change: &NetworkChange{}})
	if err != nil {
		return nil, nil, false
	}
	conn.Close()
	if answer.Network == nil {
		return nil, nil, false
	}
	return answer.Network.Ports, answer.Network.Listening, true
}
