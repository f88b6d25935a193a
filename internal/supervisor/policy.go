package supervisor

import (
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// NetworkChange is what is to change of a running machine's network. The parts that
// are set are done in the order of the fields.
type NetworkChange struct {
	Egress string      `json:"egress,omitempty"` // as plan.Network.Egress, or plan.EgressNone
	Deny   []plan.Rule `json:"deny,omitempty"`
	Allow  []plan.Rule `json:"allow,omitempty"`
	Open   *plan.Port  `json:"open,omitempty"`
	Close  int         `json:"close,omitempty"` // port of the host
}

// NetworkState is the state of a running machine's network. Fields are only added.
type NetworkState struct {
	Mode   string      `json:"mode"`
	Egress string      `json:"egress"`
	Allow  []plan.Rule `json:"allow"`
	Deny   []plan.Rule `json:"deny"`
	Ports  []plan.Port `json:"ports"`
	// Secrets are lent to requests to their hosts, which are allowed by that.
	Secrets []plan.Secret `json:"secrets"`
	// Denied is what was refused since the machine's start, what was refused
	// most often first; MoreDenied counts what is not in it.
	Denied     []audit.Denied `json:"denied"`
	MoreDenied int            `json:"more_denied,omitempty"`
	// Opened is the port that the change opened.
	Opened *plan.Port `json:"opened,omitempty"`
}

// maxDenied bounds the list of what was refused in a message.
const maxDenied = 100

// ChangeNetwork changes the network of the running machine m and returns its state.
func ChangeNetwork(m state.Machine, change NetworkChange) (NetworkState, error) {
	conn, answer, err := dial(m, request{Op: opNetwork, Change: &change})
	if err != nil {
		return NetworkState{}, err
	}
	conn.Close()
	if answer.Network == nil {
		return NetworkState{}, hint.Errorf("mayfly rm "+m.Name, "machine %s is of another version of mayfly", m.Name)
	}
	return *answer.Network, nil
}

// changeNetwork does what was asked for, all that is before an error.
func (s *server) changeNetwork(c *NetworkChange) response {
	n := s.network
	var opened *plan.Port
	if c != nil {
		if c.Egress != "" {
			n.SetEgress(c.Egress)
		}
		for _, r := range c.Deny {
			n.Deny(r)
		}
		for _, r := range c.Allow {
			n.Allow(r)
		}
		if c.Open != nil {
			p, err := n.OpenPort(*c.Open)
			if err != nil {
				return response{Error: err.Error(), Hint: hint.Of(err)}
			}
			opened = &p
		}
		if c.Close != 0 {
			if err := n.ClosePort(c.Close); err != nil {
				return response{Error: err.Error(), Hint: hint.Of(err)}
			}
		}
	}
	p := n.Policy()
	st := NetworkState{
		Mode: p.Network().Mode, Egress: p.Network().Egress,
		Allow: p.Network().Allow, Deny: p.Denied(), Ports: n.Ports(),
		Secrets: p.Network().Secrets, Opened: opened,
	}
	st.Denied, st.MoreDenied = s.audit.Denials()
	slices.SortFunc(st.Denied, func(a, b audit.Denied) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		if a.Host != b.Host {
			return strings.Compare(a.Host, b.Host)
		}
		return a.Port - b.Port
	})
	if more := len(st.Denied) - maxDenied; more > 0 {
		for _, d := range st.Denied[maxDenied:] {
			st.MoreDenied += d.Count
		}
		st.Denied = st.Denied[:maxDenied]
	}
	return response{Network: &st}
}
