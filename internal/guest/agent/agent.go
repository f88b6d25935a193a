// Package agent is the first process of a machine, or, where that is systemd, a
// service of it.
//
// It starts in three phases. Boot mounts what the kernel gives, loads modules
// and opens the control port. Prepare, a message from the host, mounts the
// layers of an image and may run programs once, so that they are in memory.
// Nothing in these two depends on the machine: the state at their end can be
// saved and reused. Configure, another message, makes one machine of it:
// entropy, time, disks, names and user. After that the agent starts programs,
// reaps them, tells what changed in the workspace, and powers off.
//
// It trusts the host and nobody in the guest, but whoever works in the guest
// may become root and replace it: the host believes nothing that it says.
package agent

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/session"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// agent is the state of the process.
type agent struct {
	reaper  *reaper
	service *service // nil in process 1
	started time.Time

	modules chan struct{} // closed when all modules are loaded; modErr is set before
	modErr  error

	sessions session.Table
	reports  reports
	programs activity
	seeding  sync.Mutex // held while settings are written
	clock    sync.Mutex // held while the clock is compared and put right
	tracing  sync.Mutex // held while the kernel's tracing is set up

	mu       sync.Mutex      // guards what follows
	prepared *prepared       // nil until then
	machine  *machine        // nil until configured
	leaving  bool            // process 1 is to become systemd
	looks    map[*looks]bool // of the streams by which the host asks about ports
}

// startedAtOnce is how many programs start at once at most while a machine begins: one that
// warms up, and the command.
const startedAtOnce = 2

// Run boots the guest and serves the host. It returns only when that is no
// longer possible.
func Run() error {
	// A program's start holds one of Go's processors until the program begins, and on an
	// emulated CPU that is long. The kernel's processors have better to do.
	runtime.GOMAXPROCS(runtime.NumCPU() + startedAtOnce)
	a := &agent{started: time.Now(), modules: make(chan struct{}), reports: reports{dir: reportDir}}
	if err := mountKernel(); err != nil {
		return err
	}
	if err := errors.Join(setLimits(), makeDevices()); err != nil {
		return err
	}
	order, err := readModuleOrder(moduleDir)
	if err != nil {
		return err
	}
	// The control port's driver comes first: the host hears of the guest
	// while the rest is loaded.
	port, rest, err := openPort(order)
	if err != nil {
		return err
	}
	a.reaper = newReaper()
	go func() {
		a.modErr = errors.Join(loadModules(rest), allowRedirects())
		// The files are of no more use, and a guest's memory is small.
		os.RemoveAll(moduleDir)
		close(a.modules)
	}()

	return a.converse(port)
}

// converse serves the host on the control port. It returns only when that is no
// longer possible. Between two conversations process 1 may become systemd: it must not
// answer the greeting that its successor is to answer.
func (a *agent) converse(port *os.File) error {
	r := bufio.NewReaderSize(port, wire.MaxFrame)
	for {
		mux, err := wire.Accept(port, r, a.greeted)
		if err != nil {
			return err
		}
		for {
			stream, err := mux.Accept()
			if err != nil {
				break // the host begins anew
			}
			go a.serve(stream, time.Now())
		}
		mux.Close()
		if a.leaves() {
			return becomeSystemd()
		}
	}
}

// greeted is called when the host begins a conversation. In a guest that is prepared it
// is the first sign that it was restored, some time before it is configured.
func (a *agent) greeted() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.prepared != nil && a.machine == nil {
		a.prepared.begin()
	}
}

