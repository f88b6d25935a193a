package mayfly

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Plan is everything that is decided about a machine before anything is done for it. Its
// JSON is the whole plan, of which the fields are the part that most callers want.
type Plan struct {
	Name        string
	VCPUs       int
	MemoryMiB   int
	Accelerator string // "kvm" or "tcg", and why
	Reason      string

	Base     string   // of the image: "debian:trixie"
	Init     string   // "systemd", or "" for mayfly's own
	Packages []string // of the image, beyond the base
	Agents   []string // coding agents of the image

	User      User
	Workspace string // "" for none
	Mode      string // of the workspace: "copy" or "share"
	Shares    []Share
	Network   Network
	// Settings are the user's own settings of coding agents that come along.
	Settings []AgentSettings
	Notes    []string // what was chosen by itself, and why, a line each

	document document
}

// MarshalJSON returns the whole plan.
func (p Plan) MarshalJSON() ([]byte, error) { return p.document, nil }

// User is the guest's only human user, who is not root.
type User struct {
	Name     string
	UID, GID int
	Home     string
	Shell    string // a program's name
}

// Share is a directory of the host that a machine sees live.
type Share struct {
	Source   string `json:"source"`
	Path     string `json:"path"` // in the machine
	ReadOnly bool   `json:"readonly"`
	// Hide and Protect are patterns of what the machine does not see, and cannot change.
	Hide    []string `json:"hide,omitempty"`
	Protect []string `json:"protect,omitempty"`
}

// Network is what a machine may reach, and what of it can be reached.
type Network struct {
	Mode   string // "none", "user" or "bridge"
	Egress string // what it may reach without a rule: "public", "allowlist" or "ask"
	Allow  []Rule
	Ports  []Port
	// AutoPorts forwards each port on which a program of the machine listens, within bounds.
	AutoPorts bool
	Secrets   []Secret
	// Authorities are those of the host that the machine trusts beside its own.
	Authorities []Authority
	Address     string // on the bridge: "192.168.83.6/24"
	MAC         string // on the bridge
}

// Authority is a certificate authority that the host trusts beside its distribution's.
type Authority struct {
	Subject string
	Until   time.Time
}

func newPlan(p plan.Plan) Plan {
	u := p.Guest.User
	out := Plan{
		Name: p.Name, VCPUs: p.Machine.VCPUs, MemoryMiB: p.Machine.MemoryMiB,
		Accelerator: string(p.Machine.Accelerator), Reason: p.Machine.Reason,
		Base: p.Image.Base, Init: p.Image.Init, Packages: p.Image.Packages, Agents: p.Image.Agents,
		User:      User{u.Name, u.UID, u.GID, u.Home, u.Shell},
		Workspace: p.Workspace.Path, Mode: p.Workspace.Mode, Notes: p.Notes,
		Network: Network{
			Mode: p.Network.Mode, Egress: p.Network.Egress, Address: p.Network.Address, MAC: p.Network.MAC,
			Allow: rules(p.Network.Allow), Ports: ports(p.Network.Ports), AutoPorts: p.Network.AutoPorts, Secrets: secrets(p.Network.Secrets),
		},
		document: newDocument(p),
	}
	for _, a := range p.Network.Authorities {
		out.Network.Authorities = append(out.Network.Authorities, Authority{a.Subject, a.Until})
	}
	out.Settings = agentSettings(p.Guest.Settings)
	for _, s := range p.Shares {
		protect := s.Protect
		if s.Hooks {
			protect = append(slices.Clip(protect), "/.git/hooks")
		}
		out.Shares = append(out.Shares, Share{s.Source, s.Path, s.ReadOnly, s.Hide, protect})
	}
	return out
}

// newDocument returns v as JSON, with all that it has.
func newDocument(v any) document {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // a type of ours that has no JSON
	}
	return document(b.Bytes())
}

// document is JSON of which this package has no type.
type document = json.RawMessage
