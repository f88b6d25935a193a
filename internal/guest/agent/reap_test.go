package agent

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// killAllHelper is the first process of a process namespace: it starts some
// that resist, kills all, and prints how many are left.
func killAllHelper() {
	if os.Getpid() != 1 {
		panic("not the first process: this would kill the host's")
	}
	r := newReaper()
	for _, script := range []string{
		"trap '' HUP INT TERM; while :; do sleep 1; done",
		"setsid sh -c 'sleep 60 & sleep 60' & sleep 60",
		"true",
	} {
		attr := &syscall.ProcAttr{Env: []string{"PATH=" + defaultPath}, Files: []uintptr{0, 1, 2}}
		if _, _, err := r.start(func() (int, error) {
			return syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, attr)
		}); err != nil {
			panic(err)
		}
	}
	r.killAll()
	err := unix.Kill(-1, 0)
	fmt.Println("left:", err)
}

func TestKillAll(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{helperVariable + "=" + helperKillAll, "GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && stderr.Len() == 0 {
		t.Skipf("needs user and process namespaces: %v", err)
	}
	if want := "left: no such process\n"; string(out) != want {
		t.Errorf("killAll left %q, %v, %s; want %q", out, err, stderr.String(), want)
	}
}
