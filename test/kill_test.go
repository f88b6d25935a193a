package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// status reads what the supervisor of h's only machine wrote down; it is empty
// until then.
func status(h *vm.Host) (name string, st state.Status) {
	names := h.Machines()
	if len(names) != 1 || strings.HasPrefix(names[0], ".") {
		return "", st
	}
	if state.ReadJSON(h.File(names[0], state.StatusFile), &st) != nil {
		return "", state.Status{}
	}
	return names[0], st
}

// kill kills one of the processes behind a machine, as nothing can prevent.
func kill(t *testing.T, victim string, c *vm.Command, st state.Status) {
	t.Helper()
	switch victim {
	case "cli":
		c.Signal(syscall.SIGKILL)
	case "supervisor":
		if !st.Supervisor.Kill() {
			t.Fatal("the supervisor is gone already")
		}
	case "vmm":
		if !st.VMM.Kill() {
			t.Fatal("the VMM is gone already")
		}
	}
}

// Whatever is killed, and whenever: mayfly says so, and after gc nothing of the
// machine is left; the directory is as it was.
func TestKill(t *testing.T) {
	vm.Lock(t)
	for _, victim := range []string{"cli", "supervisor", "vmm"} {
		for _, moment := range []string{"boot", "command"} {
			t.Run(victim+" during "+moment, func(t *testing.T) {
				h := vm.New(t)
				makeFiles(t, h.Dir, 100, "old")
				before := hashTree(t, h.Dir)
				c := h.Mayfly("run", "--cold", "--apply", "--no-detect", "--", "sh", "-c", "echo new > file00000; echo ready; sleep 1000")
				c.Start()
				var st state.Status
				if moment == "boot" {
					c.Until("the boot", func() bool {
						_, st = status(h)
						return st.VMM.PID > 0
					})
				} else {
					c.Printed("ready\n")
					_, st = status(h)
				}
				kill(t, victim, c, st)
				r := c.Wait()
				switch {
				case victim == "cli" && r.Code != 128+9:
					t.Errorf("exit code %d; want that of the kill", r.Code)
				case victim != "cli" && moment == "command" && r.Code != 125:
					t.Errorf("exit code %d; want 125\n%s", r.Code, r.Stderr)
				case victim != "cli" && r.Code == 0:
					t.Error("exit code 0 of a machine that was lost")
				case victim != "cli" && !strings.Contains(r.Stderr, "mayfly: error: "):
					t.Errorf("no error is reported: %q", r.Stderr)
				}
				h.Run(0, "gc")
				if d := cmp.Diff(before, hashTree(t, h.Dir)); d != "" {
					t.Errorf("the directory changed (-before +after):\n%s", d)
				}
			})
		}
	}
}

// Whatever is killed while a template is made, saved or restored: the next start
// works, nothing wrong is restored, and gc leaves nothing. A VMM alone can be done
// without: the machine boots.
func TestKillTemplate(t *testing.T) {
	vm.Lock(t)
	for _, moment := range []string{"boot a template", "prewarm", "save", "restore"} {
		for _, victim := range []string{"cli", "supervisor", "vmm"} {
			t.Run(victim+" during "+moment, func(t *testing.T) {
				h := vm.New(t)
				dir := h.OwnCache()
				if moment == "restore" {
					explained(t, h, forIt)
				}
				events := &eventFile{path: filepath.Join(t.TempDir(), "stderr")}
				c := h.Mayfly("run", "-v", "--discard", "--no-detect", "--explain", "--", "sh", "-c", "sleep 1; echo done")
				c.Stderr = events.create(t)
				c.Start()
				var st state.Status
				c.Until(moment, func() bool {
					_, st = status(h)
					return st.VMM.PID > 0 && events.has("mayfly: "+moment+"\n")
				})
				kill(t, victim, c, st)
				r := c.Wait()
				r.Stderr = events.text()
				switch {
				case victim == "vmm" && moment == "restore" && r.Code == 125:
					t.Log("the machine was up before it was hit") // with KVM it takes a moment only
				case victim == "vmm":
					if r.Code != 0 || r.Stdout != "done\n" || strings.Count(r.Stderr, "mayfly: booting, since") != 1 {
						t.Errorf("exit code %d, output %q; want 0, done and one warning:\n%s", r.Code, r.Stdout, r.Stderr)
					}
					wantStart(t, r, byBooting)
				case r.Code == 0:
					t.Error("exit code 0 of a machine that was lost")
				}
				h.Run(0, "gc")
				// A supervisor whose owner was killed lets go of its template when it sees that.
				for deadline := time.Now().Add(vm.Timeout); victim == "cli"; time.Sleep(20 * time.Millisecond) {
					left, err := filepath.Glob(filepath.Join(dir, ".new-*"))
					if err != nil || len(left) == 0 || time.Now().After(deadline) {
						break
					}
					h.Run(0, "gc")
				}
				wantFiles(t, dir, append(templates(t, dir), "lock"))
				made := explained(t, h, "")
				explained(t, h, fromTemplate)
				if t.Failed() {
					t.Logf("the machine after the kill:\n%s", made.Stderr)
				}
			})
		}
	}
}

