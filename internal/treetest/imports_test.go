package treetest

import (
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// imports says which packages of ours each package may import, in the order of
// the data: config, plan, image, machine, guest. Nothing imports upwards. Do
// not edit it to make a build pass: it says what the program is.
//
// Leaves may be imported by anyone, and themselves import only leaves. A name
// that ends in /* stands for all packages below. Tests may also import what
// only tests use.
const imports = `
leaf: apt atomicfile cleanup clone codingagent dotfiles fault filelock hint ipaddr image/cpio image/erofs image/kernel image/tool proc sdnotify skill sshkey systemd

config:
host:               host/kvmguest
host/kvmguest:
plan:               config host

image:              plan image/* guest/binary
image/agents:
image/debian:
image/diff:
network/policy:     plan
network/audit:
network/secret:
network/dns:
network/dial:
network/link:
network/vnet:       network/link
network/intercept:  plan network/policy network/audit network/secret
network/bridge:     plan
network:            plan network/*
attack:                                                 # runs in the guest
workspace:          plan
share:              plan
definition:         plan                                # machines with a name of their own
state:              plan definition
importer/nix:                                           # reads what strangers wrote
importer/bundle:    config

machine:            plan image
machine/qemu:       plan image machine guest/wire       # the name of the control port is the protocol's
template:           plan image machine

guest/wire:
guest/binary:
guest/client:       guest/wire
guest/session:      guest/wire
guest/sshd:
guest/agent:        guest/wire guest/session guest/sshd

hardware:           plan image definition state machine network/vnet
control:            plan state workspace network/audit network/secret guest/wire   # a supervisor's clients; nothing of how it does its work
supervisor:         control hardware plan image definition template network network/* share workspace state machine machine/* guest/client guest/wire
cli:                control hardware config host plan definition image image/* template machine machine/* network/* state supervisor guest/client guest/session guest/wire guest/binary workspace share attack importer/*
test/vm:            plan image machine machine/* guest/client
test/bench:         control hardware host plan image template machine machine/* network network/* state supervisor guest/client guest/wire guest/binary workspace
test/script:        cli
treetest:

test:               control host plan image template state supervisor share guest/client guest/wire

cmd/mayfly:         cli
cmd/mayfly-bench:   test/bench
cmd/mayfly-guest:   guest/agent                         # and nothing else of ours: it runs among the enemy
`

// testOnly are the packages that only tests import.
var testOnly = []string{"test/lab", "test/systemd", "test/env", "test/script", "test/vm"}

// inTests says what more the tests of a package may import.
var inTests = map[string][]string{
	"codingagent":  {"config"},       // every agent that an image can have can be started
	"guest/agent":  {"guest/client"}, // the two ends of one conversation are tested together
	"importer/nix": {"config"},       // the files that it writes are read
}

// policyTable parses imports.
func policyTable(t *testing.T) (leaves []string, allowed map[string][]string) {
	t.Helper()
	allowed = make(map[string][]string)
	for line := range strings.Lines(imports) {
		line, _, _ = strings.Cut(line, "#")
		name, list, ok := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case name == "":
		case !ok:
			t.Fatalf("bad row %q", line)
		case name == "leaf":
			leaves = strings.Fields(list)
		default:
			allowed[name] = strings.Fields(list)
		}
	}
	return leaves, allowed
}

func TestImportDirection(t *testing.T) {
	leaves, allowed := policyTable(t)
	fset := token.NewFileSet()
	for _, f := range tree(t) {
		if !f.isGo() || strings.Contains(f.path, "testdata/") {
			continue
		}
		pkg := strings.TrimPrefix(f.dir(), "internal/")
		may, listed := allowed[pkg]
		if !listed && !slices.Contains(leaves, pkg) && !slices.Contains(testOnly, pkg) {
			t.Errorf("%s: package %s has no row in the table of imports", f.path, pkg)
			continue
		}
		for _, spec := range f.parse(t, fset).Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			ours, ok := strings.CutPrefix(imported, module+"/")
			if !ok {
				continue
			}
			ours = strings.TrimPrefix(ours, "internal/")
			if ours == pkg || slices.Contains(leaves, ours) || matches(may, ours) {
				continue
			}
			if f.isTest() && slices.Contains(inTests[pkg], ours) {
				continue
			}
			if slices.Contains(testOnly, ours) && (f.isTest() || slices.Contains(testOnly, pkg)) {
				continue
			}
			t.Errorf("%s: %s may not import %s", f.path, pkg, ours)
		}
	}
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

// The table must describe something that can be built: a cycle in it would
// allow what the compiler refuses, and hide which way the data flows.
func TestImportTableHasNoCycle(t *testing.T) {
	leaves, allowed := policyTable(t)
	for _, leaf := range leaves {
		if _, ok := allowed[leaf]; ok {
			t.Errorf("%s is a leaf and has a row", leaf)
		}
	}
	var visit func(name string, way []string)
	visit = func(name string, way []string) {
		if slices.Contains(way, name) {
			t.Errorf("a cycle: %s", strings.Join(append(way, name), " → "))
			return
		}
		for other := range allowed {
			if other != name && matches(allowed[name], other) {
				visit(other, append(slices.Clip(way), name))
			}
		}
	}
	for name := range allowed {
		visit(name, nil)
	}
}
