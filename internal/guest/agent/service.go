package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sdnotify"
)

// serviceWord is the argument with which the agent's program is a service of systemd's.
const serviceWord = "service"

// IsService reports whether args are those of a program that is to call Serve.
func IsService(args []string) bool { return len(args) == 2 && args[1] == serviceWord }

// service is what an agent that is not process 1 has in place of its power.
type service struct {
	cgroups  string // the root of cgroups(7)
	programs cgroup // what the agent has started
}

// Serve serves the host as a service of systemd's. It returns only when that is no
// longer possible.
func Serve() error {
	modules := make(chan struct{})
	close(modules) // loaded by process 1
	a := &agent{reaper: newReaper(), started: time.Now(), modules: modules, reports: reports{dir: reportDir}}
	var err error
	if a.service, err = newService("/sys/fs/cgroup", "/proc/self/cgroup"); err != nil {
		return err
	}
	if err := a.takeOver(); err != nil {
		return err
	}
	path, err := findPort()
	if err != nil {
		return err
	}
	port, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	notifier, err := sdnotify.New(os.Getenv)
	if err != nil {
		return err
	}
	if err := notifier.Send(sdnotify.Ready); err != nil {
		return err
	}
	return a.converse(port)
}

// takeOver makes the machine of what process 1 left. The file goes: the host's key is
// in it.
func (a *agent) takeOver() error {
	data, err := os.ReadFile(handoverFile)
	if err != nil {
		return err
	}
	if err := os.Remove(handoverFile); err != nil {
		return err
	}
	var h handover
	if err := json.Unmarshal(data, &h); err != nil {
		return fmt.Errorf("read %s: %w", handoverFile, err)
	}
	m := newMachine(h.Configure)
	m.env = h.Env
	if h.Configure.Workspace != nil {
		if m.workspace, err = openWorkspace(changesDir); err != nil {
			return err
		}
	}
	if err := a.setUpSSH(m, h.Configure.SSH); err != nil {
		return err
	}
	a.machine = m
	return nil
}

// newService finds the agent's own group in the file self, as of proc(5), below the
// directory of all groups.
func newService(cgroups, self string) (*service, error) {
	data, err := os.ReadFile(self)
	if err != nil {
		return nil, err
	}
	own, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "0::/")
	if !ok {
		return nil, fmt.Errorf("%s: no group of version 2", self)
	}
	programs, err := makeCgroup(filepath.Join(cgroups, own, "programs"))
	return &service{cgroups: cgroups, programs: programs}, err
}

// others returns the groups of everything but the agent, what it has started, and
// systemd.
func (s *service) others() ([]cgroup, error) {
	entries, err := os.ReadDir(s.cgroups)
	if err != nil {
		return nil, err
	}
	var others []cgroup
	for _, e := range entries {
		if dir := filepath.Join(s.cgroups, e.Name()); e.IsDir() && e.Name() != "init.scope" && !s.programs.below(dir) {
			others = append(others, cgroup{dir: dir})
		}
	}
	return others, nil
}

// quiesce sees to it that nothing changes in the machine any more: what the agent has
// started is killed. Services are frozen, since systemd would start those that are
// killed again.
func (s *service) quiesce() error {
	if err := s.programs.kill(); err != nil {
		return err
	}
	return s.freeze(true)
}

func (s *service) freeze(on bool) error {
	others, err := s.others()
	if err != nil {
		return err
	}
	for _, c := range others {
		if err := c.freeze(on); err != nil {
			return err
		}
	}
	return nil
}

// powerOffSignal asks systemd to end the machine: SIGRTMIN+4 of systemd(1), where
// SIGRTMIN is the C library's.
const powerOffSignal = unix.Signal(34 + 4)

// powerOff asks everybody to end, systemd with its services and what the agent has
// started, and kills of the latter what has not within timeout. systemd ends the
// machine, and bounds how long that takes by itself.
func (s *service) powerOff(timeout time.Duration) {
	s.freeze(false) // else nobody could end
	unix.Kill(1, powerOffSignal)
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGTERM, unix.SIGCONT} {
		s.programs.signal(sig)
	}
	for deadline := time.Now().Add(timeout); s.programs.populated() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	s.programs.kill()
}

// outputLimit bounds what a program of output prints, in bytes.
const outputLimit = 64 << 10

// maxFailed bounds the units that booted names.
const maxFailed = 16

// booted waits until systemd has started all that it is to, and says how that went. The
// host waits for the answer as long as it wants.
func (a *agent) booted() wire.Booted {
	if a.service == nil {
		return wire.Booted{}
	}
	out, err := a.output("/usr/bin/systemctl", "is-system-running", "--wait")
	b := wire.Booted{State: strings.TrimSpace(string(out))}
	if b.State == "" && err != nil {
		b.State = err.Error()
	}
	if b.State != "degraded" {
		return b
	}
	out, _ = a.output("/usr/bin/systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager")
	for line := range strings.Lines(string(out)) {
		if name := strings.Fields(line); len(name) > 0 && len(b.Failed) < maxFailed {
			b.Failed = append(b.Failed, name[0])
		}
	}
	return b
}

// output runs a program as root and returns what it writes to its standard output.
func (a *agent) output(argv ...string) ([]byte, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		w.Close()
		return nil, err
	}
	defer null.Close()
	_, status, err := a.reaper.start(func() (int, error) {
		return syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
			Dir: "/", Env: []string{"PATH=" + defaultPath, "LANG=C.UTF-8"},
			Files: []uintptr{null.Fd(), w.Fd(), null.Fd()},
		})
	})
	w.Close()
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, outputLimit))
	r.Close()
	<-status
	return out, err
}
