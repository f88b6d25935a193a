// Package audit keeps the record of what a machine did with its network.
//
// It is a file of JSON lines outside the machine: one for each flow, each
// request on an intercepted connection, each refused name or packet, and each
// change of the policy. Every line holds the hash of the one before, so that a
// line cannot be taken out or changed without a trace in what follows. Refusals are
// in a file of their own: they come as fast as a guest likes. Both are bounded and
// rotated. No line ever holds a secret.
package audit

import "time"

// Kind is what a line is about.
type Kind string

// The kinds.
const (
	Flow    Kind = "flow"    // a connection, written at its end, or when it was refused
	Request Kind = "request" // an HTTP request on an intercepted connection, at its end
	Name    Kind = "dns"     // a name that was refused
	Packet  Kind = "packet"  // packets that are never let in
	Policy  Kind = "policy"  // a change of the policy
	Port    Kind = "port"    // a port that was opened or closed
	Answer  Kind = "answer"  // of the user, to a question about a host that no rule covers
	Note    Kind = "note"    // of the log itself: lines that were left out
)

// Verdict is how a thing was decided.
type Verdict string

// The verdicts.
const (
	Allow Verdict = "allow"
	Deny  Verdict = "deny"
	Cut   Verdict = "cut" // allowed first, and ended by a change of the policy
)

// Blanked is the reason of a request whose body had a placeholder.
const Blanked = "blanked a placeholder in the body"

// Event is one line. Fields are only ever added.
type Event struct {
	Seq     int64     `json:"seq"` // from 1, without a gap in its file
	Time    time.Time `json:"time"`
	Machine string    `json:"vm"`
	Kind    Kind      `json:"kind"`
	Verdict Verdict   `json:"verdict,omitempty"`

	Proto  string `json:"proto,omitempty"`  // "tcp", "udp", "icmp", "tls", "http/1.1", "h2", …
	Name   string `json:"name,omitempty"`   // of the host, as the guest asked for it
	Addr   string `json:"addr,omitempty"`   // that was really dialed, or that the guest named if there is no name
	Port   int    `json:"port,omitempty"`   // of the host
	Method string `json:"method,omitempty"` // of a request
	Path   string `json:"path,omitempty"`   // of a request, without its query, shortened
	Status int    `json:"status,omitempty"` // of a response
	Up     int64  `json:"up,omitempty"`     // bytes from the guest
	Down   int64  `json:"down,omitempty"`   // bytes to the guest
	Millis int64  `json:"ms,omitempty"`     // from begin to end

	Rule    string   `json:"rule,omitempty"`    // that decided
	Reason  string   `json:"reason,omitempty"`  // why not, or how it ended
	Secrets []string `json:"secrets,omitempty"` // names of the secrets that were put in; never values
	Count   int      `json:"count,omitempty"`   // how many alike this line stands for, if more than one
	// Samples are some of the destinations that a line stands for which is about many. Its
	// Name or Addr is a pattern for all of them, or empty.
	Samples []string `json:"samples,omitempty"`

	Prev string `json:"prev"` // SHA-256 of the line before, in hexadecimal; of the first, zeros
}
