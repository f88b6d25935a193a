package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/review"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
	"github.com/mayfly-vm/mayfly/internal/workspace/ignored"
)

// Changes is what differs in a machine from the workspace that was packed.
type Changes struct {
	// Edits are all differences, in an order in which they can be applied. Those that the
	// host's git ignores are marked; [workspace.WithoutIgnored] leaves them out.
	Edits []workspace.Edit
	// Verdicts say what each of Edits would do to the host, after Review.
	Verdicts []review.Verdict
	// Committed is what was committed in the workspace's repositories. Git is the number of
	// changes of git's own files, which are not among Edits, but for those that a review says
	// something of.
	Committed []*Committed
	Git       int
	// Commits has Apply make branches of what was committed, and let the branches go on that
	// are checked out. Sign has it sign them as the user's git configuration says.
	Commits, Sign bool
	// Left is what of the changes was only counted; see [ChangesOptions].
	Left *workspace.Left

	all []workspace.Edit // Edits, with those that come with branches
	// gitUnknown says that it was told that git does not work in the workspace.
	gitUnknown bool
	staging    *workspace.Staging // contents of edits; nil while there are none
	machine    Machine
	manifest   *workspace.Manifest // what was packed, with what was sent since
	base       workspace.Base      // the contents of that
	copied     *copied
}

// Close gives up what is needed to apply the changes.
func (c *Changes) Close() error {
	err := c.copied.close()
	for _, r := range c.Committed {
		err = errors.Join(err, r.close())
	}
	if c.staging != nil {
		err = errors.Join(err, c.staging.Remove())
	}
	return err
}

// Root is the directory of the host that the changes would be applied to.
func (c *Changes) Root() string { return c.manifest.Root }

// CheckCopied returns an error unless the machine has a copy of a workspace.
func (m Machine) CheckCopied() error {
	switch ws := m.p.Workspace; {
	case ws.Path == "":
		return fault.New(fault.WorkspaceNone, args{"name": m.Name()}, "machine %s has no workspace", m.Name())
	case !ws.Copied():
		return fault.New(fault.WorkspaceLive, args{"name": m.Name()},
			"there is nothing to apply: the workspace of machine %s is live, and every change is in your directory already", m.Name())
	}
	return nil
}

// ChangesOptions say what is listed.
type ChangesOptions struct {
	Quiesce bool // end the guest's processes first, so that nothing changes meanwhile
	// CountIgnored has what is in new directories that the host's git ignores only counted, if
	// there are very many changes.
	CountIgnored bool
}

