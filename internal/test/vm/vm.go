// Package vm runs the mayfly program in tests as its users do, with real
// machines behind it.
//
// A Host is a user of their own: home, configuration and state are private to
// a test; images, which take long to build, are shared. Every command runs
// under a watchdog, and at the end of a test nothing of its machines may be
// left. Nothing here looks inside mayfly: what it promises shows outside.
package vm

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// StoreVariable names the data directory that tests share, in the place of
// XDG_DATA_HOME of the user who runs them.
const StoreVariable = "MAYFLY_TEST_STORE"

// laneVariable names the lane of tests that take turns, in the place of the only one.
const laneVariable = "MAYFLY_TEST_LANE"

// Lock waits until no other test of the lane has a machine, and keeps it so until t ends.
// Two emulated machines are what a small computer has CPUs for: more only wait for each
// other.
func Lock(t testing.TB) {
	t.Helper()
	env.NeedVM(t)
	name := filepath.Join(os.TempDir(), "mayfly-vm"+os.Getenv(laneVariable)+".lock")
	// Not created if it is there: in a sticky directory the kernel refuses
	// that for other users' files, proc_sys_fs(5).
	f, err := os.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(name, os.O_RDONLY|os.O_CREATE, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		t.Fatalf("lock %s: %v", name, err)
	}
	t.Cleanup(func() { f.Close() })
}

// Host is a user of mayfly: their home directory and what is below it.
type Host struct {
	Dir   string // where commands start: a small project
	Home  string
	State string // mayfly's own state directory
	Env   []string

	// Program is the mayfly binary. It runs as Credential, or as who runs
	// the tests.
	Program    string
	Credential *syscall.Credential
	// Through changes each command before it is started, so that it runs
	// somewhere else; nil for here.
	Through func(*exec.Cmd) *exec.Cmd

	t testing.TB
}

// New returns a new user for t, with an empty project directory.
func New(t testing.TB) *Host {
	t.Helper()
	root := t.TempDir()
	h := &Host{
		Dir:     filepath.Join(root, "home/project"),
		Home:    filepath.Join(root, "home"),
		Program: "mayfly",
		t:       t,
	}
	for _, dir := range []string{h.Dir, filepath.Join(root, "config"), filepath.Join(root, "state")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.Env = append(Env(t),
		"HOME="+h.Home,
		"XDG_CONFIG_HOME="+filepath.Join(root, "config"),
		"XDG_STATE_HOME="+filepath.Join(root, "state"),
	)
	h.State = filepath.Join(root, "state/mayfly")
	t.Cleanup(func() { h.check() })
	return h
}

// For returns h for a subtest t.
func (h *Host) For(t testing.TB) *Host {
	sub := *h
	sub.t = t
	return &sub
}

// Env returns the environment of mayfly in tests without the home directory
// and what is private: the images and the proof of KVM are the real user's.
func Env(t testing.TB) []string {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"XDG_DATA_HOME=" + cmp.Or(os.Getenv(StoreVariable), os.Getenv("XDG_DATA_HOME"), filepath.Join(home, ".local/share")),
		"XDG_CACHE_HOME=" + cmp.Or(os.Getenv("XDG_CACHE_HOME"), filepath.Join(home, ".cache")),
		"LANG=C.UTF-8",
		"GORACE=atexit_sleep_ms=0", // else every command takes a second more
	}
	// What a mirror, a proxy or a private registry needs.
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(strings.ToLower(kv), "=")
		if strings.HasSuffix(name, "_proxy") || strings.HasPrefix(name, "npm_config_") || name == "mayfly_qemu" || name == "gocoverdir" {
			env = append(env, kv)
		}
	}
	return env
}

// Machine returns the only machine of h.
func (h *Host) Machine() string {
	h.t.Helper()
	names := h.Machines()
	if len(names) != 1 {
		h.t.Fatalf("machines = %q; want one", names)
	}
	return names[0]
}

// Machines returns the names of what is in the directory of machines, the half
// made and half removed included.
func (h *Host) Machines() []string {
	h.t.Helper()
	entries, err := os.ReadDir(filepath.Join(h.State, "machines"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// File returns the path of a file of the machine name.
func (h *Host) File(name, file string) string {
	return filepath.Join(h.State, "machines", name, file)
}

// Lasting returns what there is of machines, as Leftovers does, when it had the time to go: a
// supervisor notices the end of its owner by itself, and removes files as fast as a disk that
// others use lets it.
func (h *Host) Lasting() string {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if left := h.Leftovers(); left == "" || time.Now().After(deadline) {
			return left
		}
	}
}

// check fails the test if anything of its machines is left, and cleans it away.
func (h *Host) check() {
	left := h.Lasting()
	if left == "" {
		return
	}
	h.t.Errorf("left at the end of the test:\n%s\n%s", left, h.Logs())
	for _, p := range Holders(h.State) {
		if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
			h.t.Log(err)
		}
	}
}

// Leftovers returns what there is of machines, one line each.
func (h *Host) Leftovers() string {
	var b strings.Builder
	for _, name := range h.Machines() {
		fmt.Fprintf(&b, "machine %s\n", name)
	}
	for _, p := range Holders(h.State) {
		fmt.Fprintf(&b, "process %d: %s (%s)\n", p.PID, p.Args, p.File)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, h.State) {
			b.WriteString("mount " + line)
		}
	}
	return b.String()
}

// Logs returns the logs of all machines of h.
func (h *Host) Logs() string {
	var b strings.Builder
	for _, name := range h.Machines() {
		for _, file := range []string{"status.json", "supervisor.log", "vmm.log", "console.log"} {
			if data, err := os.ReadFile(h.File(name, file)); err == nil {
				fmt.Fprintf(&b, "--- %s of %s\n%s\n", file, name, Clip(string(data)))
			}
		}
	}
	return b.String()
}

// Process is a process that has a file open.
type Process struct {
	PID  int
	Args string
	File string
}

// Holders returns the processes that have a file below dir open, deleted ones
// included: what lives of a machine is among them.
func Holders(dir string) []Process {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	var found []Process
	seen := make(map[int]bool)
	for _, link := range links {
		file, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(file, dir+"/") {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(link, "/proc/%d/", &pid); err != nil || seen[pid] || pid == os.Getpid() {
			continue
		}
		seen[pid] = true
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		found = append(found, Process{pid, strings.ReplaceAll(string(args), "\x00", " "), file})
	}
	return found
}

// OwnCache gives h a cache directory of its own, with no template in it, and
// returns the directory of templates to be. What is known of the computer is
// copied, since finding it out takes a while.
func (h *Host) OwnCache() string {
	h.t.Helper()
	dir := filepath.Join(h.t.TempDir(), "mayfly")
	if err := os.Mkdir(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	for _, name := range []string{"kvm-proof.json", "qemu.json"} {
		data, err := os.ReadFile(filepath.Join(h.Variable("XDG_CACHE_HOME"), "mayfly", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			h.t.Fatal(err)
		}
	}
	h.Set("XDG_CACHE_HOME", filepath.Dir(dir))
	return filepath.Join(dir, "templates")
}

// Variable returns a variable of h's environment.
func (h *Host) Variable(name string) (value string) {
	for _, kv := range h.Env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v // the last one holds
		}
	}
	return value
}

// Set sets a variable of h's environment.
func (h *Host) Set(name, value string) { h.Env = append(slices.Clone(h.Env), name+"="+value) }
