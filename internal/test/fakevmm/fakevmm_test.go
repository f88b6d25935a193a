package fakevmm_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/test/conformance"
	"github.com/mayfly-vm/mayfly/internal/test/fakevmm"
)

// What is tested with fake VMMs holds for real ones as far as both pass this.
func TestConformance(t *testing.T) {
	layer := filepath.Join(t.TempDir(), "layer")
	if err := os.WriteFile(layer, []byte("layer"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := machine.Spec{Machine: plan.Machine{MemoryMiB: 16, Engine: plan.Engine{Name: "fake", Path: "/fake/vmm"}}}
	spec.Disks[plan.SlotFirstLayer] = machine.Disk{Path: layer}
	for name, d := range map[string]*fakevmm.Driver{
		"all":  {},
		"none": {Lacks: machine.Capabilities{Save: true, Shares: true, Stream: true, Tap: true, Disks: plan.MaxKeptDisks}},
	} {
		t.Run(name, func(t *testing.T) {
			conformance.Run(t, conformance.Suite{Driver: d, Spec: spec, Timeout: 10 * time.Second})
		})
	}
}
