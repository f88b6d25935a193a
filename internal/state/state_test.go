package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// The variables make this binary, executed again, a process that creates the
// machine NAME in the store DIR, says what came of it and lives until its
// input ends.
const helperVariable = "MAYFLY_STATE_TEST"

func TestMain(m *testing.M) {
	dir := os.Getenv(helperVariable)
	if dir == "" {
		os.Exit(m.Run())
	}
	_, lock, err := Store{dir}.Create(testPlan(os.Getenv("NAME")))
	if err != nil {
		fmt.Println("lost")
		return
	}
	fmt.Println("won")
	io.Copy(io.Discard, os.Stdin)
	lock.Release()
}

// creator is such a process.
type creator struct {
	cmd   *exec.Cmd
	stdin io.Closer
	won   bool
}

func startCreator(t testing.TB, s Store, name string) *creator {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{helperVariable + "=" + s.Dir, "NAME=" + name, "GORACE=atexit_sleep_ms=0"}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	buf := make([]byte, 4)
	if n, err := io.ReadAtLeast(stdout, buf, 3); err != nil {
		t.Fatalf("the creator of %s said %q, %v", name, buf[:n], err)
	}
	return &creator{cmd, stdin, strings.HasPrefix(string(buf), "won")}
}

// kill ends the process as kill -9 does.
func (c *creator) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

func testPlan(name string) plan.Plan {
	return plan.Plan{Version: plan.Version, Name: name, Machine: plan.Machine{Engine: plan.Engine{Name: plan.EngineQEMU}, VCPUs: 2}}
}

func open(t testing.TB) Store {
	t.Helper()
	s := Open(t.TempDir())
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t testing.TB, s Store, name string) (Machine, *Lock) {
	t.Helper()
	m, lock, err := s.Create(testPlan(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lock.Release)
	return m, lock
}

func names(ms []Machine) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Name)
	}
	return out
}

func TestLifeOfAMachine(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir)
	if _, err := s.Get("m"); !errors.Is(err, ErrNotFound) || fault.CodeOf(err) != fault.MachineNotFound {
		t.Errorf("Get() of none = %v; want %v and the code of it", err, ErrNotFound)
	}

	m, lock := create(t, s, "m")
	if fi, err := os.Stat(s.Dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the store's directory: %v, %v; want mode 0700", fi.Mode(), err)
	}
	if fi, err := os.Stat(m.Dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the machine's directory: %v, %v; want mode 0700", fi.Mode(), err)
	}
	if got, err := s.Get("m"); err != nil || got != m {
		t.Errorf("Get() = %v, %v; want %v", got, err, m)
	}
	if got, err := FromDir(m.Dir); err != nil || got != m {
		t.Errorf("FromDir() = %v, %v; want %v", got, err, m)
	}
	p, err := m.Plan()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(testPlan("m"), p); d != "" {
		t.Errorf("the plan differs (-want +got):\n%s", d)
	}
	if !m.Alive() {
		t.Error("Alive() = false with the lock held; want true")
	}
	if _, err := m.TryLock(); !errors.Is(err, ErrAlive) {
		t.Errorf("TryLock() with the lock held = %v; want %v", err, ErrAlive)
	}
	if st := m.Status(); st.Phase != Starting {
		t.Errorf("Status() without a file = %+v; want %s", st, Starting)
	}
	if err := WriteJSON(m.File(StatusFile), Status{Phase: Running, Kept: true}); err != nil {
		t.Fatal(err)
	}
	if st := m.Status(); st.Phase != Running || !st.Kept {
		t.Errorf("Status() = %+v; want %s, kept", st, Running)
	}
	create(t, s, "another")
	if ms, err := s.List(); err != nil || !slices.Equal(names(ms), []string{"another", "m"}) {
		t.Errorf("List() = %v, %v; want another, m", names(ms), err)
	}

	lock.Release()
	if m.Alive() {
		t.Error("Alive() = true after the lock was released; want false")
	}
	if st := m.Status(); st.Phase != Dead || !st.Kept {
		t.Errorf("Status() of the dead = %+v; want %s, kept", st, Dead)
	}
	lock, err = m.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds nothing
		if err := m.Remove(); err != nil {
			t.Errorf("Remove() = %v; want nil", err)
		}
	}
	lock.Release()
	if _, err := s.Get("m"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get() after Remove = %v; want %v", err, ErrNotFound)
	}
	if _, err := m.TryLock(); !errors.Is(err, ErrNotFound) {
		t.Errorf("TryLock() after Remove = %v; want %v", err, ErrNotFound)
	}
	if st := m.Status(); st.Phase != Dead {
		t.Errorf("Status() after Remove = %+v; want %s", st, Dead)
	}
	if ms, err := s.Leftovers(); err != nil || len(ms) != 0 {
		t.Errorf("Leftovers() = %v, %v; want none", names(ms), err)
	}
	create(t, s, "m") // the name is free
}

