package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

func TestProcess(t *testing.T) {
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	p, err := ProcessOf(cmd.Process.Pid)
	if err != nil || p.PID != cmd.Process.Pid || p.Start == 0 {
		t.Fatalf("ProcessOf() = %+v, %v; want its number and start", p, err)
	}
	if again, err := ProcessOf(p.PID); err != nil || again != p {
		t.Errorf("ProcessOf() again = %+v, %v; want %+v", again, err, p)
	}
	// Numbers that are no process, or another one by now.
	for _, other := range []Process{{}, {-1, p.Start}, {1, 0}, {p.PID, p.Start - 1}, {p.PID, 0}, {1 << 22, p.Start}} {
		if other.Kill() {
			t.Errorf("Kill() of %+v = true; want false", other)
		}
	}
	if now, err := ProcessOf(p.PID); err != nil || now != p {
		t.Fatalf("the process after all that: %+v, %v; want it alive", now, err)
	}
	if !p.Kill() {
		t.Error("Kill() = false; want true")
	}
	cmd.Wait()
	if p.Kill() {
		t.Error("Kill() after the end = true; want false")
	}
	if _, err := ProcessOf(p.PID); err == nil {
		t.Error("ProcessOf() after the end = nil; want an error")
	}
}

// A program's name may look like the rest of the line.
func TestProcessOfOddName(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), "a) S 1 2 (b")
	if err := os.WriteFile(odd, data, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd, plain := exec.Command(odd, "100"), exec.Command("sleep", "100")
	for _, c := range []*exec.Cmd{cmd, plain} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer c.Wait()
		defer c.Process.Kill()
	}
	got, err := ProcessOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ProcessOf(plain.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// Both began at the same moment, give or take a slow machine's second.
	if d := int64(want.Start) - int64(got.Start); d < 0 || d > 1000 {
		t.Errorf("it began at %d, the next one at %d; want about the same", got.Start, want.Start)
	}
}

func TestJSONFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f.json")
	var got Status
	if err := ReadJSON(name, &got); !os.IsNotExist(err) {
		t.Errorf("ReadJSON() of nothing = %v; want that it is not there", err)
	}
	want := Status{Phase: Running, VMM: Process{5, 1 << 60}}
	if err := WriteJSON(name, want); err != nil {
		t.Fatal(err)
	}
	if err := ReadJSON(name, &got); err != nil || got != want {
		t.Errorf("ReadJSON() = %+v, %v; want %+v", got, err, want)
	}
	if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v; want mode 0600", fi.Mode(), err)
	}
	if err := WriteJSON(name, func() {}); err == nil {
		t.Error("WriteJSON() of a function = nil; want an error")
	}
	if err := ReadJSON(name, &got); err != nil || got != want {
		t.Errorf("after a failed write: %+v, %v; want %+v", got, err, want)
	}
	if err := os.WriteFile(name, []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ReadJSON(name, &got); err == nil || bytes.Contains([]byte(err.Error()), []byte(filepath.Dir(name))) {
		t.Errorf("ReadJSON() of half a value = %v; want an error with the file's base name", err)
	}
}

// Who reads while another writes sees the old value or the new one.
func TestWriteJSONIsAtomic(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f.json")
	if err := WriteJSON(name, Status{}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := range 300 {
			if err := WriteJSON(name, Status{Phase: Phase(fmt.Sprint(i)), VMM: Process{PID: i}}); err != nil {
				t.Error(err)
			}
		}
		close(stop)
	})
	for {
		select {
		case <-stop:
			wg.Wait()
			return
		default:
		}
		var s Status
		if err := ReadJSON(name, &s); err != nil || s.Phase != "" && string(s.Phase) != fmt.Sprint(s.VMM.PID) {
			t.Errorf("ReadJSON() = %+v, %v; want a whole value", s, err)
		}
	}
}

