package session

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// A program that reads its terminal is idle, and so is one that waits for several
// things; one that sleeps or computes is not.
func TestIdle(t *testing.T) {
	if _, err := os.ReadFile("/proc/self/syscall"); err != nil {
		t.Skipf("system calls of processes cannot be seen here: %v", err)
	}
	for _, tt := range []struct {
		name, script string
		want         bool
	}{
		{"reads", "exec cat", true},
		{"reads in a pipeline", "cat | sleep 1000", true},
		{"sleeps", "exec sleep 1000", false},
		{"computes", "while :; do :; done", false},
		{"waits for a child", "sleep 1000; :", false},
		{"reads a pipe", "sleep 1000 | exec cat", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", tt.script)
			tty, err := pty.Start(cmd)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
				cmd.Wait()
				tty.Close()
			})
			// It takes a moment to get there, and then stays.
			steady := 0
			for deadline := time.Now().Add(10 * time.Second); steady < 5; time.Sleep(10 * time.Millisecond) {
				if idle(cmd.Process.Pid) == tt.want {
					steady++
				} else {
					steady = 0
				}
				if time.Now().After(deadline) {
					t.Fatalf("idle() is not %v", tt.want)
				}
			}
		})
	}
	if idle(0) || idle(1<<30) {
		t.Error("idle() of no process = true")
	}
}
