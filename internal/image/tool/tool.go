// Package tool runs external programs: mmdebstrap, npm and mkfs.ext4, which build
// images, git, and nix.
//
// It takes a command and gives back an error that says what the program said
// last. A program runs in a process group of its own. The group is asked to
// stop when the context ends, so that the program can remove what it made, and
// is killed when it does not; it is also asked to stop when this process dies,
// even by SIGKILL. Nothing here knows what the programs do.
package tool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// Grace is how long a program may clean up after its context has ended.
// mmdebstrap removes a whole root file system in it.
const Grace = 20 * time.Second

// Cmd is a program to run.
type Cmd struct {
	Name   string                 // of the program, found in PATH or in the system's sbin directories
	Args   []string               // without the name
	Dir    string                 // working directory; empty for this process's own
	Env    []string               // "NAME=value", added to this process's environment
	Drop   func(name string) bool // which variables of that environment it does not get; nil for none
	Stdin  io.Reader              // nil for an empty one
	Stdout io.Writer              // nil discards it

	// Line, if not nil, gets every line of standard error as it comes.
	Line func(string)

	// Keep are files that the program and all that it starts hold open as long
	// as they live: a lock among them stays locked even when this process dies.
	Keep []*os.File

	// NoTerminal gives the program a session of its own. It can then ask nothing:
	// in a process group behind the terminal's, who reads from it is stopped.
	NoTerminal bool

	// OwnMounts hides from the rest of the system what the program mounts, and
	// ends those mounts with it, however it ends. It needs root.
	OwnMounts bool

	// Limits bound the program and all that it starts, each by itself.
	Limits Limits

	// Single says that the program starts no other, so that no shell has to end those
	// with it, unless it has Limits.
	Single bool

	// Users, if not 0, is the first of 65536 users that the program has instead of
	// the system's, in a user namespace of its own. As the root of these it has no
	// right outside of it. It needs root.
	Users int
}

// Limits are bounds of a process; 0 is none.
type Limits struct {
	CPU      time.Duration // whole seconds of computing
	FileSize int64         // bytes of a file that it writes
	Data     int64         // bytes of memory, without what it maps of files
}

// shell returns the commands by which a shell limits itself and what it starts.
func (l Limits) shell() string {
	var text string
	for _, limit := range []struct {
		flag  string
		value int64
	}{
		{"-t", int64(l.CPU / time.Second)},
		{"-f", l.FileSize / 512}, // blocks, POSIX
		{"-d", l.Data / 1024},
	} {
		if limit.value > 0 {
			text += fmt.Sprintf("ulimit %s %d || exit 126; ", limit.flag, limit.value)
		}
	}
	return text
}

// Error is a program that did not succeed.
type Error struct {
	Name string
	Tail string // the last lines of standard error
	Err  error
}

func (e *Error) Error() string {
	if e.Tail == "" {
		return fmt.Sprintf("%s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("%s: %v; it said:\n%s", e.Name, e.Err, e.Tail)
}

func (e *Error) Unwrap() error { return e.Err }

// Find returns the path of a program. Unlike exec.LookPath it also finds what
// a normal user's PATH leaves out, such as mkfs.ext4 in /usr/sbin.
func Find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || strings.ContainsRune(name, '/') {
		return path, err
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(dir + "/" + name); err == nil {
			return path, nil
		}
	}
	return "", err
}

// Run runs c to its end.
func Run(ctx context.Context, c Cmd) error {
	path, err := Find(c.Name)
	if err != nil {
		return &Error{Name: c.Name, Err: err}
	}
	stderr := &lines{each: c.Line}
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", c.Limits.shell() + group, "sh", path}, c.Args...)...)
	if c.Single && c.Limits == (Limits{}) {
		cmd = exec.CommandContext(ctx, path, c.Args...)
	}
	cmd.Dir = c.Dir
	cmd.Stdin = c.Stdin
	cmd.Stdout = c.Stdout
	cmd.Stderr = stderr
	cmd.ExtraFiles = c.Keep
	cmd.Env = append(environ(c.Drop), "PATH="+os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin", "LC_ALL=C.UTF-8")
	cmd.Env = append(cmd.Env, c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if c.NoTerminal {
		cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Setsid = false, true // a session's first process leads a group, too
	}
	if c.OwnMounts {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS // Go makes them private, too
	}
	if c.Users != 0 {
		users := []syscall.SysProcIDMap{{HostID: c.Users, Size: usersCount}}
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = users, users
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
		cmd.SysProcAttr.Credential = &syscall.Credential{}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	// Without WaitDelay a grandchild that keeps a pipe open would hold Wait.
	cmd.WaitDelay = Grace

	err = runLocked(cmd)
	if cmd.Process != nil && ctx.Err() != nil {
		// What is left of the group did not want to go.
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	stderr.flush()
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", c.Name, context.Cause(ctx))
	}
	if err != nil && cmd.Process == nil && c.OwnMounts && errors.Is(err, syscall.EINVAL) {
		return fault.New(fault.RootNotMounted, nil, "%s cannot have mounts of its own: the root directory is no mount point, as in a plain chroot", c.Name)
	}
	if err != nil {
		return &Error{Name: c.Name, Tail: stderr.tail(), Err: err}
	}
	return nil
}

// usersCount is how many users a Debian system has.
const usersCount = 65536

// environ returns this process's environment without the variables to drop.
func environ(drop func(string) bool) []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return drop != nil && drop(name)
	})
}

// group runs a program and passes SIGTERM on to the whole process group. It is
// for Pdeathsig, which reaches one process only: dpkg would go on for as long as
// mmdebstrap waits for it. What a shell starts with & has no standard input, so that it
// gets the shell's by another descriptor.
const group = `trap 'trap "" TERM; kill -TERM 0' TERM; exec 9<&0; "$@" <&9 9<&- & exec 9<&-; p=$!; wait $p; s=$?; ` +
	`if [ $s -gt 128 ]; then wait $p; fi; exit $s` // a trap ends the first wait early

// runLocked runs cmd from one operating system thread: Pdeathsig is sent when
// the thread that started the program ends, not the process.
func runLocked(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- cmd.Run()
	}()
	err := <-done
	if errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("left a process behind: %w", err)
	}
	return err
}

const (
	tailLines = 20
	lineBytes = 400
)

// lines keeps the last lines written to it. It is safe for concurrent use.
type lines struct {
	each func(string)

	mu   sync.Mutex
	part []byte   // guarded by mu
	last []string // guarded by mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range p {
		// dpkg rewrites its progress with carriage returns.
		if b == '\n' || b == '\r' {
			l.endLocked()
		} else if len(l.part) < lineBytes {
			l.part = append(l.part, b)
		}
	}
	return len(p), nil
}

func (l *lines) endLocked() {
	line := string(bytes.TrimSpace(l.part))
	l.part = l.part[:0]
	if line == "" {
		return
	}
	if l.each != nil {
		l.each(line)
	}
	if len(l.last) == tailLines {
		l.last = l.last[1:]
	}
	l.last = append(l.last, line)
}

func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked()
}

func (l *lines) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.last, "\n")
}
