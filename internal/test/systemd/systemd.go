// Package systemdtest boots a systemd of their own for tests.
//
// It is the distribution's, as the first process of new namespaces and in control
// groups of its own, with a journal in memory, no units but the few that others
// need, and no network. Directories of units are empty and private; other files
// are the computer's. It is killed at the end of the test, and nothing is left.
package systemdtest

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/systemd"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

//go:embed boot.sh
var bootScript []byte

// bootTimeout ends what hangs; a boot takes a second.
const bootTimeout = time.Minute

// Manager is a systemd that runs.
type Manager struct {
	// Unified says whether control groups are of version 2 throughout. If
	// not, a user's manager cannot set limits.
	Unified bool

	user  []string // what begins a command of a user's manager; nil for the computer's
	units string   // the directory of units

	t      testing.TB
	first  int // the process number of systemd
	cgroup string
	mounts []cgroupMount
	out    *bytes.Buffer // of the boot; read once it has ended
	ended  chan struct{}
}

// cgroupMount is a hierarchy of control groups.
type cgroupMount struct{ at, kind, options string }

// Start boots a systemd for the time of t, or skips t and says why.
func Start(t testing.TB) *Manager {
	t.Helper()
	env.NeedVM(t)
	env.NeedRoot(t)
	for _, tool := range []string{"systemctl", "journalctl", "unshare", "nsenter", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("runs a systemd of its own: %v", err)
		}
	}
	dir := ""
	for _, d := range []string{"/usr/lib/systemd", "/lib/systemd"} {
		if _, err := os.Stat(filepath.Join(d, "systemd-journald")); err == nil && dir == "" {
			dir = d
		}
	}
	if dir == "" {
		t.Skip("runs a systemd of its own: there is none in /usr/lib/systemd")
	}
	if _, err := os.Stat("/etc/machine-id"); err != nil {
		t.Skipf("runs a systemd of its own, for which another file can be in its place: %v", err)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	m := &Manager{t: t, units: systemd.SystemDir().Path, cgroup: fmt.Sprintf("mayfly-test-%d", os.Getpid()), out: new(bytes.Buffer), ended: make(chan struct{})}
	m.mounts, m.Unified = hierarchies(string(info))
	if len(m.mounts) == 0 {
		t.Skip("runs a systemd of its own: no control groups are mounted in /sys/fs/cgroup")
	}
	t.Cleanup(m.removeGroups)
	var lines strings.Builder
	for _, h := range m.mounts {
		if err := os.Mkdir(filepath.Join(h.at, m.cgroup), 0o755); err != nil {
			t.Skipf("runs a systemd of its own: %v", err)
		}
		fmt.Fprintf(&lines, "%s %s %s\n", h.at, h.kind, h.options)
	}
	script := filepath.Join(t.TempDir(), "boot.sh")
	if err := os.WriteFile(script, bootScript, 0o755); err != nil {
		t.Fatal(err)
	}
	var id [16]byte
	rand.Read(id[:])
	cmd := exec.Command("/bin/sh", script, dir, m.cgroup, hex.EncodeToString(id[:]))
	cmd.Stdin = strings.NewReader(lines.String())
	cmd.Stdout, cmd.Stderr = m.out, m.out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
		Setsid:     true,
		Pdeathsig:  syscall.SIGKILL,
	}
	started := make(chan error)
	go func() {
		// The signal of a parent's death is that of a thread's.
		runtime.LockOSThread()
		defer close(m.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	if err := <-started; errors.Is(err, syscall.EPERM) {
		t.Skipf("runs a systemd of its own: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	m.first = cmd.Process.Pid
	// All that it started is in its namespace, and dies with it.
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-m.ended
	})
	m.until("systemd listens", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/systemd/private", m.first))
		return err == nil
	})
	m.until("systemd has booted", func() bool {
		out, _ := m.Command(exec.Command("systemctl", "is-system-running", "--wait")).Output()
		state := strings.TrimSpace(string(out))
		if state == "degraded" {
			t.Fatalf("systemd is degraded\n%s", m.Run(0, "systemctl", "--failed", "--no-pager"))
		}
		return state == "running"
	})
	// It raises limits of the kernel's only when it boots. A /proc of which
	// a part is covered lets nobody mount another, which is how images are built.
	m.Run(0, "umount", "/proc/sys")
	return m
}

