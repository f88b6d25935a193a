package session

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
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
			for deadline := time.Now().Add(time.Minute); steady < 5; time.Sleep(10 * time.Millisecond) {
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

// A process is stopped if it is, whatever it is called.
func TestStopped(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for _, step := range []struct {
		signal syscall.Signal
		want   bool
	}{{syscall.SIGSTOP, true}, {syscall.SIGCONT, false}} {
		cmd.Process.Signal(step.signal)
		for deadline := time.Now().Add(time.Minute); Stopped(cmd.Process.Pid) != step.want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("after %v Stopped() is not %v", step.signal, step.want)
			}
		}
	}
	if Stopped(0) || Stopped(1<<30) {
		t.Error("Stopped() of no process = true")
	}
}

// The judgement that a program waits does not change with what it is caught at, nor when it
// draws its screen anew, but with work that goes on and with input.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		isIdle := true
		p := Program{
			Input: io.Discard, Resize: func(wire.Winsize) {}, Signal: func(syscall.Signal) {}, Foreground: func() int { return 0 },
			Idle: func(int) bool { return isIdle },
		}
		s := newSession("s", nil, wire.Winsize{Rows: 24, Cols: 80}, p)
		defer s.Exit(Exit{Code: 0})
		expect := func(what string, want bool) {
			t.Helper()
			if got := s.info(); got.Waiting != want {
				t.Errorf("%s: it waits: %v; want %v", what, got.Waiting, want)
			}
		}
		expect("before it has done anything", false)
		s.Output([]byte("> "))
		expect("at once", false)
		time.Sleep(quietTime)
		isIdle = false
		expect("silent, and at work", false)
		isIdle = true
		expect("silent", true)
		isIdle = false
		expect("caught at work", true)
		time.Sleep(time.Second)
		expect("caught twice in a moment", true)
		isIdle = true
		expect("idle again", true)
		isIdle = false
		expect("caught later", true)
		isIdle = true
		s.Output([]byte("its screen anew"))
		expect("drawn anew", true)
		time.Sleep(time.Minute)
		s.Output([]byte("its screen anew"))
		time.Sleep(pauseTime / 2)
		s.Output([]byte("its screen anew"))
		expect("drawn anew for a viewer that comes and goes", true)
		time.Sleep(time.Minute)
		for range 10 {
			s.Output([]byte("|"))
			time.Sleep(workTime / 4)
		}
		expect("while it turns a wheel", false)
		time.Sleep(quietTime)
		expect("silent", true)
		isIdle = false
		expect("caught at work", true)
		time.Sleep(time.Minute)
		expect("at work a minute later", false)
		isIdle = true
		expect("silent", true)
		s.typed(&viewer{wake: make(chan struct{}, 1)}, []byte("\x1b[I"))
		expect("its terminal came to the front", true)
		s.typed(&viewer{wake: make(chan struct{}, 1)}, []byte("y"))
		expect("answered", false)
		s.Output([]byte("\a"))
		expect("it rings", true)
		isIdle = false
		time.Sleep(time.Minute)
		expect("it has rung, and nobody answered", true)
	})
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

// Input is read for answers of a terminal, whatever it is.
func FuzzAutomatic(f *testing.F) {
	for _, seed := range []string{"\x1b[?1;2c", "\x1b[I", "\x1b]11;rgb:0/0/0\a", "\x1bP>|x\x1b\\\x1b[O", "\x1b[\xff", "\x1b[1;2R", "0 0x3 0x7f"} {
		f.Add([]byte(seed), "x")
	}
	f.Fuzz(func(t *testing.T, data []byte, key string) {
		if automatic(data) && len(key) == 1 && key[0] != 0x1b && automatic(append(slices.Clone(data), key...)) {
			t.Errorf("%q and the key %q are taken for an answer", data, key)
		}
		if number, _, ok := parseSyscall(data); ok && number < 0 {
			t.Errorf("parseSyscall(%q) = %d", data, number)
		}
	})
}
