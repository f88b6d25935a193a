// Package drivers chooses the driver for a plan's engine. It is the only package
// that knows all of them.
package drivers

import (
	"fmt"

	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/machine/qemu"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// For returns the driver for an engine.
func For(e plan.Engine) (machine.Driver, error) {
	switch e.Name {
	case plan.EngineQEMU:
		return qemu.Driver{}, nil
	default:
		return nil, fmt.Errorf("the plan names the engine %q; this version of mayfly knows only %q", e.Name, plan.EngineQEMU)
	}
}
