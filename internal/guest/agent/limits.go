package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What programs expect of a Debian desktop. The kernel's own values are of older times, or
// follow from a memory that is small here.
const (
	softFiles = 1024 // of select(2); who wants more raises it
	hardFiles = 1 << 20
)

// sysctls are for watchers of large trees, for databases and their like, and for machines
// that start many processes.
var sysctls = map[string]string{
	"fs/inotify/max_user_instances": "1024",
	"fs/inotify/max_user_watches":   "524288",
	"kernel/pid_max":                "4194304",
	"vm/max_map_count":              "1048576",
}

// setLimits sets the limits of the machine, and lets this process open as many files as
// may be.
func setLimits() error {
	var errs []error
	for name, value := range sysctls {
		errs = append(errs, os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0))
	}
	// From now on package syscall gives programs the limit of this process.
	errs = append(errs, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: hardFiles, Max: hardFiles}))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("set limits: %w", err)
	}
	return nil
}

// withFileLimit runs fork so that the program that it starts may open as many files as
// programs expect. Whoever opens one here in this moment needs a free number below that.
func withFileLimit(fork func() (int, error)) (int, error) {
	var own unix.Rlimit
	if err := limitFiles(nil, &own); err != nil || own.Cur <= softFiles {
		return fork()
	}
	if err := limitFiles(&unix.Rlimit{Cur: softFiles, Max: own.Max}, nil); err != nil {
		return 0, fmt.Errorf("limit open files: %w", err)
	}
	defer limitFiles(&own, nil)
	return fork()
}

// limitFiles is prlimit(2) for this process, of which package syscall hears nothing.
func limitFiles(to, was *unix.Rlimit) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE,
		uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(was)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// devices are of drivers that are loaded when somebody opens them, modules.devname(5). All
// may: what they give, their drivers check.
var devices = []struct {
	name         string
	mode         uint32
	major, minor uint32
}{
	{"/dev/fuse", 0o666, 10, 229},
	{"/dev/net/tun", 0o666, 10, 200},
	{"/dev/loop-control", 0o600, 10, 237},
}

func makeDevices() error {
	if err := os.MkdirAll("/dev/net", 0o755); err != nil {
		return err
	}
	for _, d := range devices {
		err := unix.Mknod(d.name, unix.S_IFCHR, int(unix.Mkdev(d.major, d.minor)))
		if err != nil && !errors.Is(err, unix.EEXIST) { // of a driver that the kernel has built in
			return fmt.Errorf("make %s: %w", d.name, err)
		}
		if err := unix.Chmod(d.name, d.mode); err != nil {
			return err
		}
	}
	return nil
}
