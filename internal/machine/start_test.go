package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The variable makes this binary, executed again, the parent of a VMM that
// prints its process number and waits to be killed.
const helperVariable = "MAYFLY_MACHINE_TEST"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == Word:
		if strings.Contains(os.Args[2], stuckPath) {
			unix.Kill(os.Getpid(), unix.SIGSTOP)
			for { // another thread may have taken the signal
				time.Sleep(time.Hour)
			}
		}
		unix.CloseRange(FirstFile, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) // as the command line does
		Main(os.Args[2])
		os.Exit(1)
	case len(os.Args) == 3 && os.Args[1] == hostileWord:
		hostile(os.Args[2])
		os.Exit(0)
	case os.Getenv(helperVariable) == "":
		os.Exit(m.Run())
	}
	p, err := Start(context.Background(), script("echo ready >&3; exec >&- 2>&-; read x <&3", File{Socket: Control}), os.Stderr, nil)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	io.ReadFull(p.Sockets[Control], make([]byte, 6))
	fmt.Println(p.PID)
	select {}
}

// stuckPath is the path of a VMM before which mayfly stops.
const stuckPath = "/stuck/vmm"

// A process that never becomes a VMM holds nobody up, and is ended.
func TestStartStuck(t *testing.T) {
	before := descriptors(t)
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, interrupted)
	defer cancel()
	begin := time.Now()
	p, err := Start(ctx, Command{Path: stuckPath, Files: []File{{Socket: Monitor}}}, os.Stderr, nil)
	if !errors.Is(err, interrupted) {
		t.Errorf("Start() = %v, %v; want %v", p, err, interrupted)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors after it; want %d", after, before)
	}
}

// script is a harmless VMM.
func script(text string, files ...File) Command {
	return Command{Path: "/bin/sh", Args: []string{"-c", text}, Files: files, Readable: []string{"/bin", "/dev/null"}}
}

// start starts c and returns what it printed, once it has ended.
func start(t testing.TB, c Command) (p *Process, output func() string) {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	if p, err = Start(t.Context(), c, log, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); log.Close() })
	return p, func() string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := p.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(log.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func TestStartFiles(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	for _, name := range []string{in, out} {
		if err := os.WriteFile(name, []byte(filepath.Base(name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, output := start(t, script(`read x <&3; echo $x; read y <&5; printf "$y" >&5; echo more >&4; echo no >&3; for i in 6 7 8 9; do { true <&$i; } 2>/dev/null && echo $i; done; exec 5>&-; exit 0`,
		File{Path: in}, File{Path: out, Writable: true}, File{Socket: Control}))
	conn := p.Sockets[Control].(*net.UnixConn)
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write([]byte("echo this\n")); err != nil {
		t.Fatal(err)
	}
	conn.CloseWrite()
	if b, err := io.ReadAll(conn); string(b) != "echo this" || err != nil {
		t.Errorf("the socket said %q, %v; want %q", b, err, "echo this")
	}
	got := output()
	if first, _, _ := strings.Cut(got, "\n"); first != "in" {
		t.Errorf("descriptor 3 held %q; want in", first)
	}
	if rest := strings.Fields(got); rest[len(rest)-1] >= "6" && rest[len(rest)-1] <= "9" {
		t.Errorf("output %q; want no more descriptors than its own", got)
	}
	if b, _ := os.ReadFile(in); string(b) != "in" {
		t.Errorf("the file to read became %q", b)
	}
	if b, _ := os.ReadFile(out); string(b) != "more\n" {
		t.Errorf("the file to write became %q; want %q", b, "more\n")
	}
	if err := p.Err(); err != nil {
		t.Errorf("Err() = %v; want nil", err)
	}
}

func TestStartEnvironment(t *testing.T) {
	c := Command{Path: "/usr/bin/env", Env: []string{"A=b c"}}
	_, output := start(t, c)
	if got, want := output(), "PATH=/usr/bin:/bin\nA=b c\n"; got != want {
		t.Errorf("the environment is %q; want %q", got, want)
	}
}

func TestStartFails(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/etc/hostname", link); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	for name, c := range map[string]Command{
		"no program":           {Path: "/no/such/vmm", Files: []File{{Socket: Monitor}, {Path: "/etc/hostname"}}},
		"a directory":          {Path: "/usr", Files: []File{{Socket: Monitor}}},
		"no file":              script("exit 0", File{Socket: Monitor}, File{Socket: Control}, File{Path: "/no/such/disk"}),
		"a link as file":       script("exit 0", File{Path: link}),
		"a directory to write": script("exit 0", File{Path: t.TempDir(), Writable: true}),
	} {
		if p, err := Start(t.Context(), c, os.Stderr, nil); err == nil {
			p.Kill()
			t.Errorf("%s: Start() = nil; want an error", name)
		}
	}
	if p, err := Start(t.Context(), script("exit 0", File{Path: "/no/such/disk"}), os.Stderr, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Start() = %v, %v; want %v", p, err, fs.ErrNotExist)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors after failures; want %d", after, before)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	// The first file that can be waited for brings Go's own descriptors for that.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestKill(t *testing.T) {
	before, goroutines := descriptors(t), runtime.NumGoroutine()
	for range 5 {
		p, err := Start(t.Context(), script("trap '' TERM INT HUP; while :; do read x <&3; done", File{Socket: Monitor}, File{Socket: Console}), os.Stderr, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		if err := p.Wait(ctx); err == nil {
			t.Error("Wait() of what runs = nil; want an error")
		}
		cancel()
		p.Kill()
		p.Kill() // changes nothing
		select {
		case <-p.Done():
		default:
			t.Error("Done() is open after Kill")
		}
		if p.Err() == nil {
			t.Error("Err() of what was killed = nil; want an error")
		}
		if err := p.Wait(t.Context()); err != nil {
			t.Errorf("Wait() after the end = %v; want nil", err)
		}
		if err := syscall.Kill(p.PID, 0); err != syscall.ESRCH {
			t.Errorf("the process after Kill: %v; want %v", err, syscall.ESRCH)
		}
		if _, err := p.Sockets[Monitor].Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a socket after Kill: %v; want %v", err, net.ErrClosed)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors after all ended; want %d", after, before)
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines; want %d", runtime.NumGoroutine(), goroutines)
		}
	}
}

func TestErr(t *testing.T) {
	p, _ := start(t, script("exit 3"))
	var exit *exec.ExitError
	if err := p.Err(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("Err() = %v; want exit status 3", err)
	}
}

// The death signal comes when the thread ends that forked; the VMM must outlive
// the goroutine, and the thread, that called Start.
func TestStartOutlivesCaller(t *testing.T) {
	started := make(chan *Process)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		p, err := Start(t.Context(), script("read x <&3", File{Socket: Control}), os.Stderr, nil)
		if err != nil {
			t.Error(err)
		}
		started <- p
	}()
	p := <-started
	if p == nil {
		return
	}
	defer p.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); err == nil {
		t.Errorf("the VMM ended with its starter: %v", p.Err())
	}
}

func TestDiesWithParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = []string{helperVariable + "=1"}
	var stdout bytes.Buffer
	r, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, _ := r.Read(line)
	stdout.Write(line[:n])
	pid, err := strconv.Atoi(strings.TrimSpace(stdout.String()))
	if err != nil {
		t.Fatalf("the parent said %q", stdout.String())
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the VMM: %v; want it to run", err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	parent.Wait()
	for deadline := time.Now().Add(time.Minute); running(pid); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the VMM outlives its parent")
		}
	}
}

// running reports whether pid is there and no zombie, which its new parent may
// leave it for long.
func running(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(data), ") Z ")
}
