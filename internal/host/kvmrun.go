package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/host/kvmguest"
)

// runGuest boots the tiny guest. It returns why the guest did not come to its
// end, or "" when it did; an error when the trial itself could not be made.
func runGuest(ctx context.Context, q QEMU, accel, cpu string, timeout time.Duration) (reason string, err error) {
	kernel, err := memfile("guest", kvmguest.Image())
	if err != nil {
		return "", err
	}
	defer kernel.Close()

	trial, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var serial, stderr capture
	// The kernel reports an instruction that it cannot emulate and QEMU stops
	// the guest for good: no need to wait for the deadline then.
	stderr.watch, stderr.found = []byte("KVM internal error"), cancel

	args := append(q.DataArgs(),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		// The machine of real guests without its optional parts.
		"-M", "q35,usb=off,sata=off,smbus=off,vmport=off,smm=off",
		"-accel", accel, "-cpu", cpu, "-smp", "1", "-m", "64M",
		"-kernel", "/proc/self/fd/3", // the first of ExtraFiles
		"-serial", "stdio", "-device", kvmguest.ExitDevice)
	cmd := exec.CommandContext(trial, q.Path, args...)
	cmd.Env = q.Environ(os.Environ())
	cmd.ExtraFiles = []*os.File{kernel}
	cmd.Stdout, cmd.Stderr = &serial, &stderr
	cmd.WaitDelay = time.Second
	// QEMU dies with us. The signal is sent when the thread that started it
	// ends, so the thread must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	err = cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	ok, _ := kvmguest.Result(serial.bytes())
	if ok && cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == kvmguest.ExitStatus {
		return "", nil
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && trial.Err() == nil {
		return "", err
	}
	timedOut := errors.Is(trial.Err(), context.DeadlineExceeded)
	return explain(serial.bytes(), stderr.bytes(), fmt.Sprint(cmd.ProcessState), timedOut), nil
}

// memfile returns a file in memory. It has no name to be left behind.
func memfile(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		f.Close()
		return nil, fmt.Errorf("fill a file in memory: %w", err)
	}
	return f, nil
}

// capture keeps the beginning of a process's output.
type capture struct {
	watch []byte // calls found when this turns up
	found func()

	mu  sync.Mutex
	buf []byte
}

// captureLimit is far more than the guest and QEMU's register dump need.
const captureLimit = 16 << 10

func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = append(c.buf, p[:min(len(p), captureLimit-len(c.buf))]...)
	if c.watch != nil && bytes.Contains(c.buf, c.watch) {
		c.watch = nil
		c.found()
	}
	return len(p), nil
}

func (c *capture) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.buf)
}
