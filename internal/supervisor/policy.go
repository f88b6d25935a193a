package supervisor

import (
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/network"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// maxDenied bounds the list of what was refused in a message.
const maxDenied = 100

// change does what was asked for, all that is before an error.
func (n *guestNetwork) change(c *control.NetworkChange) control.Response {
	var opened *plan.Port
	if c != nil {
		if c.Egress != "" {
			n.SetEgress(c.Egress)
		}
		for _, r := range c.Deny {
			n.Deny(r)
		}
		for _, r := range c.Allow {
			if !r.Once {
				n.Allow(r)
			} else if !n.AllowOnce(r) {
				return control.Refuse(fault.New(fault.QuestionNone, fault.Args{"host": r.Host}, "no connection to %s waits for an answer", r))
			}
		}
		if c.Open != nil {
			p, err := n.OpenPort(*c.Open)
			if err != nil {
				return control.Refuse(err)
			}
			opened = &p
		}
		if c.Close != 0 {
			if err := n.ClosePort(c.Close); err != nil {
				return control.Refuse(err)
			}
		}
	}
	if c != nil && c.AutoPorts != nil {
		n.SetAutoPorts(*c.AutoPorts)
	}
	if c != nil && c.Audit {
		n.audit.Flush()
	}
	p := n.Policy()
	st := control.NetworkState{
		Mode: p.Network().Mode, Egress: p.Network().Egress,
		Allow: p.Network().Allow, Deny: p.Denied(), Ports: n.Ports(),
		Secrets: p.Network().Secrets, Opened: opened,
	}
	var listening []network.Listener
	listening, st.AutoPorts = n.Listeners()
	for _, l := range listening {
		st.Listening = append(st.Listening, control.Listening{Port: l.Port, Published: l.Published, Auto: l.Auto, Why: string(l.Why)})
	}
	var open []network.Question
	open, st.Unattended = n.Questions()
	for _, q := range open {
		st.Questions = append(st.Questions, control.Question{Host: q.Host, Port: q.Port, Since: q.Since, Connections: q.Conns})
	}
	st.Denied, st.MoreDenied = n.audit.Denials()
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
	answer := control.Granted()
	answer.Network = &st
	return answer
}
