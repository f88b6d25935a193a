// Package binary holds the guest's agent: the program that cmd/mayfly-guest
// builds, embedded so that mayfly is one file.
package binary

import (
	"embed"
	"io"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// The directory is embedded, not the file, so that the module compiles before
// the agent is built.
//
//go:embed build
var files embed.FS

// Agent returns the program. It is not copied.
func Agent() (*io.SectionReader, error) {
	missing := fault.New(fault.GuestProgramMissing, nil, "this mayfly was built without the guest's agent")
	f, err := files.Open("build/mayfly-guest")
	if err != nil {
		return nil, missing
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, missing
	}
	return io.NewSectionReader(f.(io.ReaderAt), 0, fi.Size()), nil
}
