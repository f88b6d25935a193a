package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
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
	s, err := m.readStatus()
	if err != nil {
		s = Status{Phase: Starting}
	}
	if !m.Alive() {
		s.Phase = Dead
	}
	return s
}

// maxStatus bounds the file of a status in bytes.
const maxStatus = 64 << 10

func (m Machine) readStatus() (s Status, err error) {
	// A supervisor that was taken over may have put anything in the place.
	f, err := os.OpenFile(m.File(StatusFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return s, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return s, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxStatus {
		return s, fmt.Errorf("%s is not the status of a machine", StatusFile)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxStatus))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return Status{}, err
	}
	s.believe(int(st.Uid))
	return s, nil
}

// believe leaves in a status that owner has written the processes that owner can say are the
// machine's. A supervisor of root's that has a user of its own may have been taken over, and
// who reads the status is root, who may kill what it names: it can name itself and its VMM.
func (s *Status) believe(owner int) {
	pid, ok := confine.SupervisorOf(owner)
	if !ok {
		return
	}
	vmm := s.VMM.PID
	s.Supervisor, s.VMM = Process{}, Process{}
	if userOf(pid) == owner {
		s.Supervisor, _ = ProcessOf(pid)
	}
	if vmm > 1 && userOf(vmm) == confine.User(pid) {
		s.VMM, _ = ProcessOf(vmm)
	}
}

// userOf returns the real user of a process, -1 if there is none.
func userOf(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return -1
	}
	// The program's name, which is before, has no line of its own: the kernel escapes that.
	_, after, _ := strings.Cut(string(data), "\nUid:\t")
	real, _, _ := strings.Cut(after, "\t")
	user, err := strconv.Atoi(real)
	if err != nil {
		return -1
	}
	return user
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
