package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/proc"
)

// Process is a VMM that runs.
type Process struct {
	PID     int
	Sockets map[Socket]net.Conn // ours to close

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended; err is set before
	err  error
}

// logDelay bounds the wait for the end of what a VMM prints when it has ended: a
// process of its own would keep that open.
const logDelay = time.Second

// Start executes c, confined, by way of this program (Main). The end of ctx ends the wait
// until it has begun. The VMM dies with this process, also when that is killed. Its standard output and error go to log. given are
// the files that c only names; they stay the caller's.
func Start(ctx context.Context, c Command, log io.Writer, given map[string]*os.File) (*Process, error) {
	p := &Process{Sockets: make(map[Socket]net.Conn), done: make(chan struct{})}
	if err := p.start(ctx, c, log, given); err != nil {
		p.closeSockets()
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	return p, nil
}

func (p *Process) start(ctx context.Context, c Command, log io.Writer, given map[string]*os.File) error {
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer readyR.Close()
	opened := []*os.File{readyW}
	defer func() { closeAll(opened) }()

	o := order{
		Path: c.Path, Args: c.Args, Env: append([]string{"PATH=/usr/bin:/bin"}, c.Env...),
		Ready:    FirstFile + len(c.Files),
		Isolate:  c.Isolate,
		Readable: c.Readable, Writable: c.Writable,
	}
	if c.Isolate {
		if o.User = OwnUser(); o.User != 0 {
			if err := lend(c, o.User); err != nil {
				return err
			}
		}
	}
	arg, err := json.Marshal(o)
	if err != nil {
		return err
	}
	cmd := exec.Command(ownProgram, Word, string(arg))
	cmd.Args[0] = "mayfly"
	// Two threads of Go's: one waits in the call that the other allows.
	cmd.Env = []string{"PATH=/usr/bin:/bin", "GOMAXPROCS=2", "GOGC=off", "GODEBUG=asyncpreemptoff=1"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = logDelay
	cmd.SysProcAttr = sysProcAttr(c.Isolate)
	for _, f := range c.Files {
		file := given[f.Given]
		if f.Given == "" {
			if file, err = p.open(f); err != nil {
				return err
			}
			opened = append(opened, file)
		} else if file == nil {
			return fmt.Errorf("no file for %s", f.Given)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, readyW)
	p.cmd = cmd
	// What we were started with ourselves, by a shell perhaps, is none of the
	// VMM's business. Our own files are never inherited.
	unix.CloseRange(FirstFile, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)

	started := make(chan error)
	proc.OnThread(func() {
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	})
	if err := <-started; err != nil {
		return err
	}
	p.PID = cmd.Process.Pid
	readyW.Close()
	if err := proc.AwaitBecome(ctx, readyR); err != nil {
		p.Kill()
		return err
	}
	return nil
}

// ownProgram is this program, also after its file was replaced.
const ownProgram = "/proc/self/exe"

// open returns the VMM's end of f.
func (p *Process) open(f File) (*os.File, error) {
	if f.Socket == "" {
		flag := os.O_RDONLY
		if f.Writable {
			flag = os.O_RDWR
		}
		return os.OpenFile(f.Path, flag|unix.O_NOFOLLOW, 0)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), string(f.Socket)), os.NewFile(uintptr(fds[1]), string(f.Socket))
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, err
	}
	p.Sockets[f.Socket] = conn
	return theirs, nil
}

// Duplicate returns another descriptor of a socket, so that who has that one can close
// it without ending the connection.
func (p *Process) Duplicate(name Socket) (net.Conn, error) {
	conn, ok := p.Sockets[name].(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("connect to the VMM's %s: it has none", name)
	}
	f, err := conn.File()
	if err != nil {
		return nil, fmt.Errorf("connect to the VMM's %s: %w", name, err)
	}
	defer f.Close()
	return net.FileConn(f)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func (p *Process) closeSockets() {
	for _, conn := range p.Sockets {
		conn.Close()
	}
}

// sysProcAttr returns how the process that becomes the VMM is started.
func sysProcAttr(isolate bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if isolate {
		attr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
		uid, gid := os.Geteuid(), os.Getegid()
		if uid == 0 {
			return attr // needs no user namespace to make the others
		}
		// What it takes to make a root and to give up both.
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
	return attr
}

// Done is closed when the VMM has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns why the VMM ended: nil after a clean end. It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Kill ends the VMM at once and waits for that.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
	p.closeSockets()
}

// Wait waits until the VMM has ended or ctx has.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return errors.New("the virtual machine monitor did not end in time")
	}
}
