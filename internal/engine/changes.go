package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"strconv"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/image/erofs"
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

	machine  Machine
	manifest *workspace.Manifest
	image    *os.File
	base     *erofs.Image
}

// Close gives up what is needed to apply the changes.
func (c *Changes) Close() error { return c.image.Close() }

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

// Changes asks the guest for what it has changed, and checks it. With quiesce the guest's
// processes are ended first, so that nothing changes meanwhile.
func (m Machine) Changes(ctx context.Context, quiesce bool) (_ *Changes, err error) {
	if err := m.CheckCopied(); err != nil {
		return nil, err
	}
	packed, list := m.m.WorkspaceFiles(m.p)
	f, err := os.Open(list)
	if err != nil {
		return nil, fmt.Errorf("read what was packed: %w", err)
	}
	defer f.Close()
	c := &Changes{machine: m}
	if c.manifest, err = workspace.ReadManifest(f); err != nil {
		return nil, err
	}
	if c.image, err = os.Open(packed); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if c.base, err = c.manifest.OpenImage(c.image); err != nil {
		return nil, err
	}
	err = m.converse(ctx, func(stream net.Conn) (err error) {
		c.Edits, err = workspace.Diff(ctx, c.manifest, c.base, guestChanges(stream, quiesce))
		return err
	})
	if err != nil {
		return nil, err
	}
	err = ignored.Mark(ctx, c.manifest.Root, c.Edits)
	if errors.Is(err, ignored.ErrUnknown) {
		m.e.note(NoteIgnoredUnknown, args{"dir": c.manifest.Root, "reason": termsafe.Line(err.Error())})
		err = nil
	}
	return c, err
}

// Apply carries edits, some of c.Edits, out on the host's directory. The contents are
// fetched and checked first: then all of them are there, or none is applied. The result
// tells what was done also when there is an error.
func (c *Changes) Apply(ctx context.Context, edits []workspace.Edit) (workspace.Result, error) {
	fetch := func(ctx context.Context, paths []string, put func(string, io.Reader) error) error {
		open := func() (io.ReadWriteCloser, error) { return c.machine.open(ctx) }
		return c.machine.spoken(ctx, client.Fetch(open, paths, put))
	}
	release, err := c.machine.m.LockApply(ctx, func(pid int) {
		c.machine.e.step(StepAwaitApply, args{"name": c.machine.Name(), "pid": strconv.Itoa(pid)})
	})
	c.machine.e.done()
	if errors.Is(err, state.ErrNotFound) {
		err = errStopped(c.machine.Name())
	}
	if err != nil {
		return workspace.Result{}, c.machine.spoken(ctx, err)
	}
	defer release()
	staging, err := workspace.Stage(ctx, c.machine.m.File(state.StagingDir), edits, fetch, workspace.StageOptions{})
	if err != nil {
		return workspace.Result{}, err
	}
	defer staging.Remove()
	return workspace.Apply(ctx, workspace.Application{
		Dir: c.manifest.Root, Manifest: c.manifest, Base: c.base,
		Edits: edits, Staging: staging, Journal: c.machine.m.File(state.JournalFile),
	})
}

// guestChanges translates the guest's words into package workspace's.
func guestChanges(stream net.Conn, quiesce bool) iter.Seq2[workspace.Change, error] {
	return func(yield func(workspace.Change, error) bool) {
		stopped := errors.New("stopped")
		err := client.Changes(stream, wire.Changes{Quiesce: quiesce}, func(c wire.Change) error {
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
		if copy(out.SHA256[:], c.SHA256) != len(out.SHA256) || len(c.SHA256) != len(out.SHA256) {
			return out, fmt.Errorf("the guest sent a hash of %d bytes for %s", len(c.SHA256), termsafe.Quote(out.Path))
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
