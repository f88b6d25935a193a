package words

import (
	"fmt"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Next returns the command that puts right what is not as it should be with a machine,
// and what is wrong with its file; "" for nothing.
func Next(i mayfly.Info) (next, problem string) {
	switch {
	case i.State == mayfly.StatePaused:
		next = "mayfly gc makes room"
	case i.State == mayfly.StateUnreachable && i.Defined:
		next = "mayfly restart " + i.Name
	case i.State == mayfly.StateUnreachable:
		next = "mayfly rm " + i.Name
	case i.State == "dead" && i.Defined:
		next = fmt.Sprintf("mayfly logs %s, or mayfly start %s", i.Name, i.Name)
	case i.State == "dead":
		next = "mayfly gc removes dead machines"
	case i.Changed:
		next = "mayfly restart " + i.Name + " uses its file as it is now"
	}
	switch {
	case i.FileError != nil:
		problem, next = i.FileError.Error(), "mayfly edit "+i.Name
	case i.PlanError != nil:
		problem = i.PlanError.Error()
	case next != "":
	case i.Image == mayfly.ImageStale:
		next = "mayfly restart " + i.Name
	case i.Image == mayfly.ImageOutdated:
		next = "mayfly check " + i.Name
	}
	return next, problem
}

// maxLast is how much of the last that a session's program said fits in a list.
const maxLast = 60

// Session is a session in the list of machines.
func Session(s mayfly.Session, now time.Time) string {
	return s.Name + parenthesis(SessionState(s, now))
}

// SessionState says what the program of a session does, for how long, and the last that it
// said about that.
func SessionState(s mayfly.Session, now time.Time) string {
	text := string(s.State)
	if s.Exited && s.Code != 0 {
		text += fmt.Sprintf(", exit code %d", s.Code)
	}
	if !s.Since.IsZero() {
		text += ", " + Age(now.Sub(s.Since))
	}
	if s.Last != "" {
		text += ": " + termsafe.Line(termsafe.Clip(s.Last, maxLast))
	}
	return text
}

// Age says how long something has lasted, in one unit.
func Age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(d, 0)/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// Persist is one thing that outlives a stop.
type Persist struct {
	What  string `json:"what"`
	In    string `json:"in,omitempty"` // the place in the machine
	Path  string `json:"path"`         // on the host
	Bytes int64  `json:"bytes"`        // that it takes there
	Until string `json:"until"`        // the commands that wipe it
}

// NewPersist puts p into words.
func NewPersist(p mayfly.Persist) Persist {
	out := Persist{In: p.In, Path: p.Path, Bytes: p.Bytes, Until: "mayfly reset, rm"}
	agents := "the state of agents"
	if p.History {
		agents += ", and the history of shells"
	}
	switch p.What {
	case mayfly.PersistCopy:
		out.What = "the private copy of the workspace"
	case mayfly.PersistChanges:
		out.What = "its changes that were not applied, and " + agents
	case mayfly.PersistAgents:
		out.What = agents
	case mayfly.PersistVolume:
		out.What = fmt.Sprintf("the volume %s, %d MiB", p.Volume, p.SizeMiB)
	case mayfly.PersistHostKey:
		out.What, out.Until = "the machine's SSH host key", "mayfly rm"
	}
	return out
}

// Row is a line of what is known of something: its name, and what it is.
type Row struct{ Name, Text string }

// rows collects rows.
type rows []Row

func (r *rows) add(name, format string, args ...any) {
	*r = append(*r, Row{name, termsafe.Text(fmt.Sprintf(format, args...))})
}

// Details says what a machine is, what it keeps and what it may reach.
func Details(d mayfly.Details) []Row {
	var r rows
	i := d.Info
	p := d.Plan
	state := i.State
	if next, _ := Next(i); next != "" {
		state += parenthesis(next)
	}
	r.add("name", "%s", i.Name)
	r.add("state", "%s", state)
	if i.Reason != "" {
		r.add("reason", "%s", i.Reason)
	}
	if i.File != "" {
		r.add("file", "%s", i.File)
	}
	r.add("hardware", "%d CPUs, %d MiB, %s (%s)", p.VCPUs, p.MemoryMiB, p.Accelerator, p.Reason)
	if i.DiskBound > 0 {
		r.add("disk", "%s of at most %s", Size(i.DiskUsed), Size(i.DiskBound))
	}
	if p.Name != "" {
		r.add("walls", "%s", Walls(d.Walls))
	}
	image := []string{p.Base}
	if p.Init != "" {
		image = append(image, "init "+p.Init)
	}
	image = append(image, p.Packages...)
	image = append(image, p.Agents...)
	r.add("image", "%s%s", strings.Join(image, " "), parenthesis(i.Image))
	r.add("user", "%s, %d:%d, %s", p.User.Name, p.User.UID, p.User.GID, p.User.Shell)
	if p.Workspace != "" {
		r.add("workspace", "%s (%s)", termsafe.Quote(p.Workspace), p.Mode)
	}
	for _, s := range p.Shares {
		access := "read and write"
		if s.ReadOnly {
			access = "read only"
		}
		if len(s.Hide) > 0 {
			access += "; hidden: " + strings.Join(s.Hide, " ")
		}
		if len(s.Protect) > 0 && !s.ReadOnly {
			access += "; protected: " + strings.Join(s.Protect, " ")
		}
		r.add("share", "%s on %s (%s)", termsafe.Quote(s.Source), termsafe.Quote(s.Path), access)
	}
	r.settings(p.Settings)
	if len(d.Persists) == 0 {
		r.add("persists", "nothing")
	}
	for _, persist := range d.Persists {
		k := NewPersist(persist)
		where := ""
		if k.In != "" {
			where = " on " + termsafe.Quote(k.In)
		}
		size := "nothing yet"
		if k.Bytes > 0 {
			size = Size(k.Bytes)
		}
		r.add("persists", "%s%s; kept in %s (%s) until %s", k.What, where, termsafe.Quote(k.Path), size, strings.ReplaceAll(k.Until, ", ", " or mayfly "))
	}
	if u := d.Undo; u != nil {
		r.add("undo", "%d changes to %s, applied %s", u.Changes, termsafe.Quote(u.Dir), u.Time.Local().Format("2006-01-02 15:04:05"))
	}
	for _, s := range i.Sessions {
		r.add("session", "%s: %s", s.Name, SessionState(s, time.Now()))
	}
	r.reach(p.Network)
	for _, p := range i.Ports {
		r.add("port", "%s:%d of the host is port %d of the machine", p.Address, p.HostPort, p.GuestPort)
	}
	if p.Network.AutoPorts {
		r.add("ports", "each on which a program listens is forwarded by itself, within bounds")
	}
	for _, l := range i.Listening {
		if text := Listening(i.Name, l); !l.Published && text != "" {
			r.add("listens", "%s", text)
		}
	}
	return r
}

// Walls says what confines QEMU, and what is missing.
func Walls(w mayfly.Walls) string {
	var there, missing []string
	for _, wall := range []struct {
		name string
		is   bool
	}{{"namespaces of its own", w.Namespaces}, {"Landlock", w.Landlock > 0}, {"a filter of system calls", true}} {
		if wall.is {
			there = append(there, wall.name)
		} else {
			missing = append(missing, "no "+wall.name)
		}
	}
	text := "QEMU has " + strings.Join(there, ", ")
	if len(missing) > 0 {
		text += "; " + strings.Join(missing, ", ") + ": mayfly doctor says why"
	}
	return text
}

// parenthesis returns text in parentheses, if there is any.
func parenthesis(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// reach adds what a machine may reach.
func (r *rows) reach(n mayfly.Network) {
	switch n.Mode {
	case "none":
		r.add("network", "none")
		return
	case "bridge":
		r.add("network", "on the host's bridge as %s, MAC %s: the public internet", n.Address, n.MAC)
		r.trusts(n.Authorities)
		return
	}
	reach, but := "may reach nothing", " except:"
	if n.Egress == "public" {
		reach, but = "may reach the public internet, and neither the host nor its networks", ", except:"
	}
	if n.Egress == "ask" {
		reach = "asks you about each host"
	}
	if len(n.Allow) == 0 {
		but = ""
	}
	r.add("network", "%s%s", reach, but)
	for _, rule := range n.Allow {
		r.add("", "%s%s", rule, parenthesis(rule.From))
	}
	for _, s := range n.Secrets {
		if s.Login != "" {
			r.add("log-in", "this computer's of %s, used in requests to %s; the machine has a placeholder, %s", s.Login, strings.Join(s.Hosts, ", "), s.Name)
			continue
		}
		r.add("secret", "%s, used in requests to %s as %s", s.Name, strings.Join(s.Hosts, ", "), strings.Join(s.Places, ", "))
	}
	r.trusts(n.Authorities)
}

// trusts adds which authorities of the host a machine trusts.
func (r *rows) trusts(list []mayfly.Authority) {
	for _, a := range list {
		r.add("trusts", "%s until %s, an authority of this computer", termsafe.Quote(a.Subject), a.Until.Format(time.DateOnly))
	}
}
