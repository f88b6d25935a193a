package hint

import (
	"maps"
	"slices"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// Hints are what users and scripts read: each as it is printed.
func TestTable(t *testing.T) {
	tests := []struct {
		code fault.Code
		args fault.Args
		want string
	}{
		{fault.NameTaken, fault.Args{"name": "web"}, "mayfly ls, or mayfly rm web"},
		{fault.MachineNotFound, fault.Args{"name": "web"}, "mayfly ls"},
		{fault.MachineUndefined, fault.Args{"name": "web"}, "mayfly ls, or mayfly new NAME"},
		{fault.MachineDefined, fault.Args{"name": "web", "file": "/f"}, "mayfly inspect web, or another name"},
		{fault.MachineDataLeft, fault.Args{"name": "web", "dir": "/d"}, "mayfly rm web removes it"},
		{fault.VolumeShrinks, fault.Args{"machine": "web", "volume": "v", "mib": "64"}, `size = "64MiB" in [[volume]], or mayfly reset web, which wipes it`},
	}
	untested := maps.Clone(next)
	for _, tt := range tests {
		delete(untested, tt.code)
		if got := Of(fault.New(tt.code, tt.args, "failed")); got != tt.want {
			t.Errorf("the hint for %s %v is %q; want %q", tt.code, tt.args, got, tt.want)
		}
	}
	for _, code := range slices.Sorted(maps.Keys(untested)) {
		t.Errorf("no case for %s", code)
	}
}

// A hint can only speak of what its failure tells.
func TestTemplates(t *testing.T) {
	declared := make(map[fault.Code][]string)
	for _, k := range fault.Kinds() {
		declared[k.Code] = k.Args
	}
	for code, template := range next {
		args, ok := declared[code]
		if !ok {
			t.Errorf("there is no code %s", code)
		}
		for _, arg := range pieces(template) {
			if arg != "" && !slices.Contains(args, arg) {
				t.Errorf("%s: %q has the argument %q; declared are %q", code, template, arg, args)
			}
		}
	}
}
