package engine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/state"
)

// Usage is what a running machine takes of the host.
type Usage struct {
	Name       string
	CPU        float64 // CPUs, as a mean since the measurement before: 1.5 for one and a half
	CPUSeconds float64 // since the start
	Memory     int64   // bytes
	Disk       int64   // bytes
	DiskBound  int64   // of what its guest can write to its own disk, bytes
}

// Meter measures what running machines take.
type Meter struct {
	e       *Engine
	at      time.Time
	seconds map[int]float64 // CPU time at that time, by process
}

// NewMeter returns a meter that has measured once.
func (e *Engine) NewMeter() (*Meter, error) {
	m := &Meter{e: e}
	_, err := m.Read()
	return m, err
}

// Read returns what running machines take, with CPUs as a mean since the last time.
func (m *Meter) Read() ([]Usage, error) {
	machines := m.e.machines()
	all, err := machines.List()
	if err != nil {
		return nil, err
	}
	elapsed := time.Since(m.at)
	rows := []Usage{}
	now := make(map[int]float64)
	for _, machine := range all {
		st := machine.Status()
		if st.Phase != state.Running {
			continue
		}
		row := Usage{Name: machine.Name, Disk: diskUsed(machine.Dir), DiskBound: diskBound(machine)}
		for _, p := range []state.Process{st.VMM, st.Supervisor} {
			seconds := cpuSeconds(p.PID)
			now[p.PID] = seconds
			row.CPUSeconds += seconds
			row.Memory += residentBytes(p.PID)
			if old, ok := m.seconds[p.PID]; ok && elapsed > 0 {
				row.CPU += max(0, seconds-old) / elapsed.Seconds()
			}
		}
		rows = append(rows, row)
	}
	m.seconds, m.at = now, time.Now()
	return rows, nil
}

// ticks is USER_HZ, in which proc_pid_stat(5) counts on all architectures of Linux.
const ticks = 100

// cpuSeconds returns the CPU time of a process, 0 if that is not known.
func cpuSeconds(pid int) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	const utime, stime = 14 - 3, 15 - 3 // the first of fields is number 3
	if len(fields) <= stime {
		return 0
	}
	u, _ := strconv.ParseFloat(fields[utime], 64)
	s, _ := strconv.ParseFloat(fields[stime], 64)
	return (u + s) / ticks
}