// serve answers one request, whose first sign came at that time.
func (a *agent) serve(stream net.Conn, came time.Time) {
	defer stream.Close()
	var req wire.Request
	if err := wire.ReadMessage(stream, &req); err != nil {
		return
	}
	a.keepTime(req.Time)
	switch {
	case req.Op == wire.OpHello:
		<-a.modules
		wire.WriteMessage(stream, hello())
	case req.Op == wire.OpPrepare && req.Prepare != nil:
		wire.WriteMessage(stream, a.prepare(req.Prepare))
	case req.Op == wire.OpConfigure && req.Configure != nil:
		wire.WriteMessage(stream, a.configure(req.Configure, came))
	case req.Op == wire.OpClock && req.Clock != nil:
		adjustClock(req.Clock.Adjust)
		wire.WriteMessage(stream, wire.Clocked{Now: time.Now().UnixNano()})
	case req.Op == wire.OpExec && req.Exec != nil:
		a.exec(stream, req.Exec)
	case req.Op == wire.OpSession && req.Session != nil:
		a.session(stream, req.Session)
	case req.Op == wire.OpSessions:
		wire.WriteMessage(stream, wire.Sessions{Sessions: a.sessions.List()})
	case req.Op == wire.OpSeed && req.Seed != nil:
		wire.WriteMessage(stream, a.seed(req.Seed))
	case req.Op == wire.OpConnect && req.Connect != nil:
		connect(stream, req.Connect)
	case req.Op == wire.OpSSH && req.SSH != nil:
		a.ssh(stream, req.SSH)
	case req.Op == wire.OpChanges && req.Changes != nil:
		a.changes(stream, req.Changes)
	case req.Op == wire.OpFetch && req.Fetch != nil:
		a.fetch(stream, req.Fetch)
	case req.Op == wire.OpCopy && req.Copy != nil:
		a.copy(stream, req.Copy)
	case req.Op == wire.OpSync && req.Sync != nil:
		a.sync(stream, req.Sync)
	case req.Op == wire.OpTranscripts && req.Transcripts != nil:
		a.transcripts(stream, req.Transcripts)
	case req.Op == wire.OpRestore && req.Restore != nil:
		wire.WriteMessage(stream, a.restore(stream, req.Restore))
	case req.Op == wire.OpShareLost && req.ShareLost != nil:
		wire.WriteMessage(stream, a.shareLost(req.ShareLost.Tag))
	case req.Op == wire.OpPorts && req.Ports != nil && req.Ports.All:
		a.noticePorts(stream)
	case req.Op == wire.OpPorts && req.Ports != nil:
		a.ports(stream, req.Ports)
	case req.Op == wire.OpNews:
		a.news(stream)
	case req.Op == wire.OpInit:
		wire.WriteMessage(stream, a.handOver())
	case req.Op == wire.OpBooted:
		wire.WriteMessage(stream, a.booted())
	case req.Op == wire.OpPowerOff && a.service != nil:
		a.service.powerOff(endTimeout)
		wire.WriteMessage(stream, wire.Configured{})
	case req.Op == wire.OpPowerOff:
		a.reaper.endAll(endTimeout)
		unix.Sync() // all file systems have journals, or are thrown away
		wire.WriteMessage(stream, wire.Configured{})
		PowerOff()
	}
}

func hello() wire.Hello {
	h := wire.Hello{Version: wire.Version}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		h.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) == nil {
		h.Uptime = now.Nano()
	}
	return h
}

// configured returns the machine, or an error before it is one.
func (a *agent) configured() (*machine, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.machine == nil {
		return nil, fmt.Errorf("the machine is not configured")
	}
	return a.machine, nil
}

// PowerOff ends the machine. It does not return.
func PowerOff() {
	for {
		unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		time.Sleep(time.Second)
	}
}

// openPort loads the modules of order up to the control port's driver, none
// when the kernel has it built in, and returns the port and the modules that
// are left.
func openPort(order []string) (port *os.File, rest []string, err error) {
	n := slices.IndexFunc(order, isConsoleDriver) + 1
	if err := loadModules(order[:n]); err != nil {
		return nil, nil, err
	}
	// The port appears when the host's device has answered the driver.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		path, err := findPort()
		if err == nil {
			port, err := os.OpenFile(path, os.O_RDWR, 0)
			return port, order[n:], err
		}
		if time.Now().After(deadline) {
			return nil, nil, fmt.Errorf("find the control port: %w", err)
		}
	}
}
