package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// mountShares mounts the shares at the places below rootDir.
func mountShares(shares []wire.Share, places []string, u wire.User) error {
	for i, s := range shares {
		if err := makeMountPoint(rootDir, places[i], u); err != nil {
			return fmt.Errorf("make the way to %s: %w", s.Path, err)
		}
		flags := uintptr(nosuid)
		if s.ReadOnly {
			flags |= unix.MS_RDONLY
		}
		if err := (mount{s.Tag, filepath.Join(rootDir, places[i]), "virtiofs", flags, ""}).do(); err != nil {
			return err
		}
	}
	return nil
}

// unbindTimeout is what the kernel gets to let go of a device. It refuses new
// requests at once, and waits for those under way, which nobody will answer.
const unbindTimeout = time.Second

// shareLost takes the device of a share whose server is gone from its driver. A
// process that opens or reads something there gets ENOTCONN; otherwise it would
// wait for ever, and no signal would end it.
func (a *agent) shareLost(tag string) wire.Configured {
	device, err := shareDevice("/sys", tag)
	if err != nil {
		return wire.Configured{Error: err.Error()}
	}
	done := make(chan error, 1)
	go func() { // its owner is the kernel: it may never return
		done <- os.WriteFile("/sys/bus/virtio/drivers/virtiofs/unbind", []byte(device), 0)
	}()
	select {
	case err = <-done:
	case <-time.After(unbindTimeout):
	}
	if err != nil {
		return wire.Configured{Error: err.Error()}
	}
	return wire.Configured{}
}

// shareDevice returns the name of the virtio device with a tag, such as "virtio7".
func shareDevice(sys, tag string) (string, error) {
	// Documentation/ABI/testing/sysfs-fs-virtiofs
	files, err := filepath.Glob(filepath.Join(sys, "fs/virtiofs/*/tag"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(data)) != tag {
			continue
		}
		device, err := os.Readlink(filepath.Join(filepath.Dir(file), "device"))
		if err != nil {
			return "", err
		}
		return filepath.Base(device), nil
	}
	return "", fmt.Errorf("there is no share %q", tag)
}