// For returns m for a subtest t.
func (m *Manager) For(t testing.TB) *Manager {
	sub := *m
	sub.t = t
	return &sub
}

// hierarchies returns the control groups that systemd needs, out of the text of
// /proc/self/mountinfo, proc_pid_mountinfo(5).
func hierarchies(mountinfo string) (found []cgroupMount, unified bool) {
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		fields, super := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(super) < 3 || !strings.HasPrefix(fields[4], "/sys/fs/cgroup") {
			continue
		}
		h := cgroupMount{at: fields[4], kind: super[0]}
		switch {
		case h.kind == "cgroup2":
			unified = unified || h.at == "/sys/fs/cgroup"
		case h.kind == "cgroup":
			var options []string
			wanted := false
			for o := range strings.SplitSeq(super[2], ",") {
				switch o {
				case "rw", "ro", "xattr", "nsdelegate":
					continue
				case "name=systemd":
					options = append(options, "none", o)
					wanted = true
				case "memory", "pids", "cpu", "cpuacct", "devices":
					options = append(options, o)
					wanted = true
				default:
					options = append(options, o)
				}
			}
			if !wanted {
				continue
			}
			h.options = strings.Join(options, ",")
		default:
			continue
		}
		found = append(found, h)
	}
	return found, unified
}

// until waits until ok, for as long as systemd runs and a watchdog lets it.
func (m *Manager) until(what string, ok func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(bootTimeout); !ok(); time.Sleep(10 * time.Millisecond) {
		select {
		case <-m.ended:
			m.t.Fatalf("systemd ended before %s:\n%s", what, m.out.String())
		default:
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("not within %v: %s", bootTimeout, what)
		}
	}
}

