package state

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
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
