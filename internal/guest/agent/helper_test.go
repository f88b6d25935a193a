package agent

import (
	"bufio"
	"context"
	"math"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// The agent waits for any child of its process, and so must not share one with
// the tests: it runs in this binary executed again. The variable says what the
// process is.
const helperVariable = "MAYFLY_AGENT_TEST"

const (
	helperServe   = "serve"    // an agent that serves descriptor 3
	helperEcho    = "echo"     // a program on a terminal
	helperKillAll = "kill-all" // the first process of a namespace, which kills all others
)

func TestMain(m *testing.M) {
	if IsSFTP(os.Args) { // as the guest's program
		if err := SFTP(); err != nil {
			panic(err)
		}
		return
	}
	switch os.Getenv(helperVariable) {
	case helperServe:
		serveHelper()
	case helperEcho:
		echoHelper()
	case helperKillAll:
		killAllHelper()
	default:
		os.Exit(m.Run())
	}
}

// serveHelper is an agent without a machine around it: it starts programs as
// the user who runs the tests.
func serveHelper() {
	// Tests that a script has put into the background ignore it, and so would all programs.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT)
	modules := make(chan struct{})
	close(modules)
	a := &agent{reaper: newReaper(), modules: modules}
	if os.Getenv("CONFIGURED") != "" {
		a.machine = &machine{
			user: wire.User{UID: os.Geteuid(), GID: os.Getegid()},
			env:  []string{"PATH=" + defaultPath, "LANG=C.UTF-8", "KEEP=base", "CHANGE=base"},
		}
		if dir := os.Getenv("UPPER"); dir != "" {
			var err error
			if a.machine.workspace, err = openWorkspace(dir); err != nil {
				panic(err)
			}
		}
		if home := os.Getenv("SSH_HOME"); home != "" {
			serveSSH(a, home)
		}
	}
	port := os.NewFile(3, "port")
	// Also what the tests were started with is no program's business.
	unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	session, err := wire.Accept(port, bufio.NewReader(port), nil)
	if err != nil {
		return
	}
	for {
		stream, err := session.Accept()
		if err != nil {
			return
		}
		go a.serve(stream, time.Now())
	}
}

// guest is an agent in a process of its own.
type guest struct {
	session *yamux.Session
	pid     int
}

// open returns a stream that ends at the latest with the patience of a test.
func (g *guest) open(t testing.TB) net.Conn {
	t.Helper()
	stream, err := g.session.Open()
	if err != nil {
		t.Fatal(err)
	}
	stream.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { stream.Close() })
	return stream
}

// startGuest starts an agent with a machine; env goes to the helper.
func startGuest(t testing.TB, env ...string) *guest {
	t.Helper()
	return startHelper(t, append(env, "CONFIGURED=1")...)
}

func startHelper(t testing.TB, env ...string) *guest {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "host"), os.NewFile(uintptr(fds[1]), "guest")
	defer ours.Close()
	defer theirs.Close()
	port, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(env, helperVariable+"="+helperServe, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		port.Close()
		killer := time.AfterFunc(time.Minute, func() {
			t.Error("the agent does not end")
			cmd.Process.Kill()
		})
		defer killer.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent: %v", err) // a data race, or a panic
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	session, err := wire.Dial(ctx, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return &guest{session.Session, cmd.Process.Pid}
}

// waitGone waits until the process pid has ended.
func waitGone(t testing.TB, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); syscall.Kill(pid, 0) == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d still runs", pid)
		}
	}
}

func atoi(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil || n <= 1 {
		t.Fatalf("%q is no process", s)
	}
	return n
}
