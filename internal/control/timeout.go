package control

import (
	"time"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

// BootTimeout returns the time that a guest has to answer. Without KVM it takes
// two or three seconds, and on a loaded host many times that.
func BootTimeout(m plan.Machine) time.Duration {
	switch {
	case m.BootSeconds > 0:
		return time.Duration(m.BootSeconds) * time.Second
	case m.Accelerator == plan.KVM:
		return 30 * time.Second
	}
	return 2 * time.Minute
}

// StartTimeout is longer than the start of a machine takes in which each step takes what
// it may: a template that is made and does not work, and then a boot, and systemd. Only
// a workspace that is packed for minutes takes longer.
func StartTimeout(p plan.Plan) time.Duration {
	warming := time.Duration(1+len(p.Template.Prewarm)) * WarmTimeout(p.Machine)
	boots := 3
	if p.Image.Init == plan.InitSystemd {
		boots += 3 // the steps of startSystemd
	}
	return time.Duration(boots)*BootTimeout(p.Machine) + warming + 2*RestoreTimeout(p.Machine)
}

// WarmTimeout is the time that one warming command may take.
func WarmTimeout(m plan.Machine) time.Duration {
	if m.Accelerator == plan.KVM {
		return 20 * time.Second
	}
	return 2 * time.Minute
}

// RestoreTimeout bounds the time from the start of the VMM to the answer of a
// restored guest, and that of its configuration. Both take fractions of a second,
// but seconds where many are started at once.
func RestoreTimeout(m plan.Machine) time.Duration {
	if m.Accelerator == plan.KVM {
		return 15 * time.Second
	}
	return 45 * time.Second
}