// Changes asks the guest for what it has changed, and checks it.
func (m Machine) Changes(ctx context.Context, o ChangesOptions) (_ *Changes, err error) {
	if err := m.CheckCopied(); err != nil {
		return nil, err
	}
	if err := m.endSync(ctx); err != nil {
		return nil, err
	}
	c := &Changes{machine: m}
	if c.copied, err = m.openCopy(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	c.manifest, c.base = c.copied.synced.Over(c.copied.manifest), c.copied.base()
	defer m.e.done()
	memory, err := m.e.reviewMemory()
	if err != nil {
		return nil, err
	}
	var counted int64
	diff := workspace.DiffOptions{Memory: memory, Count: func() int64 { return counted }}
	if o.CountIgnored {
		diff.Leave = func(ctx context.Context, dirs []string) (map[string]bool, error) {
			return ignored.Dirs(ctx, c.manifest.Root, dirs)
		}
	}
	err = m.converse(ctx, func(stream net.Conn) (err error) {
		listed := func(p wire.Progress) error {
			counted = p.Counted
			return m.listed(p, &diff)
		}
		c.Edits, c.Left, err = workspace.DiffSynced(ctx, c.copied.manifest, c.copied.packed, c.copied.synced, m.guestChanges(patient{stream, m.Name(), silence}, o.Quiesce, listed), diff)
		return err
	})
	if err != nil {
		return nil, err
	}
	placed, err := workspace.ReadPlaced(m.m.PlacedFile(m.p))
	if err != nil {
		return nil, err
	}
	listed := make(map[string]bool)
	for i := range c.Edits {
		if p := c.Edits[i].Path; placed.Has(p) {
			listed[p] = true
		}
	}
	if err := c.findCommits(ctx, c.leaveGit()); err != nil {
		return nil, err
	}
	umask, err := workspace.Umask()
	if err == nil {
		err = workspace.Compare(ctx, c.manifest.Root, c.Edits, umask)
	}
	if err == nil {
		err = c.settle(ctx, placed, listed)
	}
	if err != nil {
		return nil, err
	}
	err = ignored.Mark(ctx, c.manifest.Root, c.Edits)
	if errors.Is(err, ignored.ErrUnknown) {
		m.e.note(NoteIgnoredUnknown, args{"dir": c.manifest.Root, "reason": termsafe.Line(err.Error())})
		err = nil
	}
	c.all = c.Edits
	c.leaveToBranches()
	return c, err
}

// settle leaves what the host has already out of c.Edits; listed are the paths at which the
// guest differs from what was packed, of those at which something was placed.
func (c *Changes) settle(ctx context.Context, placed *workspace.Placed, listed map[string]bool) (err error) {
	c.Edits, err = workspace.Settle(ctx, c.manifest.Root, c.manifest, c.Edits, placed, func(p string) bool {
		return listed[p] || c.Left.Has(p) || commits.Own(p) || c.copied.synced.Find(p) != nil
	})
	return err
}

// place notes what an apply of edits puts on the host, so that the machine may change it once more.
func (c *Changes) place(edits []*workspace.Edit) error {
	name := c.machine.m.PlacedFile(c.machine.p)
	placed, err := workspace.ReadPlaced(name)
	if err != nil {
		return err
	}
	placed.Add(edits)
	return placed.Write(name)
}

// placed notes that edits were put there, but for conflicts: what the user makes of them is
// newer than what the machine has.
func (c *Changes) placed(edits []*workspace.Edit, conflicts []workspace.Conflict) error {
	name := c.machine.m.PlacedFile(c.machine.p)
	placed, err := workspace.ReadPlaced(name)
	if err != nil {
		return err
	}
	placed.Confirm(edits, conflicts)
	return placed.Write(name)
}

// listed tells how far the guest is with its list, and refuses one that will be too long.
func (m Machine) listed(p wire.Progress, o *workspace.DiffOptions) error {
	if err := o.CheckListed(p.Counted, p.Names); err != nil {
		return err
	}
	count := strconv.FormatInt(p.Counted, 10)
	if p.Listed == 0 && p.Read == 0 {
		m.e.progress(ProgressCounted, args{"name": m.Name(), "count": count})
		return nil
	}
	m.e.progress(ProgressListed, args{
		"name": m.Name(), "count": count, "listed": strconv.FormatInt(p.Listed, 10), "mib": strconv.FormatInt(p.Read>>20, 10),
	})
	return nil
}

// silence is the time that a guest may say nothing while it lists or sends changes. It
// tells of its progress much more often, on a slow host too.
const silence = 2 * time.Minute

// patient is a stream to the guest of the machine name that fails when nothing comes or
// goes for some time.
type patient struct {
	net.Conn
	name  string
	limit time.Duration
}

func (p patient) Read(b []byte) (int, error)  { return p.limited(p.Conn.Read, b) }
func (p patient) Write(b []byte) (int, error) { return p.limited(p.Conn.Write, b) }

func (p patient) limited(do func([]byte) (int, error), b []byte) (int, error) {
	if err := p.SetDeadline(time.Now().Add(p.limit)); err != nil {
		return 0, err
	}
	n, err := do(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		seconds := strconv.Itoa(int(p.limit.Seconds()))
		err = fault.New(fault.MachineSilent, args{"name": p.name, "seconds": seconds}, "machine %s has sent nothing for %v", p.name, p.limit)
	}
	return n, err
}

// ManyChanges are so many that they decide how much memory a command takes.
const ManyChanges = 20_000

// Apply carries edits, some of c.Edits, out on the host's directory, but for those that a
// review withholds. The contents are fetched and checked first: then all of them are
// there, or none is applied. The result tells what was done also when there is an error.
func (c *Changes) Apply(ctx context.Context, edits []*workspace.Edit) (workspace.Result, error) {
	if c.Verdicts == nil {
		if err := c.Review(ctx, ReviewOptions{}); err != nil {
			return workspace.Result{}, err
		}
	}
	edits = c.withoutWithheld(edits)
	if err := c.stage(ctx, edits); err != nil {
		return workspace.Result{}, err
	}
	release, err := c.machine.lockApply(ctx)
	if err != nil {
		return workspace.Result{}, err
	}
	defer release()
	if err := c.place(edits); err != nil {
		return workspace.Result{}, err
	}
	undo, err := c.undoOptions(edits)
	if err != nil {
		return workspace.Result{}, err
	}
	ended, err := c.recordMoves()
	if err != nil {
		return workspace.Result{}, err
	}
	if c.Commits {
		// First, so that they have a name whatever becomes of the files.
		if err := c.landCommits(ctx); err != nil {
			return workspace.Result{}, err
		}
	}
	res, err := workspace.Apply(ctx, workspace.Application{
		Dir: c.manifest.Root, Manifest: c.manifest, Base: c.base, Packed: c.copied.packed,
		Edits: edits, Staging: c.staging, Journal: c.machine.m.File(state.JournalFile), Undo: undo,
	})
	if c.Commits && err == nil {
		err = c.moveBranches(ctx, edits, res.Conflicts)
	}
	if err == nil {
		err = ended()
	}
	if err == nil {
		if len(edits) >= ManyChanges {
			runtime.GC() // what the apply needed makes place for the record
		}
		err = c.placed(edits, res.Conflicts)
	}
	return res, err
}

// withoutWithheld returns edits without what does not come back whatever anybody wants.
func (c *Changes) withoutWithheld(edits []*workspace.Edit) []*workspace.Edit {
	withheld := make(map[string]bool)
	for i, v := range c.Verdicts {
		if v.Withheld {
			withheld[c.Edits[i].Path] = true
		}
	}
	if len(withheld) == 0 {
		return edits
	}
	return workspace.Choose(edits, func(int) bool { return true }, func(i int) bool { return !withheld[edits[i].Path] })
}

// stage fetches the contents that edits need and that are not there yet.
func (c *Changes) stage(ctx context.Context, edits []*workspace.Edit) error {
	fetch := func(ctx context.Context, paths []string, put func(string, io.Reader) error) error {
		open := func() (io.ReadWriteCloser, error) {
			stream, err := c.machine.open(ctx)
			return patient{stream, c.machine.Name(), silence}, err
		}
		return c.machine.spoken(ctx, client.Fetch(open, paths, put))
	}
	// One at a time: the next one finds there what this one has fetched.
	release, err := c.machine.lockApply(ctx)
	if err != nil {
		return err
	}
	defer release()
	staging, err := workspace.Stage(ctx, c.machine.m.File(state.StagingDir), edits, fetch, workspace.StageOptions{})
	if err != nil {
		return err
	}
	if c.staging != nil {
		c.staging.Close()
	}
	c.staging = staging
	return nil
}

// lockApply waits for who else stages, applies or sends changes of the machine.
func (m Machine) lockApply(ctx context.Context) (release func(), err error) {
	release, err = m.m.LockApply(ctx, func(pid int) {
		m.e.step(StepAwaitApply, args{"name": m.Name(), "pid": strconv.Itoa(pid)})
	})
	m.e.done()
	return release, m.notLocked(ctx, err)
}

// notLocked is the error for err, of what tried to lock the applies of m; nil for nil.
func (m Machine) notLocked(ctx context.Context, err error) error {
	if errors.Is(err, state.ErrNotFound) {
		err = errStopped(m.Name())
	}
	return m.spoken(ctx, err)
}

// guestChanges translates the guest's words into package workspace's. listed hears how far
// it is.
func (m Machine) guestChanges(stream net.Conn, quiesce bool, listed func(wire.Progress) error) iter.Seq2[workspace.Change, error] {
	return func(yield func(workspace.Change, error) bool) {
		stopped := errors.New("stopped")
		err := client.Changes(stream, wire.Changes{Quiesce: quiesce}, listed, func(c wire.Change) error {
			if wire.IsSyncScratch(string(c.Path)) {
				return nil
			}
			if !yield(translate(c)) {
				return stopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			yield(workspace.Change{}, err)
		}
	}
}

func translate(c wire.Change) (workspace.Change, error) {
	out := workspace.Change{
		Path: string(c.Path), Mode: c.Mode, Size: c.Size, MTime: c.MTime,
		Target: string(c.Target), Opaque: c.Opaque, Redirect: string(c.Redirect),
	}
	switch c.Kind {
	case wire.KindFile:
		out.Kind = workspace.File
		out.Link, out.Attributes = string(c.Link), c.Attributes
		if len(c.Link) == 0 && (copy(out.Sum[:], c.Sum) != len(out.Sum) || len(c.Sum) != len(out.Sum)) {
			return out, fmt.Errorf("the guest sent a sum of %d bytes for %s", len(c.Sum), termsafe.Quote(out.Path))
		}
	case wire.KindDir:
		out.Kind = workspace.Dir
	case wire.KindSymlink:
		out.Kind = workspace.Symlink
	case wire.KindWhiteout:
		out.Kind = workspace.Whiteout
	default:
		out.Kind = workspace.Other
	}
	return out, nil
}
