package filter

import (
	"bytes"
	"os"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/terminal/grid"
)

// What coding agents write on a terminal of 80 by 24 when they start. The files were
// recorded from the real programs (Claude Code 2.1.332, Codex 0.171.0, opencode 1.18.34),
// without a network, on a terminal that answers what it is asked, with some keys typed.
func TestAgents(t *testing.T) {
	for name, probes := range map[string][]string{
		"claude": {"\x1b]7501;?\a"},
		"codex":  nil,
		"opencode": {
			"\x1bP+q4d73\x1b\\", "\x1b]99;i=opentui-notifications:p=?;\x1b\\", "\x1b]1337;Capabilities\x1b\\",
			"\x1b_Gi=31337,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\",
		},
	} {
		recorded, err := os.ReadFile("testdata/" + name + ".rec")
		if err != nil {
			t.Fatal(err)
		}
		want := recorded
		for _, probe := range probes {
			if !bytes.Contains(want, []byte(probe)) {
				t.Errorf("%s does not ask %q", name, probe)
			}
			want = bytes.ReplaceAll(want, []byte(probe), nil)
		}
		for _, n := range []int{1, 7, 4096} {
			if got := filtered(Options{}, string(recorded), n); got != string(want) {
				t.Errorf("in pieces of %d bytes the output of %s is not as it was, without the probes that are not answered", n, name)
			}
		}
		if got, want := drawn(want), drawn(recorded); !bytes.Equal(got, want) {
			t.Errorf("the screen of %s is\n%q, want\n%q", name, got, want)
		}
	}
}

// drawn returns what draws the screen that is there after out.
func drawn(out []byte) []byte {
	g := grid.New(24, 80)
	g.Write(out)
	return g.All()
}
