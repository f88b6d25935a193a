package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/proc"
)

// Command is the hidden word of the command line that becomes a server.
const Command = "serve-directory"

// Spec is one directory to serve.
type Spec struct {
	Server plan.ShareServer
	Share  plan.Share
	// UID and GID are the guest's user. Files that a guest makes are that user's on
	// the host if root serves them, and else those of who does.
	UID, GID int
	// Guard is what of the directory is hidden or protected, from FindGuard.
	Guard Guard
}

// The descriptors that the process is started with.
const (
	fdListener = 3
	fdReady    = 4 // pipe, written: why it did not become a server
)

// Process is a server that runs.
type Process struct {
	// VMM is the VMM's end of the socket, until CloseVMM.
	VMM *os.File

	cmd    *exec.Cmd
	mounts *mounts       // nil where nothing is guarded
	done   chan struct{} // closed when the process has ended; err is set before
	err    error
	once   sync.Once
}

// Start serves a directory. dir is one that is closed to other users: the socket
// has a name in it for a moment. exe is a mayfly to become the server. What that
// prints goes to log. The end of ctx ends the wait until it has begun. The server dies with this process, also when that is killed.
func Start(ctx context.Context, exe string, spec Spec, dir string, log *os.File) (*Process, error) {
	p, err := start(ctx, exe, spec, dir, log)
	if err != nil {
		return nil, fmt.Errorf("share %s: %w", spec.Share.Source, err)
	}
	return p, nil
}

func start(ctx context.Context, exe string, spec Spec, dir string, log *os.File) (_ *Process, err error) {
	arg, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	listener, vmm, err := sockets(dir)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	defer func() {
		if err != nil {
			vmm.Close()
		}
	}()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyR.Close()
	defer readyW.Close()

	cmd := exec.Command(exe, Command, string(arg))
	cmd.Args[0] = "mayfly" // exe may be /proc/self/exe
	// Two threads of Go's: one waits in the call that the other allows. Signals by which
	// Go stops threads would break off both again and again on a busy computer.
	cmd.Env = []string{"PATH=/usr/bin:/bin", "GOMAXPROCS=2", "GOGC=off", "GODEBUG=asyncpreemptoff=1"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{listener, readyW}
	cmd.SysProcAttr = sysProcAttr(spec)
	unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)

	p := &Process{VMM: vmm, cmd: cmd, done: make(chan struct{})}
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
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
			return nil, fault.New(fault.ShareNamespacesRefused, nil, "make namespaces for its server: %w", err)
		}
		return nil, err
	}
	readyW.Close()
	err = proc.AwaitBecome(ctx, readyR)
	if err == nil && !spec.Guard.Empty() {
		p.mounts, err = openMounts(p.PID())
	}
	if err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// sysProcAttr returns how the process is started: as the user, in namespaces, with
// the capabilities that it takes to limit itself.
func sysProcAttr(spec Spec) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Setpgid:    true,
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		// The third lets root share what is below a directory that is closed to
		// the guest's user, such as root's home.
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SETPCAP, unix.CAP_DAC_READ_SEARCH},
	}
	if os.Geteuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(spec.UID), Gid: uint32(spec.GID)}
		return attr
	}
	// One user and one group exist in there. Whatever the guest's root makes of a
	// file, it cannot be another's. Their numbers are the guest's, which are not
	// the host's where those are a system account's.
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: spec.UID, HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: spec.GID, HostID: os.Getegid(), Size: 1}}
	return attr
}

// sockets returns a socket to listen on and one that is connected to it: virtiofsd
// only takes the former. Between the two it has a name, in dir.
func sockets(dir string) (listener, client *os.File, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	// By the descriptor: a socket's path has at most 107 bytes.
	name := fmt.Sprintf("/proc/self/fd/%d/share.sock", d.Fd())
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close() // removes the name
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: name})
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	if listener, err = l.File(); err != nil {
		return nil, nil, err
	}
	if client, err = c.File(); err != nil {
		listener.Close()
		return nil, nil, err
	}
	// The server waits in accept and the VMM in its own loop.
	for _, f := range []*os.File{listener, client} {
		if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
			listener.Close()
			client.Close()
			return nil, nil, err
		}
	}
	return listener, client, nil
}

// Done is closed when the server has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns why the server ended: nil after a clean end, such as that of its VMM.
// It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// PID returns the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// CloseVMM closes our copy of the VMM's end, once the VMM has it.
func (p *Process) CloseVMM() { p.once.Do(func() { p.VMM.Close() }) }

// Kill ends the server at once and waits for that. The VMM must have ended before:
// what it has under way would be lost.
func (p *Process) Kill() {
	p.CloseVMM()
	p.cmd.Process.Kill()
	<-p.done
	if p.mounts != nil {
		p.mounts.table.Close()
	}
}
