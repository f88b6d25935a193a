package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/credential"
)

// Network is what the machine can reach, and what of it can be reached.
type Network struct {
	// Mode is "none" for no network card, "user" for a network that the
	// supervisor plays to the machine, "bridge" for a port of the host's bridge.
	Mode   string `json:"mode"`
	Egress string `json:"egress,omitempty"` // mode user: "public", "allowlist" or "ask"

	// Allow are the rules for connections. A host that has any is judged by
	// them alone, also when Egress is "public".
	Allow   []Rule   `json:"allow,omitempty"`
	Ports   []Port   `json:"ports,omitempty"`
	Secrets []Secret `json:"secrets,omitempty"`
	// AutoPorts forwards each port on which a program of the machine listens to the same
	// one of the host's loopback interface, within bounds.
	AutoPorts bool `json:"auto_ports,omitempty"`
	// NoLogins keeps the host's log-ins of coding agents out of Secrets.
	NoLogins bool `json:"no_logins,omitempty"`
	// Learn lets pass what is public and not allowed, for a list to be
	// written of it.
	Learn bool `json:"learn,omitempty"`
	// Proxy is the proxy through which connections leave the host, "none" for none, ""
	// for those of the host's environment. It has no password.
	Proxy string `json:"proxy,omitempty"`

	// Authorities are those of the host that the machine trusts beside its own and its
	// image's.
	Authorities []Authority `json:"authorities,omitempty"`

	Address string `json:"address,omitempty"` // mode bridge: the guest's, "192.168.83.6/24"
	MAC     string `json:"mac,omitempty"`     // mode bridge: "02:00:00:00:00:05"
}

// Authority is a certificate authority of the host: host.Authority.
type Authority struct {
	Subject     string    `json:"subject"`
	Until       time.Time `json:"until"`
	Hash        string    `json:"hash"`        // of the subject, as OpenSSL names its files
	Certificate []byte    `json:"certificate"` // DER
	System      bool      `json:"system"`      // the host's programs find it by themselves
}

// The modes and what egress can be.
const (
	NetworkNone   = "none"
	NetworkUser   = "user"
	NetworkBridge = "bridge"

	EgressNone      = "none"
	EgressPublic    = "public"
	EgressAllowlist = "allowlist"
	// EgressAsk is EgressAllowlist, where the user is asked about what no rule covers.
	EgressAsk = "ask"
)

// Listed reports whether a host is only reached by a rule, a preset or an answer.
func (n Network) Listed() bool { return n.Egress == EgressAllowlist || n.Egress == EgressAsk }

// HostName is the name by which a machine reaches the loopback services of its
// host that a rule names.
const HostName = config.HostName

// Rule lets connections to one host, or to all names below one, pass.
type Rule struct {
	// Host is a name in lower case without a dot at its end, "*." and a name
	// for all names below that, or an IP address.
	Host string `json:"host"`
	Port int    `json:"port,omitempty"` // 0 for the web's, 80 and 443

	// Methods and Paths, if there are any, are the only ones of HTTP that
	// pass. A path stands for itself and what is below it.
	Methods []string `json:"methods,omitempty"` // "GET"
	Paths   []string `json:"paths,omitempty"`   // "/repos/acme/"

	// Private lets the host have addresses that are not public.
	Private bool `json:"private,omitempty"`
	// Passthrough leaves TLS to the two ends. Nothing but the name is known
	// of such a connection.
	Passthrough bool `json:"passthrough,omitempty"`
	// Once lets only the connections pass that waited for the rule. No plan has it.
	Once bool `json:"once,omitempty"`
	// From says who made the rule, when it is not the user: "preset npm".
	From string `json:"from,omitempty"`
}

// FromPreset begins the From of a rule that a preset made.
const FromPreset = "preset "

// String returns the rule as a user writes it.
func (r Rule) String() string {
	var b strings.Builder
	if len(r.Methods) > 0 {
		b.WriteString(strings.Join(r.Methods, ",") + " ")
	}
	if strings.Contains(r.Host, ":") { // IPv6
		fmt.Fprintf(&b, "[%s]", r.Host)
	} else {
		b.WriteString(r.Host)
	}
	if r.Port != 0 {
		fmt.Fprintf(&b, ":%d", r.Port)
	}
	b.WriteString(strings.Join(r.Paths, ","))
	return b.String()
}

// Port makes a port of the machine one of the host.
type Port struct {
	Address   string `json:"address"`    // of the host: "127.0.0.1"
	HostPort  int    `json:"host_port"`  // 0 for any that is free
	GuestPort int    `json:"guest_port"` // of the guest, its loopback interface included
}

// FromLogin begins the From of a secret that is the log-in of a coding agent. No file of
// the user's can say so: where it goes is the table of agents' to say.
const FromLogin = "login:"

// Login returns the coding agent whose log-in the secret is, "" for another secret.
func (s Secret) Login() string {
	agent, ok := strings.CutPrefix(s.From, FromLogin)
	if !ok {
		return ""
	}
	return agent
}

// Secret is a value that the machine can use and not read. The value itself is
// never in a plan.
type Secret struct {
	Name string `json:"name"` // the variable that holds the placeholder in the guest
	From string `json:"from"` // "env:NAME", "file:PATH", "cmd:COMMAND" or FromLogin and an agent
	// Hosts are where the value goes, in the form of Rule.Host.
	Hosts []string `json:"hosts"`
	// Places are where in a request the value stands, and nowhere else.
	Places []credential.Place `json:"places"`
	// AllowForeign lets requests to these hosts carry other credentials
	// than this one.
	AllowForeign bool `json:"allow_foreign,omitempty"`
	// Pass are headers, and parameters of the query behind a "?", in lower case,
	// that pass to these hosts beside those that are known to be no credentials.
	Pass []string `json:"pass,omitempty"`
	// Renewed says that the value changes while the machine lives: it is the access token
	// of a subscription.
	Renewed bool `json:"renewed,omitempty"`
	// Withheld are parts of paths, in lower case, to which the value does not go.
	Withheld []string `json:"withheld,omitempty"`
}

// Login is a log-in of a coding agent that the host keeps, as far as a plan knows it.
type Login struct {
	Variable string // in which the agent takes what stands for it
	// Subscription says that it is one of a subscription, and Account what the agent may
	// know of that.
	Subscription bool
	Account      codingagent.Account
}
