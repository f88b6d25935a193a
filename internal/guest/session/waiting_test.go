package session

import (
	"fmt"
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

func TestAutomatic(t *testing.T) {
	for in, want := range map[string]bool{
		"": false, "a": false, "\x1b": false, "\x1b[A": false, "\r": false, "\x1b[200~hi\x1b[201~": false,
		"\x1b[?62;22c": true, "\x1b[24;80R": true, "\x1b[1;2R": false, "\x1b[I": true, "\x1b[O": true, "\x1bOA": false,
		"\x1b[0n": true, "\x1b[?1u": true, "\x1b[97;5u": false, "\x1b[?2026;2$y": true,
		"\x1b]11;rgb:00/00/00\x1b\\": true, "\x1b]11;rgb:00/00/00\a\x1b[?1c": true, "\x1b[Ia": false, "\x1bP>|xterm\x1b\\": true, "\x1b]11;": false,
		"\x1b[<0;1;1M": false, "\x1b[": false, "\x1b[1": false,
	} {
		if got := automatic([]byte(in)); got != want {
			t.Errorf("automatic(%q) = %v; want %v", in, got, want)
		}
	}
}

func TestParseSyscall(t *testing.T) {
	for in, want := range map[string]string{
		"0 0x3 0x7ffd 0x1 0x0 0x0 0x0 0x7ffd 0x7f\n": "0 3 true",
		"running\n":     "0 0 false",
		"-1 0x7ff 0x7f": "0 0 false",
		"":              "0 0 false",
		"x y":           "0 0 false",
		"7 zz":          "7 0 false",
	} {
		number, first, ok := parseSyscall([]byte(in))
		if got := fmt.Sprint(number, first, ok); got != want {
			t.Errorf("parseSyscall(%q) = %s; want %s", in, got, want)
		}
	}
}
