package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/state"
)

func (a *app) topCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what running machines take of this computer",
		Long: `Show what running machines take of this computer, again every two seconds until
you press ^C. Without a terminal, or with --once, it is shown once.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.top(cmd.Context(), once) },
	}
	cmd.Flags().BoolVar(&once, "once", false, "show it once")
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON, once")
	return cmd
}

// usageJSON is what a machine takes, as top --json prints it. Fields are only added.
type usageJSON struct {
	Name       string  `json:"name"`
	CPU        float64 `json:"cpu"`         // CPUs, as a mean since the last time: 1.5 for one and a half
	CPUSeconds float64 `json:"cpu_seconds"` // since the start
	Memory     int64   `json:"memory"`      // bytes
	Disk       int64   `json:"disk"`        // bytes
}

// topInterval is the time over which CPUs are measured.
const topInterval = 2 * time.Second

func (a *app) top(ctx context.Context, once bool) error {
	machines, err := a.machines()
	if err != nil {
		return err
	}
	live := isTerminal(a.Out) && !once && !a.json
	before, at := map[int]float64{}, time.Time{}
	for first := true; ; first = false {
		rows, now, err := usage(machines, before, time.Since(at))
		if err != nil {
			return err
		}
		before, at = now, time.Now()
		if first { // nothing to compare with yet
			select {
			case <-time.After(topInterval / 4):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if a.json {
			return a.printJSON(a.Out, rows)
		}
		var b strings.Builder
		if live {
			b.WriteString("\x1b[H\x1b[J")
		}
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tCPU\tTIME\tMEMORY\tDISK")
		for _, r := range rows {
			fmt.Fprintf(w, "%s\t%.0f%%\t%s\t%s\t%s\n", r.Name, r.CPU*100, time.Duration(r.CPUSeconds)*time.Second, size(r.Memory), size(r.Disk))
		}
		w.Flush()
		if _, err := a.Out.WriteString(b.String()); err != nil || !live {
			return err
		}
		select {
		case <-time.After(topInterval):
		case <-ctx.Done():
			return nil
		}
	}
}

// usage returns what the running machines take, and the CPU seconds of their processes
// by number; before are those of elapsed ago.
func usage(machines state.Store, before map[int]float64, elapsed time.Duration) ([]usageJSON, map[int]float64, error) {
	all, err := machines.List()
	if err != nil {
		return nil, nil, err
	}
	rows := []usageJSON{}
	now := make(map[int]float64)
	for _, m := range all {
		st := m.Status()
		if st.Phase != state.Running {
			continue
		}
		row := usageJSON{Name: m.Name, Disk: diskUsed(m.Dir)}
		for _, p := range []state.Process{st.VMM, st.Supervisor} {
			seconds := cpuSeconds(p.PID)
			now[p.PID] = seconds
			row.CPUSeconds += seconds
			row.Memory += residentBytes(p.PID)
			if old, ok := before[p.PID]; ok && elapsed > 0 {
				row.CPU += max(0, seconds-old) / elapsed.Seconds()
			}
		}
		rows = append(rows, row)
	}
	return rows, now, nil
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
