package treetest

import (
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// imports says which packages of ours each package may import, in the order of the
// data: config, plan, image, machine, guest. A row names only packages whose rows
// stand above it, so that nothing imports upwards. Do not edit it to make a build
// pass: it says what the program is.
//
// A package is named by its directory without internal/, the one at the root as
// mayfly. A name that ends in /* stands for all packages directly below. Leaves may
// be imported by anyone, and themselves import only leaves. An edge that only tests
// need is in inTests; tests may also import test/*.
const imports = `
leaf: acp agentsettings apt atomicfile budget clone codingagent confine credential diskspace dotfiles fault filelock gitrun image/cpio image/erofs image/kernel image/tool ipaddr linediff naming nesting proc sdnotify shellquote skill sparse sshconfig sshkey suggest systemd terminal terminal/filter terminal/grid terminal/screen termsafe tomledit tomlquote userfile

config:
host/kvmguest:
workspace/repository:                                    # what a repository says of itself
host:               host/kvmguest workspace/repository
plan:               config host
importer/nix:                                           # reads what strangers wrote
importer/bundle:    config

image/agents:
image/debian:
image/diff:
image:              plan image/*
network/policy:     plan
network/audit:
network/secret:
network/dns:
network/dial:
login:              network/secret                      # log-ins that the host keeps
login/lender:       login network/dial                  # a process that renews them
network/link:
network/vnet:       network/link
network/intercept:  network/policy network/audit network/secret
network/bridge:
network:            plan network/*
attack:                                                 # runs in the guest
workspace:          plan
workspace/ignored:  workspace                           # what the host's git ignores
review/gitconfig:                                       # what settings of git's have it do
review/settings:                                        # what differs between two files of settings
review:             review/*                            # what changes would do to the host
workspace/live:     workspace review                    # what the host runs of a directory that a machine has live
transcript:                                             # reads archives of guests
commits:            workspace/repository                # takes what a machine committed into a repository, and gives a copy its own
share:              plan workspace                      # the patterns of what stays out of a copy
definition:         plan                                # machines with a name of their own
state:              plan definition

cli/hint:                                               # the command line's words; none below it has any

guest/wire:
guest/binary:
guest/client:       guest/wire
guest/hook:       guest/wire
guest/session:      guest/wire guest/hook
guest/sshd:
transfer:          
guest/incoming:     guest/wire
guest/agent:        guest/wire guest/hook guest/session guest/sshd guest/incoming transfer

machine:            plan
machine/qemu:       plan machine guest/wire             # the name of the control port is the protocol's
machine/drivers:    plan machine machine/qemu           # the one place that names them all
template:           plan image machine

hardware:           plan image definition state machine network/vnet
control:            plan state workspace network/audit network/secret guest/wire   # a supervisor's clients; nothing of how it does its work
supervisor:         commits control hardware login/lender plan image definition template network network/* share workspace workspace/repository state machine machine/drivers guest/client guest/wire
engine:             config commits host plan image image/* definition importer/bundle network/* login workspace workspace/* review review/gitconfig share state hardware machine machine/drivers template guest/binary guest/client guest/wire control attack transfer transcript   # what front ends share
mayfly:             config commits plan image attack login workspace review share machine importer/bundle network/audit guest/client guest/wire control supervisor transcript engine
cli/pasting:        cli/hint                            # what its user wants to show to a program
cli/words:          mayfly                              # what it says of machines
cli/dashboard:      mayfly cli/words                    # what mayfly top shows; it does nothing itself
mcp:                mayfly                              # tools for coding agents outside of machines
cli:                cli/dashboard cli/hint cli/pasting cli/words mayfly mcp network/bridge importer/nix

test/canary:
test/crash:
test/env:
test/conformance:   machine plan guest/wire guest/client
test/fakevmm:       machine plan guest/wire
test/websocket:
test/lab:           test/env test/websocket
test/provider:      test/websocket
test/systemd:       test/env
test/vm:            test/env
test/script:        cli control
test/bench:         mayfly codingagent commits control plan machine network/* review state terminal/* guest/client guest/wire workspace   # layers below package mayfly, and what is compared with it
test:
treetest/reference: cli config engine review
treetest:

examples/frontend:  mayfly                              # what anybody else may import
cmd/mayfly:         cli
cmd/mayfly-bench:   test/bench
cmd/mayfly-guest:   guest/agent                         # and nothing else of ours: it runs among the enemy
`

// inTests says what more the tests of a package may import.
const inTests = `
cli:                commits control plan state workspace guest/wire guest/incoming # what a crash has left, and what a supervisor and a guest tell
guest/agent:        guest/client                        # the two ends of one conversation are tested together
importer/nix:       config                              # the files that it writes are read
network/intercept:  plan
supervisor:         machine/qemu                        # the command line of a template has nothing of a user
test:               control hardware host plan image template state share machine/drivers guest/client guest/wire
treetest:           cli config engine treetest/reference # documents are compared with the tables
`

// apart says what no package may import, whatever the table of imports says of it.
// Names may be patterns, of what there is.
const apart = `
cli cli/* cmd/*:    engine control supervisor definition state image template workspace machine   # a front end drives package mayfly, and knows no machinery
engine:             mayfly cli cli/hint supervisor      # it never prints and never asks
supervisor:         mayfly cli engine cli/hint          # it is one machine's process, which front ends talk to
control:            mayfly cli engine cli/hint supervisor # it knows a socket and no more
mayfly:             cli cli/hint                        # words are the front end's
`

// row is a line of one of the tables.
type row struct {
	names []string
	edges []string
}

// readTable parses a table: names, a colon, the names of other packages, and a
// comment behind a #.
func readTable(t *testing.T, table string) []row {
	t.Helper()
	var rows []row
	for line := range strings.Lines(table) {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		names, edges, ok := strings.Cut(line, ":")
		if !ok {
			t.Fatalf("bad row %q", line)
		}
		rows = append(rows, row{strings.Fields(names), strings.Fields(edges)})
	}
	return rows
}

// edgesOf returns the edges of the row with that name.
func edgesOf(rows []row, name string) []string {
	for _, r := range rows {
		if slices.Contains(r.names, name) {
			return r.edges
		}
	}
	return nil
}

// importer is what one package of ours imports of the others, each with a file that
// does so.
type importer struct {
	code, tests map[string]string
}

// importGraph returns all packages of the tree, by their names in the tables.
func importGraph(t *testing.T) map[string]importer {
	t.Helper()
	graph := make(map[string]importer)
	fset := token.NewFileSet()
	for _, f := range tree(t) {
		if !f.isGo() || strings.Contains(f.path, "testdata/") {
			continue
		}
		pkg := packageName(f.dir())
		if _, ok := graph[pkg]; !ok {
			graph[pkg] = importer{make(map[string]string), make(map[string]string)}
		}
		into := graph[pkg].code
		if f.isTest() {
			into = graph[pkg].tests
		}
		for _, spec := range f.parse(t, fset).Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if imported != module && !strings.HasPrefix(imported, module+"/") {
				continue
			}
			dir := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
			if other := packageName(dir); other != pkg {
				into[other] = f.path
			}
		}
	}
	return graph
}