// What a supervisor of root's that has a user of its own says of processes is believed as far
// as they are its own: who reads it may kill them.
func TestStatusOfOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root's supervisors are other users")
	}
	m, lock := create(t, open(t), "m")
	defer lock.Release()
	start := func(user int) Process {
		t.Helper()
		cmd := exec.Command("sleep", "100")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}
		if err := cmd.Start(); err != nil {
			t.Skipf("start a process of user %d: %v", user, err) // in a container
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		p, err := ProcessOf(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	owner := start(0) // becomes nobody: only its number counts
	supervisor := owner.PID
	vmm, foreign, roots := start(confine.User(supervisor)), start(confine.User(supervisor)+1), start(0)
	write := func(user int, s Status) {
		t.Helper()
		if err := WriteJSON(m.File(StatusFile), s); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(m.File(StatusFile), user, user); err != nil {
			t.Fatal(err)
		}
	}
	// Root's own word.
	write(0, Status{Phase: Running, Supervisor: owner, VMM: roots})
	if got := m.Status(); got.Supervisor != owner || got.VMM != roots {
		t.Errorf("Status() by root = %+v; want what it says", got)
	}
	own := confine.SupervisorUser(supervisor)
	for name, c := range map[string]struct{ says, want Process }{
		"its VMM":                          {vmm, vmm},
		"its VMM, of another start":        {Process{vmm.PID, 1}, vmm},
		"the VMM of another":               {foreign, Process{}},
		"a process of root's":              {roots, Process{}},
		"the first process":                {Process{PID: 1}, Process{}},
		"a process that is no more":        {Process{PID: 1 << 22}, Process{}},
		"a process that can never be":      {Process{PID: -1}, Process{}},
		"the supervisor, which is not its": {owner, Process{}},
	} {
		write(own, Status{Phase: Running, Supervisor: roots, VMM: c.says})
		if got := m.Status(); got.VMM != c.want || got.Supervisor != (Process{}) || got.Phase != Running {
			t.Errorf("%s: Status() = %+v; want the VMM %+v and no supervisor", name, got, c.want)
		}
	}
	itself := start(own)
	write(confine.SupervisorUser(itself.PID), Status{Supervisor: roots})
	if got := m.Status().Supervisor; got != (Process{}) {
		t.Errorf("a supervisor whose user is another one's: %+v; want none", got)
	}
	for name, make := range map[string]func(path string) error{
		"a link": func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a file without end": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("{}"), 0o600), os.Truncate(path, 1<<40))
		},
	} {
		if err := errors.Join(os.Remove(m.File(StatusFile)), make(m.File(StatusFile))); err != nil {
			t.Fatal(err)
		}
		if got := m.Status(); got != (Status{Phase: Starting}) {
			t.Errorf("%s: Status() = %+v; want nothing", name, got)
		}
	}
}

// What a supervisor that was another user has left of transcripts becomes the machine's and
// its user's, and nothing else does.
func TestSaveTranscripts(t *testing.T) {
	dir := t.TempDir()
	p := testPlan("m")
	p.Keep = &plan.Keep{Dir: dir}
	m, lock, err := open(t).Create(p)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	kept := filepath.Join(dir, definition.TranscriptsFile)
	if err := m.SaveTranscripts(); err != nil {
		t.Errorf("SaveTranscripts() of none = %v; want nil", err)
	}
	if err := os.Symlink("/etc/passwd", m.File(TranscriptsFile)); err != nil {
		t.Fatal(err)
	}
	if err := m.SaveTranscripts(); err != nil {
		t.Errorf("SaveTranscripts() of a link = %v; want nil", err)
	}
	if _, err := os.Lstat(kept); !os.IsNotExist(err) {
		t.Errorf("of a link, %v is kept; want nothing", err)
	}
	if err := errors.Join(os.Remove(m.File(TranscriptsFile)), os.WriteFile(m.File(TranscriptsFile), []byte("said"), 0o666)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(m.File(TranscriptsFile), 1234, 1234); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.SaveTranscripts(); err != nil {
		t.Errorf("SaveTranscripts() = %v; want nil", err)
	}
	fi, err := os.Lstat(kept)
	if err != nil || fi.Mode() != 0o600 || int(fi.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		t.Errorf("the transcripts: %v, %v; want ours, mode 0600", fi, err)
	}
}