func TestNameTaken(t *testing.T) {
	s := open(t)
	m, lock := create(t, s, "m")
	for _, state := range []string{"alive", "dead"} {
		_, _, err := s.Create(testPlan("m"))
		f, ok := fault.Of(err)
		if !ok || !strings.Contains(err.Error(), "taken") || f.Code != fault.NameTaken || f.Args["name"] != "m" {
			t.Errorf("Create() of a name that is %s = %v; want that m is taken", state, err)
		}
		lock.Release()
	}
	if _, err := m.Plan(); err != nil {
		t.Errorf("the plan of the first: %v", err)
	}
	if ms, err := s.Leftovers(); err != nil || len(ms) != 0 {
		t.Errorf("Leftovers() = %v, %v; want none", names(ms), err)
	}
	// Whatever has the name keeps it.
	if err := os.WriteFile(filepath.Join(s.Dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Create(testPlan("file")); err == nil {
		t.Error("Create() over a file = nil; want an error")
	}
	if err := os.Mkdir(filepath.Join(s.Dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Create(testPlan("empty")); err == nil {
		t.Error("Create() over an empty directory = nil; want an error")
	}
}

func TestBadNames(t *testing.T) {
	s := open(t)
	if err := os.Mkdir(filepath.Join(s.Dir, ".m"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(s.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", ".m", "../machines", "a/b", "link", "a\x00b", strings.Repeat("a", 300)} {
		if m, err := s.Get(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get(%q) = %v, %v; want %v", name, m, err, ErrNotFound)
		}
	}
	for _, dir := range []string{"", "/", filepath.Join(s.Dir, ".m"), s.Dir + "/UPPER"} {
		if m, err := FromDir(dir); err == nil {
			t.Errorf("FromDir(%q) = %v, nil; want an error", dir, m)
		}
	}
}

// Of many who create the same name, in this process and in others, one wins.
func TestCreateRace(t *testing.T) {
	s := open(t)
	var won atomic.Int32
	var locks []*Lock
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, lock, err := s.Create(testPlan("m")); err == nil {
				won.Add(1)
				mu.Lock()
				locks = append(locks, lock)
				mu.Unlock()
			}
		})
	}
	for range 5 {
		wg.Go(func() {
			if startCreator(t, s, "m").won {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d of 25 made the machine; want 1", n)
	}
	m, err := s.Get("m")
	if err != nil || !m.Alive() {
		t.Errorf("the machine: %v, alive %v; want it alive", err, m.Alive())
	}
	if ms, err := s.Leftovers(); err != nil || len(ms) != 0 {
		t.Errorf("Leftovers() = %v, %v; want none", names(ms), err)
	}
	for _, lock := range locks {
		lock.Release()
	}
}

// A machine is alive as long as its process, however that ends.
func TestKilledProcess(t *testing.T) {
	s := open(t)
	c := startCreator(t, s, "m")
	m, err := s.Get("m")
	if err != nil || !c.won {
		t.Fatalf("the machine: %v, won %v", err, c.won)
	}
	for range 3 {
		if !m.Alive() {
			t.Error("Alive() = false; want true")
		}
	}
	if _, err := m.TryLock(); !errors.Is(err, ErrAlive) {
		t.Errorf("TryLock() = %v; want %v", err, ErrAlive)
	}
	c.kill()
	if m.Alive() {
		t.Error("Alive() = true after kill -9; want false")
	}
	lock, err := m.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if err := m.Remove(); err != nil {
		t.Error(err)
	}
}

// The lock lives on in a process that inherited it.
func TestInheritLock(t *testing.T) {
	s := open(t)
	m, lock := create(t, s, "m")
	cmd := exec.Command("sleep", "100")
	cmd.ExtraFiles = []*os.File{lock.File()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lock.Release()
	alive := m.Alive()
	cmd.Process.Kill()
	cmd.Wait()
	if !alive || m.Alive() {
		t.Errorf("alive with the process: %v, after it: %v; want true, false", alive, m.Alive())
	}

	f, err := os.OpenFile(m.File(lockFile), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if lock, err = m.TryLock(); err != nil {
		t.Fatal(err)
	}
	dup, err := syscall.Dup(int(lock.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	inherited := InheritLock(os.NewFile(uintptr(dup), "lock"))
	lock.Release()
	f.Close()
	if !m.Alive() {
		t.Error("Alive() = false with an inherited lock; want true")
	}
	inherited.Release()
}

// Who asks whether a machine lives does not keep others from locking it.
func TestAliveDisturbsNobody(t *testing.T) {
	s := open(t)
	m, lock := create(t, s, "m")
	lock.Release()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					m.Alive()
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for range 20 {
		lock, err := m.TryLock()
		if err != nil {
			t.Errorf("TryLock() = %v; want nil", err)
			continue
		}
		lock.Release()
	}
	close(stop)
	wg.Wait()
}

// What a kill left half made or half removed can be locked and removed, but
// not while somebody may be making it.
func TestLeftovers(t *testing.T) {
	s := open(t)
	old := time.Now().Add(-time.Minute)
	for name, files := range map[string][]string{
		".new-1":      nil,
		".new-2":      {"lock.new"},
		".new-3":      {"lock"},
		".dead-m-123": {"plan.json", "scratch.img"},
		".fresh-1":    nil,
	} {
		dir := filepath.Join(s.Dir, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if !strings.HasPrefix(name, ".fresh") {
			if err := os.Chtimes(dir, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ms, err := s.List(); err != nil || len(ms) != 0 {
		t.Errorf("List() = %v, %v; want none", names(ms), err)
	}
	ms, err := s.Leftovers()
	if err != nil || len(ms) != 5 {
		t.Fatalf("Leftovers() = %v, %v; want five", names(ms), err)
	}
	for _, m := range ms {
		lock, err := m.TryLock()
		if m.Name == ".fresh-1" {
			if !errors.Is(err, ErrAlive) {
				t.Errorf("TryLock() of what is being made = %v; want %v", err, ErrAlive)
			}
			continue
		}
		if err != nil {
			t.Errorf("TryLock(%s) = %v; want nil", m.Name, err)
			continue
		}
		if err := m.Remove(); err != nil {
			t.Errorf("Remove(%s) = %v; want nil", m.Name, err)
		}
		lock.Release()
	}
	if ms, err := s.Leftovers(); err != nil || !slices.Equal(names(ms), []string{".fresh-1"}) {
		t.Errorf("Leftovers() = %v, %v; want .fresh-1", names(ms), err)
	}
}

// A leftover that cannot be removed keeps its name: it must not get a longer
// one with every try.
func TestRemoveLeftoverKeepsName(t *testing.T) {
	s := open(t)
	m := s.At(".dead-m-1")
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(s.Dir); err != nil || len(entries) != 0 {
		t.Errorf("the store holds %v, %v; want nothing", entries, err)
	}
}

// A lock of a machine that was removed meanwhile is no lock of the one that has
// its name now.
func TestTryLockRecreated(t *testing.T) {
	s := open(t)
	old, lock := create(t, s, "m")
	f, err := os.OpenFile(old.File(lockFile), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !old.isLock(f) {
		t.Error("isLock() = false; want true")
	}
	if err := old.Remove(); err != nil {
		t.Fatal(err)
	}
	lock.Release()
	if old.isLock(f) {
		t.Error("isLock() of a removed machine = true; want false")
	}
	m, _ := create(t, s, "m")
	if m.isLock(f) {
		t.Error("isLock() of a new machine with an old file = true; want false")
	}
}

// Machines come and go under many hands, and no hand removes a live one.
func TestConcurrentLives(t *testing.T) {
	s := open(t)
	deadline := time.Now().Add(300 * time.Millisecond)
	var lives atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { // commands that run a machine
			for time.Now().Before(deadline) {
				m, lock, err := s.Create(testPlan("m"))
				if err != nil {
					if !strings.Contains(err.Error(), "taken") {
						t.Errorf("Create() = %v", err)
					}
					continue
				}
				lives.Add(1)
				if _, err := m.Plan(); err != nil || !m.isLock(lock.File()) {
					t.Errorf("a machine under its lock: %v, its lock: %v", err, m.isLock(lock.File()))
				}
				if lives.Load()%2 == 0 {
					m.Remove()
				}
				lock.Release()
			}
		})
		wg.Go(func() { // commands that clear away
			for time.Now().Before(deadline) {
				ms, err := s.List()
				left, err2 := s.Leftovers()
				if err != nil || err2 != nil {
					t.Errorf("List() = %v, Leftovers() = %v", err, err2)
				}
				for _, m := range append(ms, left...) {
					lock, err := m.TryLock()
					switch {
					case err == nil:
						if err := m.Remove(); err != nil {
							t.Errorf("Remove() = %v", err)
						}
						lock.Release()
					case !errors.Is(err, ErrAlive) && !errors.Is(err, ErrNotFound):
						t.Errorf("TryLock() = %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if lives.Load() < 10 {
		t.Errorf("%d machines were made; want more", lives.Load())
	}
}

// Who may not give the directory another name removes it as it is.
func TestRemoveInPlace(t *testing.T) {
	store := Open(t.TempDir())
	m, lock, err := store.Create(plan.Plan{Version: plan.Version, Name: "m"})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if err := os.MkdirAll(filepath.Join(m.File(StagingDir), "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{StatusFile, ScratchFile, StagingDir + "/deep/file"} {
		if err := os.WriteFile(m.File(name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.removeInPlace(); err != nil {
		t.Errorf("removeInPlace() = %v; want nil", err)
	}
	if entries, err := os.ReadDir(store.Dir); err != nil || len(entries) != 0 {
		t.Errorf("what is left: %v, %v; want nothing", entries, err)
	}
}
