package engine

import (
	"testing"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// A live workspace has nothing to send, and neither has a machine without one.
func TestSyncLive(t *testing.T) {
	for _, tt := range []struct {
		workspace plan.Workspace
		want      fault.Code
	}{
		{plan.Workspace{Path: "/w", Mode: plan.ModeShare}, fault.SyncLive},
		{plan.Workspace{}, fault.WorkspaceNone},
		{plan.Workspace{Path: "/w", Mode: plan.ModeCopy}, ""},
	} {
		m := Machine{p: plan.Plan{Name: "m", Workspace: tt.workspace}}
		if _, err := m.NewSync(); fault.CodeOf(err) != tt.want {
			t.Errorf("%+v: NewSync() = %v; want the code %q", tt.workspace, err, tt.want)
		}
	}
}