// packageName returns the name of the package in dir, as the tables have it.
func packageName(dir string) string {
	if dir == "." || dir == "" {
		return path.Base(module)
	}
	return strings.TrimPrefix(dir, "internal/")
}

// matches reports whether one of the patterns stands for name.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

func TestImports(t *testing.T) {
	rows, more := readTable(t, imports), readTable(t, inTests)
	leaves := edgesOf(rows, "leaf")
	graph := importGraph(t)
	for _, pkg := range slices.Sorted(maps.Keys(graph)) {
		if !slices.Contains(leaves, pkg) && !slices.ContainsFunc(rows, func(r row) bool { return slices.Contains(r.names, pkg) }) {
			t.Errorf("%s has no row in the table of imports", pkg)
			continue
		}
		may := slices.Concat(leaves, edgesOf(rows, pkg))
		for other, file := range graph[pkg].code {
			if !matches(may, other) {
				t.Errorf("%s: %s may not import %s", file, pkg, other)
			}
		}
		may = slices.Concat(may, edgesOf(more, pkg), []string{"test/*"})
		for other, file := range graph[pkg].tests {
			if !matches(may, other) {
				t.Errorf("%s: the tests of %s may not import %s", file, pkg, other)
			}
		}
	}
}

// The tables name what there is and what is used.
func TestImportTablesAreUsed(t *testing.T) {
	graph := importGraph(t)
	rows := readTable(t, imports)
	leaves := edgesOf(rows, "leaf")
	exists := func(where, pattern string) {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(graph)), func(pkg string) bool { return matches([]string{pattern}, pkg) }) {
			t.Errorf("%s: there is no package %s", where, pattern)
		}
	}
	used := func(where string, edges []string, imported map[string]string) {
		for _, edge := range edges {
			exists(where, edge)
			if !slices.ContainsFunc(slices.Collect(maps.Keys(imported)), func(other string) bool { return matches([]string{edge}, other) }) {
				t.Errorf("%s: nothing there imports %s; take it out of the row", where, edge)
			}
		}
	}
	var above []string
	for _, r := range rows {
		name := r.names[0]
		if name == "leaf" {
			for _, leaf := range r.edges {
				exists("the leaves", leaf)
			}
			continue
		}
		where := "imports, row " + name
		exists(where, name)
		if slices.Contains(leaves, name) {
			t.Errorf("%s: it is a leaf, too", where)
		}
		used(where, r.edges, graph[name].code)
		for other := range graph[name].code {
			if matches(r.edges, other) && !slices.Contains(above, other) && !slices.Contains(leaves, other) {
				t.Errorf("%s: the row of %s is not above it", where, other)
			}
		}
		above = append(above, name)
	}
	for _, r := range readTable(t, inTests) {
		used("inTests, row "+r.names[0], r.edges, graph[r.names[0]].tests)
	}
	for _, r := range readTable(t, apart) {
		for _, pattern := range slices.Concat(r.names, r.edges) {
			exists("apart", pattern)
		}
	}
}

func TestWhatStaysApart(t *testing.T) {
	for pkg, i := range importGraph(t) {
		for _, r := range readTable(t, apart) {
			if !matches(r.names, pkg) {
				continue
			}
			for other, file := range i.code {
				if matches(r.edges, other) {
					t.Errorf("%s: %s may not import %s, by what stays apart", file, pkg, other)
				}
			}
		}
	}
}
