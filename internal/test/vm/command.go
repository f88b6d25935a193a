package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Slack is what a busy computer may add to a time that is promised. That the time itself
// is kept is proven with a clock of the test's own.
const Slack = 6 * time.Second

// Timeout is how long a command may take unless its test says otherwise. It is
// to end what hangs, on a busy computer that emulates the CPU, and judges no
// speed.
const Timeout = 4 * time.Minute

// Command is one call of mayfly.
type Command struct {
	Args    []string
	Stdin   io.Reader // nil for an empty one
	Env     []string  // on top of the host's
	Dir     string    // in the place of the host's
	Timeout time.Duration
	// Session makes the command the leader of a session of its own, with
	// its standard input as the terminal.
	Session bool
	// Stdout gets the standard output if that is not to be kept.
	Stdout, Stderr io.Writer

	host     *Host
	cmd      *exec.Cmd
	out, err lockedBuffer
	done     chan struct{} // closed when the process has ended; waitErr is set before
	waitErr  error
	expired  *time.Timer
	screen   *lockedBuffer // of its terminal, if it has one
	copied   chan struct{} // closed when the screen is complete
	logs     chan string   // of the machines, when the watchdog ended it
}

// Result is what a call of mayfly did.
type Result struct {
	Code   int // 128 and the signal's number if one ended mayfly itself
	Stdout string
	Stderr string
}

// Mayfly returns a call of mayfly with args.
func (h *Host) Mayfly(args ...string) *Command {
	return &Command{Args: args, host: h}
}

// Run runs mayfly with args and fails the test unless it exits with code.
func (h *Host) Run(code int, args ...string) Result {
	h.t.Helper()
	return h.Mayfly(args...).Want(code)
}

// Want runs the command and fails the test unless it exits with code.
func (c *Command) Want(code int) Result {
	c.host.t.Helper()
	r := c.Run()
	if r.Code != code {
		c.host.t.Fatalf("mayfly %s: exit code %d; want %d\n%s\n%s", strings.Join(c.Args, " "), r.Code, code, c.printed(), c.host.Logs())
	}
	return r
}

// Run runs the command to its end.
func (c *Command) Run() Result {
	c.host.t.Helper()
	c.Start()
	return c.Wait()
}

// Start starts the command.
func (c *Command) Start() {
	h := c.host
	h.t.Helper()
	c.cmd = exec.Command(h.Program, c.Args...)
	c.cmd.Dir = h.Dir
	if c.Dir != "" {
		c.cmd.Dir = c.Dir
	}
	c.cmd.Env = append(append(slices.Clone(h.Env), c.Env...), "PWD="+c.cmd.Dir)
	c.cmd.Stdin = c.Stdin
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
	if c.Stdout != nil {
		c.cmd.Stdout = c.Stdout
	}
	if c.Stderr != nil {
		c.cmd.Stderr = c.Stderr
	}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !c.Session, Setsid: c.Session, Setctty: c.Session, Credential: h.Credential}
	if h.Through != nil {
		c.cmd = h.Through(c.cmd)
	}
	// What copies the output is not to wait for somebody who inherited it.
	c.cmd.WaitDelay = 10 * time.Second
	if err := c.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	c.done = make(chan struct{})
	go func() {
		c.waitErr = c.cmd.Wait()
		close(c.done)
	}()
	timeout := c.Timeout
	if timeout == 0 {
		timeout = Timeout
	}
	h.t.Cleanup(func() {
		c.expired.Stop()
		c.killGroup()
		<-c.done
	})
	c.logs = make(chan string, 1)
	c.expired = time.AfterFunc(timeout, func() {
		// Before the end of the command, which takes them away.
		c.logs <- h.Logs()
		c.killGroup()
	})
}

func (c *Command) killGroup() {
	select {
	case <-c.done:
	default:
		syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// Wait waits for the command's end.
func (c *Command) Wait() Result {
	c.host.t.Helper()
	<-c.done
	r := Result{Code: c.cmd.ProcessState.ExitCode(), Stdout: c.out.String(), Stderr: c.err.String()}
	if ws, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		r.Code = 128 + int(ws.Signal())
	}
	if !c.expired.Stop() {
		c.host.t.Fatalf("mayfly %s: the watchdog ended it\n%s\n%s", strings.Join(c.Args, " "), c.printed(), <-c.logs)
	}
	var exit *exec.ExitError
	if c.waitErr != nil && !errors.As(c.waitErr, &exit) {
		c.host.t.Fatalf("mayfly %s: %v", strings.Join(c.Args, " "), c.waitErr)
	}
	return r
}

// Signal sends sig to the command's process alone.
func (c *Command) Signal(sig os.Signal) {
	c.host.t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.host.t.Fatal(err)
	}
}

// Until waits until ok, and fails the test when the command ends before or a
// watchdog's time has passed.
func (c *Command) Until(what string, ok func() bool) {
	c.host.t.Helper()
	for deadline := time.Now().Add(Timeout); !ok(); time.Sleep(5 * time.Millisecond) {
		select {
		case <-c.done:
			if c.copied != nil {
				select {
				case <-c.copied: // with what it printed last
				case <-time.After(10 * time.Second):
				}
			}
			if ok() {
				return
			}
			c.host.t.Fatalf("mayfly %s ended before %s\n%s", strings.Join(c.Args, " "), what, c.printed())
		default:
		}
		if time.Now().After(deadline) {
			c.host.t.Fatalf("mayfly %s: no %s\n%s\n%s", strings.Join(c.Args, " "), what, c.printed(), c.host.Logs())
		}
	}
}

// printed returns the end of what was printed.
func (c *Command) printed() string {
	if c.screen != nil {
		return Clip(c.screen.String())
	}
	return "stdout:\n" + Clip(c.out.String()) + "\nstderr:\n" + Clip(c.err.String())
}

// Clip returns the last lines of text, fit to be printed.
func Clip(text string) string {
	const most = 4 << 10
	if cut := len(text) - most; cut > 0 {
		text = fmt.Sprintf("(%d bytes) …", cut) + text[cut:]
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || termsafe.Printable(r) {
			return r
		}
		return '·'
	}, text)
}

// Printed waits until text is on the command's standard output.
func (c *Command) Printed(text string) {
	c.host.t.Helper()
	c.Until("the output "+text, func() bool { return strings.Contains(c.out.String(), text) })
}

// Said waits until text is on the command's standard error.
func (c *Command) Said(text string) {
	c.host.t.Helper()
	c.Until("the message "+text, func() bool { return strings.Contains(c.err.String(), text) })
}

// lockedBuffer is a buffer that can be read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
