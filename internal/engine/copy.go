package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/transfer"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// guestPath returns a path in a machine, whose user's home is home, as an absolute one. As
// with scp, a relative one begins there.
func guestPath(home, name string) string {
	if name == "~" {
		return home
	}
	if path.IsAbs(name) {
		return name
	}
	// What ends in a slash is a directory.
	return home + "/" + strings.TrimPrefix(name, "~/")
}

// CopyIn copies a file or directory of the host into the machine. A target that is a
// directory gets the source inside of it.
func (m Machine) CopyIn(ctx context.Context, source, target string) error {
	fi, err := os.Stat(source)
	if err != nil {
		return err
	}
	name := filepath.Base(filepath.Clean(source))
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := transfer.Pack(ctx, w, source, name, fi)
		w.CloseWithError(err)
		done <- err
	}()
	req := wire.Copy{Path: []byte(guestPath(m.p.Guest.User.Home, target)), Dir: m.p.Guest.User.Home, Name: []byte(name)}
	err = m.converse(ctx, func(stream net.Conn) error { return client.CopyIn(stream, req, r) })
	r.Close()
	if packErr := <-done; packErr != nil && !errors.Is(packErr, io.ErrClosedPipe) {
		return packErr
	}
	return m.copyError(err)
}

// copyError says of which machine an error of its guest is.
func (m Machine) copyError(err error) error {
	if refused, ok := errors.AsType[*client.GuestError](err); ok {
		return fmt.Errorf("machine %s: %w", m.Name(), refused)
	}
	return err
}

// CopyOut copies a file or directory of the machine to the host. It returns what it left
// out, in words with quoted names.
func (m Machine) CopyOut(ctx context.Context, source, target string) (skipped []string, err error) {
	if source != "" {
		source = guestPath(m.p.Guest.User.Home, source)
	}
	name := path.Base(path.Clean(source))
	if source == "" || name == "/" || name == "." || name == ".." {
		return nil, InputError{fault.New(fault.CopyUnnamed, args{"name": m.Name(), "target": target}, "which file of %s is it?", m.Name())}
	}
	// A target that is no directory is the new name of the source.
	dir, newName := target, name
	if fi, err := os.Stat(target); err != nil || !fi.IsDir() {
		dir, newName = filepath.Dir(target), filepath.Base(target)
	}
	root, err := userfile.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// The first error on either side ends the conversation, and with it what the guest sends.
	err = m.converse(ctx, func(stream net.Conn) error {
		r, err := client.CopyOut(stream, wire.Copy{Path: []byte(source), Dir: m.p.Guest.User.Home})
		if err != nil {
			return err
		}
		skipped, err = transfer.Extract(root, r, name, newName)
		return err
	})
	return skipped, m.copyError(err)
}
