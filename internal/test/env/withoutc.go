package env

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/proc"
)

// WithoutC returns the test of the package in the current directory as a program that is
// linked without C, as mayfly is.
func WithoutC(t testing.TB) string {
	t.Helper()
	if !errors.Is(proc.OnAllThreads(unix.SYS_GETUID, 0, 0, 0), unix.ENOTSUP) {
		return os.Args[0]
	}
	program := filepath.Join(t.TempDir(), "package.test")
	build := exec.Command("go", "test", "-c", "-trimpath", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test without C: %v\n%s", err, out)
	}
	return program
}
