// Package binary holds the guest's agent: the program that cmd/mayfly-guest
// builds, embedded so that mayfly is one file.
package binary

import (
	"embed"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// The directory is embedded, not the file, so that the module compiles before
// the agent is built.
//
//go:embed build
var files embed.FS

// Agent returns the program.
func Agent() ([]byte, error) {
	data, err := files.ReadFile("build/mayfly-guest")
	if err != nil {
		return nil, fault.New(fault.GuestProgramMissing, nil, "this mayfly was built without the guest's agent")
	}
	return data, nil
}
