package terminal_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// helperVariable makes the test binary a program that has its terminal raw, and prints
// the sizes that it hears of.
const helperVariable = "TEST_RAW_TERMINAL"

func TestRawHelper(t *testing.T) {
	if os.Getenv(helperVariable) == "" {
		t.Skip("only as a helper")
	}
	type size struct{ Rows, Cols uint16 }
	_, sizes, restore, err := terminal.Raw[size](os.Stdin)
	if err != nil {
		t.Fatal(err)
	}
	defer restore()
	fmt.Fprint(os.Stderr, "raw\n")
	for s := range sizes {
		fmt.Fprintf(os.Stderr, "%d %d\n", s.Rows, s.Cols)
	}
}

// Who is stopped gives the terminal back, and takes it again when it goes on, with its new
// size; also after a SIGSTOP, which nobody hears of.
func TestRawWhenStopped(t *testing.T) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	defer unix.Close(fd)
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestRawHelper$")
	cmd.Env = append(os.Environ(), helperVariable+"=1")
	cmd.Stdin = tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := make(chan string, 10)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(said); s.Scan(); {
			lines <- s.Text()
		}
	}()
	expect := func(want string) {
		t.Helper()
		for expired := time.After(time.Minute); ; {
			select {
			case got := <-lines:
				if got == want {
					return // what it said before was of another signal
				}
			case <-expired:
				t.Fatalf("the program does not say %q", want)
			}
		}
	}
	isRaw := func(want bool) {
		t.Helper()
		state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil || (state.Lflag&unix.ICANON == 0) != want {
			t.Errorf("the terminal is raw: %t, %v; want %t", !want, err, want)
		}
	}
	expect("raw")
	isRaw(true)
	cooked, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	cooked.Lflag |= unix.ICANON | unix.ECHO
	for i, sig := range []syscall.Signal{syscall.SIGTSTP, syscall.SIGSTOP} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		if sig == syscall.SIGTSTP {
			isRaw(false)
		}
		// As a shell that has its terminal again, whose window was made larger.
		rows := uint16(30 + i)
		if err := errors.Join(unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, cooked),
			unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: 100})); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		expect(fmt.Sprintf("%d 100", rows))
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			// It may have said so for the SIGWINCH that came with the new size.
			if state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS); err == nil && state.Lflag&unix.ICANON == 0 {
				break
			}
		}
		isRaw(true)
	}
}