// eventFile is a file that mayfly's standard error goes to, to be read meanwhile.
type eventFile struct{ path string }

func (f *eventFile) create(t *testing.T) *os.File {
	t.Helper()
	file, err := os.Create(f.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func (f *eventFile) text() string {
	data, _ := os.ReadFile(f.path)
	return string(data)
}

func (f *eventFile) has(text string) bool { return strings.Contains(f.text(), text) }

// makeFiles makes n files, all with the same content.
func makeFiles(t *testing.T, dir string, n int, content string) {
	t.Helper()
	for i := range n {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("file%05d", i)), content)
	}
}

// Killed while changes are applied, each file is old or new as a whole, and no
// other file appears.
func TestKillDuringApply(t *testing.T) {
	vm.Lock(t)
	const files = 4000
	oldText, newText := strings.Repeat("old\n", 300), strings.Repeat("new!\n", 400)
	for _, victim := range []string{"cli", "supervisor", "vmm"} {
		t.Run(victim, func(t *testing.T) {
			h := vm.New(t)
			makeFiles(t, h.Dir, files, oldText)
			c := h.Mayfly("run", "--apply", "--no-detect", "--", "sh", "-c",
				fmt.Sprintf(`mkdir dir; awk 'BEGIN {
					for (i = 0; i < %d; i++) write(sprintf("file%%05d", i))
					for (i = 0; i < 100; i++) write("dir/" i)
				}
				function write(name) { for (j = 0; j < 400; j++) print "new!" > name; close(name) }'`, files))
			c.Start()
			var st state.Status
			c.Until("the apply", func() bool {
				var name string
				if name, st = status(h); name == "" {
					return false
				}
				if victim == "cli" {
					// In the middle of what it does alone.
					fi, err := os.Stat(filepath.Join(h.Dir, "file00010"))
					return err == nil && fi.Size() == int64(len(newText))
				}
				// Contents still come from the machine.
				_, err := os.Stat(h.File(name, state.StagingDir))
				return err == nil
			})
			kill(t, victim, c, st)
			r := c.Wait()
			if r.Code == 0 {
				t.Logf("%s was killed too late to be noticed", victim)
			}
			h.Run(0, "gc")

			var oldFiles, newFiles, others int
			entries, err := os.ReadDir(h.Dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Name() == "dir" {
					continue
				}
				switch text := readFile(t, filepath.Join(h.Dir, e.Name())); {
				case !strings.HasPrefix(e.Name(), "file"):
					t.Errorf("left over: %s", e.Name())
				case text == oldText:
					oldFiles++
				case text == newText:
					newFiles++
				default:
					others++
				}
			}
			t.Logf("exit code %d; %d files are old, %d new", r.Code, oldFiles, newFiles)
			if others != 0 || oldFiles+newFiles != files {
				t.Errorf("%d files are old, %d new and %d something else; want %d old or new", oldFiles, newFiles, others, files)
			}
			if victim == "cli" && newFiles == 0 {
				t.Error("no file is new, though one was")
			}
			if victim != "cli" && r.Code != 0 && newFiles != 0 {
				t.Errorf("%d files are new, though not all contents had come", newFiles)
			}
			made, err := os.ReadDir(filepath.Join(h.Dir, "dir"))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			for _, e := range made {
				if text := readFile(t, filepath.Join(h.Dir, "dir", e.Name())); text != newText {
					t.Errorf("dir/%s holds %d bytes; want the new content or no file", e.Name(), len(text))
				}
			}
		})
	}
}

// A signal while the machine boots ends it all at once.
func TestInterruptBoot(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	c := h.Mayfly("run", "--no-detect", "--", "true")
	c.Start()
	c.Until("the boot", func() bool {
		_, st := status(h)
		return st.VMM.PID > 0
	})
	c.Signal(os.Interrupt)
	if r := c.Wait(); r.Code != 130 || !strings.Contains(r.Stderr, "interrupted") {
		t.Errorf("exit code %d, stderr %q; want 130, interrupted", r.Code, r.Stderr)
	}
	if left := h.Lasting(); left != "" {
		t.Errorf("left after the interrupt:\n%s", left)
	}
}