// removeGroups removes the control groups, which are empty.
func (m *Manager) removeGroups() {
	for _, h := range m.mounts {
		var dirs []string
		filepath.WalkDir(filepath.Join(h.at, m.cgroup), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		slices.Reverse(dirs)
		for _, dir := range dirs {
			// Processes leave them a moment after they ended.
			err := os.Remove(dir)
			for deadline := time.Now().Add(10 * time.Second); errors.Is(err, syscall.EBUSY) && time.Now().Before(deadline); err = os.Remove(dir) {
				time.Sleep(10 * time.Millisecond)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				m.t.Error(err)
			}
		}
	}
}

// Command returns cmd so that it runs where systemd does. It is as root there:
// what is to run as somebody else, systemd runs.
func (m *Manager) Command(cmd *exec.Cmd) *exec.Cmd {
	path, args := cmd.Path, cmd.Args[1:]
	dir := cmd.Dir
	if dir == "" {
		dir = "/"
	}
	inside := exec.Command("nsenter", append([]string{
		"--target", strconv.Itoa(m.first), "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--wd=" + dir, "--", path}, args...)...)
	inside.Env = cmd.Env
	inside.Stdin, inside.Stdout, inside.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	inside.SysProcAttr = cmd.SysProcAttr
	return inside
}

// Run runs a command and fails the test unless it exits with code. It returns what
// was printed.
func (m *Manager) Run(code int, argv ...string) string {
	m.t.Helper()
	if m.user != nil && argv[0] == "systemctl" {
		argv = append(append(slices.Clone(m.user), "systemctl", "--user"), argv[1:]...)
	}
	out, err := m.Command(exec.Command(argv[0], argv[1:]...)).CombinedOutput()
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		m.t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	if got != code {
		m.t.Fatalf("%s: exit code %d; want %d\n%s", strings.Join(argv, " "), got, code, out)
	}
	return string(out)
}

// Show returns a property of a unit.
func (m *Manager) Show(unit, property string) string {
	m.t.Helper()
	return strings.TrimSpace(m.Run(0, "systemctl", "show", "--value", "--property="+property, unit))
}

// Journal returns what a unit and systemd said of it.
func (m *Manager) Journal(unit string) string {
	m.t.Helper()
	// Its journal may still be starting, on a busy computer.
	m.until("the journal", func() bool { return m.Command(exec.Command("journalctl", "--sync")).Run() == nil })
	if m.user != nil {
		return m.Run(0, "journalctl", "--no-pager", "--output=cat", "_SYSTEMD_USER_UNIT="+unit, "+", "USER_UNIT="+unit)
	}
	return m.Run(0, "journalctl", "--no-pager", "--output=cat", "--unit="+unit)
}

// Until waits until a property of a unit has a value.
func (m *Manager) Until(unit, property, value string) {
	m.t.Helper()
	m.until(unit+": "+property+"="+value, func() bool { return m.Show(unit, property) == value })
}

// UntilSaid waits until a text is in the journal of a unit.
func (m *Manager) UntilSaid(unit, text string) {
	m.t.Helper()
	m.until(unit+": "+text, func() bool { return strings.Contains(m.Journal(unit), text) })
}

// Controller returns a value that a control group of a unit has: file is its name
// in version 2, legacy that in version 1.
func (m *Manager) Controller(unit, controller, file, legacy string) string {
	m.t.Helper()
	group := m.Show(unit, "ControlGroup")
	name := filepath.Join("/sys/fs/cgroup", group, file)
	if !m.Unified {
		name = filepath.Join("/sys/fs/cgroup", controller, group, legacy)
	}
	return strings.TrimSpace(m.Run(0, "cat", name))
}

// Install writes the units of a machine where the manager looks for them.
func (m *Manager) Install(machine systemd.Machine) {
	m.t.Helper()
	scope := systemd.System
	if m.user != nil {
		scope = systemd.User
	}
	files, err := machine.Files(scope)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, f := range files {
		m.Write(filepath.Join(m.units, f.Path), f.Text)
	}
}

// Write writes a file, as root, as systemd sees it.
func (m *Manager) Write(name, text string) {
	m.t.Helper()
	m.Run(0, "mkdir", "-p", filepath.Dir(name))
	cmd := exec.Command("tee", name)
	cmd.Stdin = strings.NewReader(text)
	if out, err := m.Command(cmd).CombinedOutput(); err != nil {
		m.t.Fatalf("write %s: %v\n%s", name, err, out)
	}
}

// User starts the service manager of an account and returns it. It reads its units
// in the directory home, which is made for it.
func (m *Manager) User(account, home string) *Manager {
	m.t.Helper()
	id := strings.TrimSpace(m.Run(0, "id", "-u", account))
	group := strings.TrimSpace(m.Run(0, "id", "-g", account))
	dir := ""
	for _, d := range []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"} {
		if _, err := os.Stat(d); err == nil {
			dir = d
		}
	}
	u := *m
	runtimeDir := "/run/user/" + id
	u.units = filepath.Join(home, ".config/systemd/user")
	u.user = []string{"setpriv", "--reuid=" + id, "--regid=" + group, "--clear-groups", "env", "HOME=" + home, "XDG_RUNTIME_DIR=" + runtimeDir}
	m.Run(0, "install", "-d", "-m", "0700", "-o", id, "-g", group, runtimeDir)
	m.Run(0, "mkdir", "-p", u.units)
	// As user@.service of systemd's own has it.
	unit := "user@" + id + ".service"
	m.Write(filepath.Join(m.units, unit), fmt.Sprintf(`[Service]
User=%s
Type=notify
ExecStart=%s --user
Environment=HOME=%s XDG_RUNTIME_DIR=%s
Environment=SYSTEMD_UNIT_PATH=%s:/run/mayfly-test/units
Environment=SYSTEMD_GENERATOR_PATH=/run/mayfly-test/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/mayfly-test/none
Delegate=pids memory cpu
KillMode=mixed
`, account, dir, home, runtimeDir, u.units))
	m.Run(0, "systemctl", "daemon-reload")
	m.Run(0, "systemctl", "start", unit)
	return &u
}
