package bench

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/machine"
)

func TestRow(t *testing.T) {
	r := newRow("x", "s", []float64{3, 1, 2}, []float64{4, 2}, "").ratioAtMost(0.7)
	if r.Ours != 2 || r.OursMin != 1 || *r.Baseline != 3 || *r.BaselineMin != 2 || *r.Ratio != 2.0/3 || !*r.Met {
		t.Errorf("newRow = %+v; want medians 2 and 3, least 1 and 2, met", r)
	}
	if r := newRow("x", "s", []float64{3}, nil, "").atMost(2.9); *r.Met || r.Ratio != nil || r.Target != "≤ 2.9 s" {
		t.Errorf("newRow = %+v; want a target that is missed, and no ratio", r)
	}
}

func TestSeries(t *testing.T) {
	s := series{values{[]float64{1}, []float64{4}}, values{[]float64{2}, []float64{5}}}
	r := s.row("x", "s", "")
	if r.Ours != 1 || *r.Ratio != 0.25 || *r.Against != 2 || *r.AgainstBaseline != 5 || *r.AgainstRatio != 0.4 || *r.Change != 0.5 {
		t.Errorf("row = %+v; want 1 by 4, against 2 by 5", r)
	}
	if r := s[:1].row("x", "s", ""); r.Against != nil || r.Change != nil {
		t.Errorf("row = %+v; want nothing of another program", r)
	}
}

func TestChooseGroups(t *testing.T) {
	groups, err := chooseGroups("scp,start")
	if err != nil || len(groups) != 2 || groups[0].name != "scp" || groups[1].name != "start" {
		t.Errorf("chooseGroups = %v, %v; want scp and start", groups, err)
	}
	if _, err := chooseGroups("start,x"); err == nil {
		t.Error("chooseGroups with one that is not there: no error")
	}
}

func TestBare(t *testing.T) {
	c := machine.Command{Path: "qemu", Args: []string{
		"-L", "dir", "-nodefaults", "-sandbox", "on", "-m", "1M", "-kernel", "k", "-append", "a=-1 b", "-device", "disk",
	}}
	got, err := bare(c)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"-L", "dir", "-nodefaults", "-m", "1M", "-kernel", "k", "-append", "a=-1 b"}
	if d := cmp.Diff(want, got.Args[:len(want)]); d != "" {
		t.Errorf("bare(…).Args differs (-want +got):\n%s", d)
	}
	if _, err := bare(machine.Command{}); err == nil {
		t.Error("bare of an empty command: no error")
	}
}

func TestPaints(t *testing.T) {
	// It clears, asks where the cursor is and waits for that, and then paints.
	took, err := paints(exec.CommandContext(t.Context(), "sh", "-c", `stty raw -echo; printf '\033[2J\033[6n'; dd bs=1 count=6 2>/dev/null >&2; printf 'Ask for anything'; sleep 1000`))
	if err != nil || took <= 0 {
		t.Errorf("paints = %v, %v; want a time", took, err)
	}
	if _, err := paints(exec.CommandContext(t.Context(), "sh", "-c", "echo no image >&2; printf '\\033[2J...'")); err == nil || !strings.Contains(err.Error(), "no image") {
		t.Errorf("paints of nothing: %v; want what it said", err)
	}
}
