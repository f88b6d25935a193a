package words

import (
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Defined says what was made for a machine, and the commands to type next.
func Defined(d mayfly.Defined, next []string) []Row {
	var r rows
	r.add("machine:", "%s", d.Name)
	r.add("file:", "%s", d.File)
	if d.Workspace != "" {
		r.add("workspace:", "%s (%s)", termsafe.Quote(d.Workspace), d.Mode)
	}
	for _, c := range d.Clones {
		r.add("cloned:", "%s at %.12s to %s", termsafe.Line(c.URL), c.Commit, termsafe.Quote(c.Path))
	}
	if len(d.Profiles) > 0 {
		r.add("profiles:", "%s", strings.Join(d.Profiles, ", "))
	}
	if len(d.Packages) > 0 {
		r.add("packages:", "%s", strings.Join(d.Packages, " "))
	}
	network := d.Network
	if d.Address != "" {
		network += ", " + d.Address + ", MAC " + d.MAC
	}
	r.add("network:", "%s", network)
	r.add("host key:", "%s", d.HostKey)
	r.add("next:", "%s", strings.Join(next, ", "))
	return r
}
