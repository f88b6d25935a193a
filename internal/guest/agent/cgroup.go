package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is a control group of version 2, admin-guide/cgroup-v2.rst in the kernel's
// documentation.
type cgroup struct {
	dir string
	f   *os.File // the directory; nil for one that starts nothing
}

// makeCgroup makes a group for programs to start in.
func makeCgroup(dir string) (cgroup, error) {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return cgroup{}, err
	}
	f, err := os.Open(dir)
	return cgroup{dir, f}, err
}

// adopt makes a process that is started with attr begin in c.
func (c cgroup) adopt(attr *syscall.SysProcAttr) {
	attr.UseCgroupFD, attr.CgroupFD = true, int(c.f.Fd())
}

// below reports whether c is dir or in it.
func (c cgroup) below(dir string) bool { return strings.HasPrefix(c.dir+"/", dir+"/") }

func (c cgroup) write(name, value string) error {
	return os.WriteFile(filepath.Join(c.dir, name), []byte(value), 0)
}

// freeze stops everything in c, or lets it go on.
func (c cgroup) freeze(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	if err := c.write("cgroup.freeze", value); err != nil {
		return err
	}
	if on {
		c.wait("frozen 1")
	}
	return nil
}

// kill kills everything in c.
func (c cgroup) kill() error {
	if err := c.write("cgroup.kill", "1"); err != nil {
		return err
	}
	c.wait("populated 0")
	return nil
}

// wait waits until there is that line in cgroup.events, and not for long: a process
// that hangs in the kernel neither stops nor ends.
func (c cgroup) wait(event string) {
	for deadline := time.Now().Add(killTimeout); !c.event(event) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
}

func (c cgroup) event(line string) bool {
	data, err := os.ReadFile(filepath.Join(c.dir, "cgroup.events"))
	return err != nil || strings.Contains("\n"+string(data), "\n"+line+"\n")
}

// populated reports whether a process is in c.
func (c cgroup) populated() bool { return !c.event("populated 0") }

// signal sends a signal to every process in c.
func (c cgroup) signal(sig unix.Signal) {
	filepath.WalkDir(c.dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return nil // a group may go meanwhile
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil
		}
		for word := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
				unix.Kill(pid, sig)
			}
		}
		return nil
	})
}
