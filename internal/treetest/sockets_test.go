package treetest

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// sockets are the functions and types with which a program gets at the network.
var sockets = []string{
	"net.Dial*", "net.Listen*", "net.Resolver", "net.Lookup*", "net.DefaultResolver", "net.FilePacketConn",
	"tls.Dial*", "tls.Listen",
	"http.Get", "http.Head", "http.Post*", "http.DefaultClient", "http.DefaultTransport", "http.ListenAndServe*",
	"unix.Socket", "unix.Connect", "syscall.Socket", "syscall.Connect",
}

// mayOpen says which package may use which of them. Only one opens sockets of the
// host's network for a machine, and so only one has to be right about addresses.
var mayOpen = map[string][]string{
	"internal/network/dial": {"net.Dial*", "net.Listen*", "net.Resolver", "unix.Socket"}, // the last to keep a port without listening

	"internal/control":     {"net.ListenUnix", "net.Dialer"},                 // the machine's own socket, a file
	"internal/share":       {"net.ListenUnix", "net.DialUnix"},               // both ends of a pair, of which one must have listened
	"internal/sdnotify":    {"net.DialUnix"},                                 // the service manager's socket, a file
	"internal/host":        {"net.DefaultResolver"},                          // whether a mirror is public, for the plan
	"internal/guest/agent": {"unix.Socket", "net.DialTimeout", "net.Listen"}, // in the guest
	"internal/attack":      {"*"},                                            // in the guest: what must not get out
	"internal/test/bench":  {"net.Listen*", "net.Dial*"},                     // this computer's loopback interface
	"internal/test/lab":    {"*"},                                            // tests' own internet
}

func TestOnlyOnePackageOpensSockets(t *testing.T) {
	fset := token.NewFileSet()
	match := func(patterns []string, name string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			ok, err := path.Match(p, name)
			return ok && err == nil
		})
	}
	unused := make(map[string][]string) // what is allowed and not done
	for dir, patterns := range mayOpen {
		unused[dir] = slices.Clone(patterns)
	}
	for _, f := range tree(t) {
		if !f.isGo() || f.isTest() || strings.Contains(f.path, "testdata/") {
			continue
		}
		ast.Inspect(f.parse(t, fset), func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := pkg.Name + "." + sel.Sel.Name
			if name == "net.Listener" || !match(sockets, name) {
				return true
			}
			unused[f.dir()] = slices.DeleteFunc(unused[f.dir()], func(p string) bool { return match([]string{p}, name) })
			if !match(mayOpen[f.dir()], name) {
				t.Errorf("%s: %s may not use %s; internal/network/dial is who opens sockets", fset.Position(n.Pos()), f.dir(), name)
			}
			return true
		})
	}
	for dir, patterns := range unused {
		if len(patterns) > 0 {
			t.Errorf("%s uses none of %q; take it out of mayOpen", dir, patterns)
		}
	}
}
