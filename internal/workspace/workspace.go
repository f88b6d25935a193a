// Package workspace is all host files that a guest sees in copy mode, and the
// way back.
//
// On the way in, Pack copies a directory into an EROFS image and writes down
// in a Manifest what it saw. On the way back, Diff turns the guest's list of
// changes into edits, Stage fetches the contents that they need, and Apply
// carries them out on the host's directory.
//
// Two parties are not trusted. The guest is hostile: whatever it reports is
// bounded and checked here, and its contents must have the hash that it gave
// when it listed them. The directory on the host is merely alive: it may
// change at any moment, so no path is opened through a symbolic link, and
// what changed since the copy was made is reported and left alone.
//
// The package neither prints nor asks, and knows nothing of how the guest is
// reached.
package workspace

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Kind is what a path is.
type Kind uint8

// The kinds. Other is what is never copied, in neither direction: sockets,
// pipes and devices. Whiteout only occurs in a Change.
const (
	None Kind = iota
	File
	Dir
	Symlink
	Whiteout
	Other
)

var kindNames = [...]string{"nothing", "file", "directory", "symbolic link", "whiteout", "special file"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Note is one remark for the user about one path.
type Note struct {
	Path string // relative to the workspace; "" for a remark about all of it
	Text string
}

func (n Note) String() string {
	if n.Path == "" {
		return n.Text
	}
	return termsafe.Quote(n.Path) + ": " + n.Text
}

// Check says whether dir can be a workspace at all. Which directories mayfly
// refuses by policy is the plan's business.
func Check(dir string) error {
	fi, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.WorkspaceMissing, fault.Args{"dir": dir}, "workspace %s: %w", termsafe.Quote(dir), fs.ErrNotExist)
	case err != nil:
		return fmt.Errorf("workspace: %w", err)
	case !fi.IsDir():
		return fault.New(fault.WorkspaceNotADirectory, fault.Args{"dir": dir}, "workspace %s: %w", termsafe.Quote(dir), unix.ENOTDIR)
	}
	f, err := os.Open(dir)
	if err == nil {
		_, err = f.Readdirnames(1)
		f.Close()
		if err == nil || err == io.EOF {
			err = unix.Access(dir, unix.X_OK)
		}
	}
	if err != nil {
		return fault.New(fault.WorkspaceUnreadable, fault.Args{"dir": dir}, "workspace %s: %w", termsafe.Quote(dir), err)
	}
	return nil
}
