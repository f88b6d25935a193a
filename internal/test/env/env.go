// Package env says what a test may use of the machine that it runs on.
//
// The default tier of tests uses no virtual machine, no root and no network.
// What needs more asks here, so that every skip has the same words and the
// same switch.
package env

import (
	"os"
	"testing"
)

// VMVariable switches the tests on that boot real machines, build real images
// or need root; `make test` sets it.
const VMVariable = "MAYFLY_TEST_VM"

// NeedVM skips t unless the tests that boot real machines are switched on.
func NeedVM(t testing.TB) {
	t.Helper()
	if os.Getenv(VMVariable) == "" {
		t.Skipf("boots a machine or builds an image; set %s=1 to run it (make test does)", VMVariable)
	}
}

// NeedRoot skips t for a normal user.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root; make test runs it as root where it can")
	}
}
