package state

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// Phase is how far a machine has come.
type Phase string

// The phases. A machine whose lock nobody holds is Dead, whatever its file
// says.
const (
	Starting Phase = "starting"
	Running  Phase = "running"
	Stopping Phase = "stopping"
	Dead     Phase = "dead"
)

// Status is what the supervisor writes down about its machine.
type Status struct {
	Phase      Phase     `json:"phase"`
	Started    time.Time `json:"started"`
	Supervisor Process   `json:"supervisor"`
	VMM        Process   `json:"vmm"`
	Kept       bool      `json:"kept"` // outlives the command that made it
	// Reason says how a machine ended by itself, and Code what kind of failure that is.
	Reason string     `json:"reason,omitempty"`
	Code   fault.Code `json:"code,omitempty"`
}

// Process is one process of this boot of the host. A number alone may have
// become another process's.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // starttime of proc_pid_stat(5), clock ticks since boot
}

// Status reads the machine's status. It never fails: a machine without a
// readable one is starting, or dead.
func (m Machine) Status() Status {
	var s Status
	if err := ReadJSON(m.File(StatusFile), &s); err != nil {
		s = Status{Phase: Starting}
	}
	if !m.Alive() {
		s.Phase = Dead
	}
	return s
}

// ProcessOf returns the process pid as it is now.
func ProcessOf(pid int) (Process, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, err
	}
	// The program's name, in parentheses, may hold anything.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	const starttime = 22 - 3 // the first of fields is number 3
	if len(fields) <= starttime {
		return Process{}, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	start, err := strconv.ParseUint(string(fields[starttime]), 10, 64)
	return Process{pid, start}, err
}

// Kill kills the process if it is still the same. It reports whether it was.
func (p Process) Kill() bool {
	if p.PID <= 1 {
		return false
	}
	// The handle is made first: what it stands for cannot change.
	proc, err := os.FindProcess(p.PID)
	if err != nil {
		return false
	}
	defer proc.Release()
	if now, err := ProcessOf(p.PID); err != nil || now != p {
		return false
	}
	return proc.Kill() == nil
}
