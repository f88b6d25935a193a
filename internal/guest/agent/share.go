package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// mountedShare is a directory of the host's that is mounted.
type mountedShare struct {
	tag string
	// connection is the number by which the kernel knows the mount's way to its
	// server, filesystems/fuse.rst.
	connection uint32
}

// mountShares mounts the shares at the places below rootDir.
func mountShares(shares []wire.Share, places []string) ([]mountedShare, error) {
	var mounted []mountedShare
	for i, s := range shares {
		flags := uintptr(nosuid)
		if s.ReadOnly {
			flags |= unix.MS_RDONLY
		}
		target := filepath.Join(rootDir, places[i])
		if err := (mount{s.Tag, target, "virtiofs", flags, ""}).do(); err != nil {
			return nil, err
		}
		var st unix.Stat_t
		if err := unix.Stat(target, &st); err != nil {
			return nil, fmt.Errorf("look at the share %s: %w", s.Path, err)
		}
		mounted = append(mounted, mountedShare{s.Tag, unix.Minor(st.Dev)})
	}
	return mounted, nil
}

// shareLost ends the connection of a share whose server is gone: the kernel would
// let its users wait for ever.
func (a *agent) shareLost(tag string) wire.Configured {
	m, err := a.configured()
	if err != nil {
		return wire.Configured{Error: err.Error()}
	}
	for _, s := range m.shares {
		if s.tag != tag {
			continue
		}
		if err := abort(s.connection); err != nil {
			return wire.Configured{Error: err.Error()}
		}
		return wire.Configured{}
	}
	return wire.Configured{Error: fmt.Sprintf("there is no share %q", tag)}
}

// abort ends a connection of the kernel to a server of files.
func abort(connection uint32) error {
	dir, err := os.MkdirTemp("/run", "mayfly-fuse-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := (mount{"fusectl", dir, "fusectl", nosuid | unix.MS_NOEXEC, ""}).do(); err != nil {
		return err
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	return os.WriteFile(filepath.Join(dir, strconv.FormatUint(uint64(connection), 10), "abort"), []byte("1"), 0)
}
