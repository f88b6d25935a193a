package mayfly

import "testing"

// A machine that somebody else has started has no owner here: what only an owner knows is
// an error, and what only an owner may do does nothing.
func TestMachineOfAnother(t *testing.T) {
	var m Machine
	if err := m.Wait(t.Context()); err == nil {
		t.Error("Wait() = nil; want an error")
	}
	if err := m.Lost(); err == nil {
		t.Error("Lost() = nil; want an error")
	}
	if err := m.Keep(); err != nil {
		t.Errorf("Keep() = %v; want nil", err)
	}
	m.Close()
}
