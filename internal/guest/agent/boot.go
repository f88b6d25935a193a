package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// moduleDir holds the modules of the initramfs and, in the file "order", their
// names in the order in which they must be loaded.
const moduleDir = "/lib/modules"

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
	}
	return nil
}

// on mounts m on target in place of its own.
func (m mount) on(target string) error {
	m.target = target
	return m.do()
}

const nosuid = unix.MS_NOSUID | unix.MS_NODEV

// mountKernel mounts the kernel's own file systems.
func mountKernel() error {
	for _, m := range []mount{
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"proc", "/proc", "proc", nosuid | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", nosuid | unix.MS_NOEXEC, ""},
	} {
		// The kernel may have mounted devtmpfs already.
		if err := m.do(); err != nil && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return nil
}

func readModuleOrder(dir string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "order"))
	if err != nil {
		return nil, fmt.Errorf("read the list of modules: %w", err)
	}
	return strings.Fields(string(data)), nil
}

func loadModules(names []string) error {
	for _, name := range names {
		f, err := os.Open(filepath.Join(moduleDir, name))
		if err != nil {
			return fmt.Errorf("load module: %w", err)
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return nil
}

// isConsoleDriver reports whether name is the module that drives virtio-serial
// ports.
func isConsoleDriver(name string) bool {
	return strings.HasPrefix(filepath.Base(name), "virtio_console.")
}

// findPort returns the device of the control port.
func findPort() (string, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return "", err
	}
	for _, file := range names {
		if data, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(data)) == wire.PortName {
			return "/dev/" + filepath.Base(filepath.Dir(file)), nil
		}
	}
	return "", fmt.Errorf("no virtio-serial port is named %s", wire.PortName)
}

// diskNames are the block devices of the machine by serial number.
type diskNames map[string]string

func findDisks() (diskNames, error) {
	files, err := filepath.Glob("/sys/block/vd*/serial")
	if err != nil {
		return nil, err
	}
	bySerial := make(diskNames, len(files))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		bySerial[strings.TrimSpace(string(data))] = "/dev/" + filepath.Base(filepath.Dir(file))
	}
	return bySerial, nil
}

// find returns the device of the disk with a serial number.
func (d diskNames) find(serial string) (string, error) {
	dev, ok := d[serial]
	if !ok {
		return "", fmt.Errorf("no disk has the serial number %s", serial)
	}
	return dev, nil
}
