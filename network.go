package mayfly

import (
	"context"
	"slices"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Rule lets connections to one host, or to all hosts below a name, pass.
type Rule struct {
	Host        string   `json:"host"`              // a name, "*." and a name, or an address
	Port        int      `json:"port,omitempty"`    // 0 for 80 and 443
	Methods     []string `json:"methods,omitempty"` // the only ones of HTTP that pass, if any
	Paths       []string `json:"paths,omitempty"`   // the only ones that pass, with what is below them
	Private     bool     `json:"private,omitempty"` // the host may have addresses that are not public
	Passthrough bool     `json:"passthrough,omitempty"`
	Once        bool     `json:"once,omitempty"` // only for connections that wait for an answer
	From        string   `json:"from,omitempty"` // who made the rule, when it is not the user
}

// ParseRule reads a rule as users write it: "example.org", "*.example.org:443",
// "GET example.org/path/".
func ParseRule(text string) (Rule, error) {
	r, err := config.ParseRule(text)
	if err != nil {
		return Rule{}, public(engine.InputError{Err: err})
	}
	return Rule(plan.NewRule(r)), nil
}

// String returns the rule as users write it.
func (r Rule) String() string { return plan.Rule(r).String() }

// Port makes a port of a machine one of the host.
type Port struct {
	Address   string `json:"address"`    // of the host: "127.0.0.1"
	HostPort  int    `json:"host_port"`  // 0 for any that is free
	GuestPort int    `json:"guest_port"` // of the guest, its loopback interface included
}

// Listening is a port of a machine on which a program listens, as the machine says. mayfly
// looks while commands and sessions run.
type Listening struct {
	Port      int  `json:"port"`
	Published bool `json:"published,omitempty"` // a port of the host leads to it
	Auto      bool `json:"auto,omitempty"`      // by itself, as long as the program listens: the same one of the loopback interface
	// Why says why it is not, where ports are forwarded by themselves: "low", "well-known",
	// "taken", "closed", "many" or "failed".
	Why string `json:"why,omitempty"`
}

// ParsePort reads [ADDRESS:]PORT:GUEST-PORT.
func ParsePort(text string) (Port, error) {
	p, err := config.ParsePort(text)
	if err != nil {
		return Port{}, public(engine.InputError{Err: err})
	}
	return Port(plan.NewPort(p)), nil
}

// Secret is a value that a machine can use and not read.
type Secret struct {
	Name         string   `json:"name"`            // the variable that holds the placeholder in the guest
	From         string   `json:"from"`            // "env:NAME", "file:PATH", "cmd:COMMAND" or "login:AGENT"
	Login        string   `json:"login,omitempty"` // the coding agent whose log-in it is
	Hosts        []string `json:"hosts"`
	Places       []string `json:"places"` // where requests carry it: "bearer", "header=x-api-key", …
	AllowForeign bool     `json:"allow_foreign,omitempty"`
}

// NetworkChange is what is to change of a running machine's network. What is set is done
// in the order of the fields.
type NetworkChange struct {
	Egress string // "public", "allowlist", "ask" or "none"
	Deny   []Rule
	Allow  []Rule
	Open   *Port
	Close  int // a port of the host
	// AutoPorts forwards ports by themselves from now on, or no more; nil leaves that.
	AutoPorts *bool
}

// NetworkState is the state of a running machine's network.
type NetworkState struct {
	Mode       string      `json:"mode"`
	Egress     string      `json:"egress"`
	Allow      []Rule      `json:"allow"`
	Deny       []Rule      `json:"deny"`
	Ports      []Port      `json:"ports"`
	Listening  []Listening `json:"listening,omitempty"`  // on which programs of the machine listen
	AutoPorts  bool        `json:"auto_ports,omitempty"` // these are forwarded by themselves
	Secrets    []Secret    `json:"secrets"`
	Denied     []Denied    `json:"denied"` // what was refused most often first
	MoreDenied int         `json:"more_denied,omitempty"`
	Opened     *Port       `json:"opened,omitempty"` // the port that the change opened

	// Questions are the hosts to which connections wait for an answer, the oldest first: a
	// change that allows or denies one is the answer. Unattended counts the connections
	// that were refused at once, because nobody could be asked.
	Questions  []Question `json:"questions"`
	Unattended int        `json:"unattended,omitempty"`
}

// Question is a host that no rule covers, to which connections of a machine wait.
type Question struct {
	Host        string    `json:"host"` // the guest's word, or an address
	Port        int       `json:"port"`
	Since       time.Time `json:"since"`
	Connections int       `json:"connections"`
}

// Denied is a host that a machine was refused.
type Denied struct {
	Host  string `json:"host"` // a name, an address, or a kind of packet; the guest's word
	Port  int    `json:"port,omitempty"`
	Count int    `json:"count"`
	// Needless is the coding agent that is known to try this and to need nothing of it:
	// statistics, or a look for updates of a program that the image pins.
	Needless string `json:"needless,omitempty"`
}

// ChangeNetwork changes what the running machine name may reach, at once and until its
// end, and returns the state of its network. The zero change only asks for the state.
func (c *Client) ChangeNetwork(name string, change NetworkChange) (NetworkState, error) {
	toPlan := func(r Rule) plan.Rule { return plan.Rule(r) }
	in := control.NetworkChange{Egress: change.Egress, Close: change.Close, AutoPorts: change.AutoPorts, Deny: convert(change.Deny, toPlan), Allow: convert(change.Allow, toPlan)}
	if change.Open != nil {
		p := plan.Port(*change.Open)
		in.Open = &p
	}
	st, err := c.e.ChangeNetwork(name, in)
	if err != nil {
		return NetworkState{}, public(err)
	}
	return newNetworkState(st), nil
}

func newNetworkState(st control.NetworkState) NetworkState {
	out := NetworkState{
		Mode: st.Mode, Egress: st.Egress, Allow: rules(st.Allow), Deny: rules(st.Deny), Ports: ports(st.Ports),
		Secrets: secrets(st.Secrets), MoreDenied: st.MoreDenied, Unattended: st.Unattended,
		Listening: convert(st.Listening, func(l control.Listening) Listening { return Listening(l) }), AutoPorts: st.AutoPorts,
	}
	if st.Questions != nil {
		out.Questions = convert(st.Questions, func(q control.Question) Question { return Question(q) })
	}
	if st.Denied != nil {
		out.Denied = convert(st.Denied, func(d audit.Denied) Denied {
			return Denied{d.Host, d.Port, d.Count, codingagent.NeedlessOf(d.Host)}
		})
	}
	if st.Opened != nil {
		p := Port(*st.Opened)
		out.Opened = &p
	}
	return out
}

// AllowAlways allows the running machine name what rules say, as [Client.ChangeNetwork]
// does, and writes them into its file: they hold when it starts again, too. Each rule is for
// one host as a whole. It returns the path of the file.
func (c *Client) AllowAlways(ctx context.Context, name string, rules []Rule) (NetworkState, string, error) {
	st, file, err := c.e.AllowAlways(ctx, name, convert(rules, func(r Rule) plan.Rule { return plan.Rule(r) }))
	if err != nil {
		return NetworkState{}, file, public(err)
	}
	return newNetworkState(st), file, nil
}

// rules keeps the difference between none and an empty list, which JSON shows.
func rules(list []plan.Rule) []Rule {
	if list == nil {
		return nil
	}
	return convert(list, func(v plan.Rule) Rule { return Rule(v) })
}

func ports(list []plan.Port) []Port {
	if list == nil {
		return nil
	}
	return convert(list, func(v plan.Port) Port { return Port(v) })
}

func secrets(list []plan.Secret) []Secret {
	if list == nil {
		return nil
	}
	return convert(list, func(v plan.Secret) Secret {
		s := Secret{Name: v.Name, From: v.From, Login: v.Login(), Hosts: v.Hosts, AllowForeign: v.AllowForeign}
		for _, p := range v.Places {
			if text := p.String(); !slices.Contains(s.Places, text) {
				s.Places = append(s.Places, text)
			}
		}
		return s
	})
}

// AuditEvent is a line of a machine's audit log.
type AuditEvent struct {
	Seq     int64     `json:"seq"` // from 1, without a gap
	Time    time.Time `json:"time"`
	Machine string    `json:"vm"`
	Kind    string    `json:"kind"`
	Verdict string    `json:"verdict,omitempty"` // AuditAllow, …

	Proto  string `json:"proto,omitempty"`
	Name   string `json:"name,omitempty"` // of the host, as the guest asked for it
	Addr   string `json:"addr,omitempty"`
	Port   int    `json:"port,omitempty"`
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Status int    `json:"status,omitempty"`
	Up     int64  `json:"up,omitempty"`   // bytes from the guest
	Down   int64  `json:"down,omitempty"` // bytes to the guest
	Millis int64  `json:"ms,omitempty"`

	Rule    string   `json:"rule,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Secrets []string `json:"secrets,omitempty"` // names, never values
	Count   int      `json:"count,omitempty"`   // how many alike this line stands for
	// Samples are some of the destinations of a line that stands for refusals of many;
	// Name or Addr is a pattern for all of them, or empty.
	Samples []string `json:"samples,omitempty"`

	Prev string `json:"prev"` // SHA-256 of the line before
}

// Verdicts of an [AuditEvent] that something was refused, or cut off later.
const (
	AuditDeny = string(audit.Deny)
	AuditCut  = string(audit.Cut)
)

// Audit calls yield for each line of the audit log of the machine name, which outlives the
// machine by 30 days, and checks its hash chain on the way. With follow it goes on with
// what is added until ctx ends.
func (c *Client) Audit(ctx context.Context, name string, follow bool, yield func(AuditEvent) error) error {
	return public(c.e.Audit(name, follow, ctx.Done(), func(e audit.Event) error { return yield(newAuditEvent(e)) }))
}

func newAuditEvent(e audit.Event) AuditEvent {
	return AuditEvent{
		e.Seq, e.Time, e.Machine, string(e.Kind), string(e.Verdict),
		e.Proto, e.Name, e.Addr, e.Port, e.Method, e.Path, e.Status, e.Up, e.Down, e.Millis,
		e.Rule, e.Reason, e.Secrets, e.Count, e.Samples, e.Prev,
	}
}

// String returns the event on one line for people. It is fit to be printed.
func (e AuditEvent) String() string {
	return audit.Event{
		Seq: e.Seq, Time: e.Time, Machine: e.Machine, Kind: audit.Kind(e.Kind), Verdict: audit.Verdict(e.Verdict),
		Proto: e.Proto, Name: e.Name, Addr: e.Addr, Port: e.Port, Method: e.Method, Path: e.Path, Status: e.Status,
		Up: e.Up, Down: e.Down, Millis: e.Millis,
		Rule: e.Rule, Reason: e.Reason, Secrets: e.Secrets, Count: e.Count, Samples: e.Samples, Prev: e.Prev,
	}.String()
}
