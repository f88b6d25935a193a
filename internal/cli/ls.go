package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func (a *app) lsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List machines",
		Long: `List machines: those with names of their own, and those that mayfly run made.

The image of a machine is current; or stale, when it runs with another one than
it would be started with now (mayfly restart); or outdated, when the one that it
would be started with is not built (mayfly check builds it).`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.ls(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// stateStopped is the state of a machine that is defined and does not run.
const stateStopped = "stopped"

// machineJSON is a machine as ls --json prints it. Fields are only added.
type machineJSON struct {
	Name      string    `json:"name"`
	State     string    `json:"state"` // stopped, starting, running or dead
	Started   time.Time `json:"started"`
	Kept      bool      `json:"kept"`
	Workspace string    `json:"workspace"`
	VCPUs     int       `json:"vcpus"`
	MemoryMiB int       `json:"memory_mib"`

	Defined bool   `json:"defined"`           // has a file of its own
	File    string `json:"file,omitempty"`    // that file
	Network string `json:"network"`           // none, user or bridge
	Address string `json:"address,omitempty"` // on a bridge
	Image   string `json:"image"`             // current, stale, outdated; empty for a machine of mayfly run
	Changed bool   `json:"changed"`           // the file was changed since the machine was started
	// Sessions are the programs that go on without a terminal, agents above all.
	Sessions []sessionJSON `json:"sessions,omitempty"`
	// MemoryUsed and DiskUsed are in bytes, of this computer's.
	MemoryUsed int64  `json:"memory_used"`
	DiskUsed   int64  `json:"disk_used"`
	Next       string `json:"next,omitempty"`  // the command that puts right what is not as it should be
	Error      string `json:"error,omitempty"` // what is wrong with the file
}

// sessionJSON is a program in a machine that goes on without a terminal. What it says of
// itself is the guest's word.
type sessionJSON struct {
	Name    string `json:"name"`
	Viewers int    `json:"viewers"`
	Waiting bool   `json:"waiting"`       // it seems to wait for an answer
	Why     string `json:"why,omitempty"` // how that is known: notice, bell or quiet
	Exited  bool   `json:"exited"`
	Code    int    `json:"code"`
	Title   string `json:"title,omitempty"`
}

func (s sessionJSON) String() string {
	switch {
	case s.Exited:
		return fmt.Sprintf("%s (ended, %d)", s.Name, s.Code)
	case s.Waiting:
		return s.Name + " (waits)"
	}
	return s.Name
}

func (a *app) ls(ctx context.Context) error {
	rows, err := a.rows(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(a.Out, rows)
	}
	if len(rows) == 0 {
		a.note("no machines; mayfly run or mayfly new makes one")
		return nil
	}
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tAGE\tIMAGE\tADDRESS\tMEMORY\tDISK\tAGENTS\tWORKSPACE")
	for _, r := range rows {
		age := "-"
		if !r.Started.IsZero() && r.State != stateStopped {
			age = time.Since(r.Started).Round(time.Second).String()
		}
		var sessions []string
		for _, s := range r.Sessions {
			sessions = append(sessions, s.String())
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.State, age, dash(r.Image), dash(r.Address),
			size(r.MemoryUsed), size(r.DiskUsed), dash(strings.Join(sessions, ", ")), dash(quotedPath(r.Workspace)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var next []string
	for _, r := range rows {
		if r.Error != "" {
			a.note("%s: %s", r.Name, r.Error)
		}
		if r.Next != "" && !slices.Contains(next, r.Next) {
			next = append(next, r.Next)
		}
	}
	for _, command := range next {
		a.note("hint: %s", command)
	}
	return nil
}

// quotedPath is a path as it can be printed, "" for none.
func quotedPath(path string) string {
	if path == "" {
		return ""
	}
	return termsafe.Quote(path)
}

// size prints a number of bytes for people.
func size(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}

// rows returns all machines, sorted by name.
func (a *app) rows(ctx context.Context) ([]machineJSON, error) {
	machines, err := a.machines()
	if err != nil {
		return nil, err
	}
	running, err := machines.List()
	if err != nil {
		return nil, err
	}
	store, err := a.definitions()
	if err != nil {
		return nil, err
	}
	defined, err := store.List()
	if err != nil {
		return nil, err
	}
	rows := make([]machineJSON, 0, len(running)+len(defined))
	byName := make(map[string]int)
	for _, m := range running {
		byName[m.Name] = len(rows)
		rows = append(rows, runRow(m))
	}
	sessions := make([][]sessionJSON, len(running))
	var asked sync.WaitGroup
	for i, m := range running {
		if rows[i].State == string(state.Running) {
			asked.Go(func() { sessions[i] = glance(ctx, m) })
		}
	}
	look := a.newLook(ctx)
	for _, d := range defined {
		i, ok := byName[d.Name]
		if !ok {
			i = len(rows)
			rows = append(rows, machineJSON{Name: d.Name, State: stateStopped})
		}
		look.define(&rows[i], d, machines.At(d.Name))
	}
	asked.Wait()
	for i := range running {
		rows[i].Sessions = sessions[i]
	}
	slices.SortFunc(rows, func(x, y machineJSON) int { return cmp.Compare(x.Name, y.Name) })
	return rows, nil
}

// glance lists the sessions of a machine that answers at once.
func glance(ctx context.Context, m state.Machine) []sessionJSON {
	sessions, err := guestSessions(ctx, m, glanceTimeout)
	if err != nil {
		return nil // it is busy, or lies
	}
	var list []sessionJSON
	for _, s := range sessions {
		list = append(list, sessionJSON{
			Name: s.Name, Viewers: s.Viewers, Waiting: s.Waiting, Why: string(s.Why), Exited: s.Exited, Code: s.Code,
			Title: termsafe.Line(s.Title),
		})
	}
	return list
}

// runRow is the row of a machine that runs, or has left its directory.
func runRow(m state.Machine) machineJSON {
	st := m.Status()
	row := machineJSON{Name: m.Name, State: string(st.Phase), Started: st.Started, Kept: st.Kept}
	if p, err := m.Plan(); err == nil {
		row.Workspace, row.VCPUs, row.MemoryMiB = p.Workspace.Path, p.Machine.VCPUs, p.Machine.MemoryMiB
		row.Network, row.Address = p.Network.Mode, p.Network.Address
	}
	row.DiskUsed = diskUsed(m.Dir)
	if st.Phase == state.Dead {
		row.Next = "mayfly gc removes dead machines"
	} else {
		row.MemoryUsed = residentBytes(st.VMM.PID)
	}
	return row
}

// look is what listing machines needs to know once.
type look struct {
	a       *app
	user    config.Sources
	userErr error
	facts   host.Facts
	err     error
	store   *image.Store
	found   []found
}

func (a *app) newLook(ctx context.Context) *look {
	l := &look{a: a}
	l.user, l.userErr = a.userSources()
	if l.facts, l.err = a.facts(ctx, false); l.err == nil {
		l.store, l.err = a.images()
	}
	return l
}

// define adds to a row what the definition says.
func (l *look) define(row *machineJSON, d definition.Definition, m state.Machine) {
	row.Defined, row.File = true, d.Path
	if fi, err := os.Stat(d.Path); err == nil && row.State == string(state.Running) && fi.ModTime().After(row.Started) {
		row.Changed, row.Next = true, "mayfly restart "+d.Name+" uses its file as it is now"
	}
	row.DiskUsed += diskUsed(d.Dir)
	if row.State == string(state.Dead) {
		row.Next = fmt.Sprintf("mayfly logs %s, or mayfly start %s", d.Name, d.Name)
	}
	cfg, err := l.load(d)
	if err != nil {
		row.Error, row.Next = err.Error(), "mayfly edit "+d.Name
		return
	}
	if row.State == stateStopped {
		row.Network, row.Address = cfg.Network.Mode, cfg.Network.Address
		if cfg.Workspace.Path != "" {
			row.Workspace = plan.WorkspacePath(cfg, l.a.getenv("HOME"), "")
		}
	}
	if l.err != nil {
		return
	}
	p, err := outline(cfg, l.facts, d)
	if err != nil {
		row.Error = err.Error()
		return
	}
	if row.State == stateStopped {
		row.VCPUs, row.MemoryMiB = p.Machine.VCPUs, p.Machine.MemoryMiB
	}
	row.Image = l.imageState(p, m)
	if row.Next == "" {
		row.Next = nextForImage(row.Image, d.Name)
	}
}

// load is loadNamed, with the user's configuration read once.
func (l *look) load(d definition.Definition) (config.Config, error) {
	file, err := config.ReadFile(d.Path)
	if err != nil {
		return config.Config{}, err
	}
	if l.userErr != nil {
		return config.Config{}, l.userErr
	}
	return mergeFile(l.user, file)
}

// lookup is the store's Lookup. Machines share images, and each has dozens of files to
// check.
func (l *look) lookup(pi plan.Image) (image.Image, error) {
	same := func(f found) bool { return f.plan.Equal(pi) }
	if i := slices.IndexFunc(l.found, same); i >= 0 {
		return l.found[i].image, l.found[i].err
	}
	f := found{plan: pi}
	f.image, f.err = l.store.Lookup(pi)
	l.found = append(l.found, f)
	return f.image, f.err
}

// found is what looking for an image has given.
type found struct {
	plan  plan.Image
	image image.Image
	err   error
}

// The states of a machine's image, as microvm -l of microvm.nix has them.
const (
	imageCurrent  = "current"
	imageStale    = "stale"
	imageOutdated = "outdated"
)

func nextForImage(state, name string) string {
	switch state {
	case imageStale:
		return "mayfly restart " + name
	case imageOutdated:
		return "mayfly check " + name
	}
	return ""
}

func (l *look) imageState(p plan.Plan, m state.Machine) string {
	next, err := l.lookup(p.Image)
	if err != nil {
		return imageOutdated
	}
	var now image.Image
	if m.Alive() && state.ReadJSON(m.File(state.ImageFile), &now) == nil && !slices.Equal(now.Files(), next.Files()) {
		return imageStale
	}
	return imageCurrent
}

// diskUsed returns the bytes that the files below dir take. Of a machine's directory
// there are few.
func diskUsed(dir string) int64 {
	var total int64
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			continue
		}
		if fi.IsDir() {
			total += diskUsed(filepath.Join(dir, e.Name()))
		} else if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			total += st.Blocks * 512
		}
	}
	return total
}

// residentBytes returns the memory that a process has of its own in bytes, 0 if that is
// not known: what a machine shares with its template is nobody's.
func residentBytes(pid int) int64 {
	if pid <= 0 {
		return 0
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

// completeMachines completes the names of machines that run, or have left something.
func (a *app) completeMachines(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	machines, err := a.machines()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := machines.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, m := range all {
		names = append(names, m.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeAll completes the names of all machines.
func (a *app) completeAll(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	names, _ := a.completeMachines(cmd, nil, prefix)
	defined, _ := a.completeNamed(cmd, args, prefix)
	names = append(names, defined...)
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}
