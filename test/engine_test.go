package test

import (
	"encoding/json"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/hardware"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine/drivers"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/test/conformance"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// TestQEMU passes the suite of all drivers with real machines.
func TestQEMU(t *testing.T) {
	driver, err := drivers.For(plan.Engine{Name: plan.EngineQEMU})
	if err != nil {
		t.Fatal(err)
	}
	conformance.Parent(t, driver)
	vm.Lock(t)
	h := vm.New(t)
	p := dryRun(t, h, "--network", "none")
	var img image.Image
	out := h.Run(0, "image", "build", "--no-detect", "--json").Stdout
	if err := json.Unmarshal([]byte(out), &img); err != nil {
		t.Fatal(err)
	}
	conformance.Run(t, conformance.Suite{Driver: driver, Spec: hardware.Base(p, img), Timeout: vm.Timeout})
}
