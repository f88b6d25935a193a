package engine

import (
	"context"
	"errors"
	"net"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Sync sends into a machine what the user has changed in the directory of its workspace.
type Sync struct {
	machine Machine
	checked map[string]workspace.Identity // see workspace.Outgoing
	given   string                        // the state of the repository whose commits the machine has, or does not take
}

// SyncOptions say what is sent, and how.
type SyncOptions struct {
	DryRun bool     // only find out what would be sent
	Merge  bool     // texts that both sides changed
	At     []string // only what is at these paths or below; none is everything
}

// SyncResult is what became of it.
type SyncResult struct {
	Sent      []Synced
	Given     []commits.Given // branches of which the machine has newer commits now
	Merged    []Merged
	Conflicts []workspace.Conflict
	Notes     []workspace.Note
	MoreNotes int // that are not among Notes
}

// Synced is a path that is in the machine as it is on the host now.
type Synced struct {
	Op   workspace.Op
	Path string
	Dir  bool
}

// Merged is a text in the machine that has the changes of both sides now.
type Merged struct {
	Path      string
	Conflicts int // places where both changed the same, with both in the text
}

// NewSync returns a Sync of the machine, which has a copy of a workspace.
func (m Machine) NewSync() (*Sync, error) {
	if ws := m.p.Workspace; ws.Path != "" && !ws.Copied() {
		return nil, fault.New(fault.SyncLive, args{"name": m.Name()},
			"there is nothing to send: the workspace of machine %s is live, and it has what you change at once", m.Name())
	}
	if err := m.CheckCopied(); err != nil {
		return nil, err
	}
	return &Sync{machine: m, checked: make(map[string]workspace.Identity)}, nil
}

// Root is the directory of the host.
func (s *Sync) Root() string { return s.machine.p.Workspace.Path }

// maxSyncNotes is how many notes are kept.
const maxSyncNotes = 8

// Run sends what differs now. What was changed in the machine is a conflict and stays as it
// is there. The result tells what was done also when there is an error.
//
// Behind the files it sends commits.
func (s *Sync) Run(ctx context.Context, o SyncOptions) (res SyncResult, err error) {
	m := s.machine
	release, err := m.lockApply(ctx)
	if err != nil {
		return res, err
	}
	defer release()
	c, err := m.openCopy()
	if err != nil {
		return res, err
	}
	defer c.close()
	if err := c.resume(ctx, m); err != nil {
		return res, err
	}
	if err := s.files(ctx, o, c, &res); err != nil {
		return res, err
	}
	given, note, err := s.give(ctx, c, o.DryRun)
	if note != nil {
		res.Notes = append(res.Notes, *note)
	}
	res.Given = given
	return res, err
}

// files sends files, and what is one of the directory's besides.
func (s *Sync) files(ctx context.Context, o SyncOptions, c *copied, res *SyncResult) error {
	m := s.machine
	placed, err := workspace.ReadPlaced(m.m.PlacedFile(m.p))
	if err != nil {
		return err
	}
	out := workspace.Outgoing{
		Manifest: c.manifest, Packed: c.packed, Synced: c.synced, Placed: placed, Store: c.store,
		Exclude: m.p.Workspace.Exclude, Skip: commits.Own, At: o.At, Checked: s.checked,
		Warn: func(n workspace.Note) {
			if len(res.Notes) == maxSyncNotes {
				res.MoreNotes++
				return
			}
			res.Notes = append(res.Notes, n)
		},
	}
	items, err := out.Find(ctx)
	if err != nil || len(items) == 0 {
		return errors.Join(err, c.sweep())
	}
	r := &syncRun{m: m, copied: c, dry: o.DryRun, made: make(map[string]bool), merging: make(map[string]int), result: res}
	err = r.send(ctx, items)
	if err == nil && o.Merge && !o.DryRun {
		err = r.merge(ctx)
	}
	for _, item := range r.refused {
		res.Conflicts = append(res.Conflicts, workspace.Conflict{Path: item.Path, Why: item.why})
	}
	if len(r.done) > 0 && !o.DryRun {
		err = errors.Join(err, c.book(m, r.done))
	}
	if err == nil {
		err = c.end()
	}
	return errors.Join(err, c.sweep())
}

// Watch sends what differs, at once and whenever something changes, until ctx or the machine
// ends, which is no error; it reports which. each hears what became of each batch in which
// something was done, or is a conflict that it has not heard of.
func (s *Sync) Watch(ctx context.Context, o SyncOptions, each func(SyncResult) error) (machineEnded bool, err error) {
	m := s.machine
	watching, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	at := m.attend(ctx)
	defer at.end()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-at.done:
			cancel(errStopped(m.Name()))
		case <-watching.Done():
		}
	}()
	told := make(map[string]string) // conflicts, and the reasons
	news := func(c workspace.Conflict) bool {
		known := told[c.Path] == c.Why
		told[c.Path] = c.Why
		return !known
	}
	err = workspace.Watch(watching, s.Root(), workspace.WatchOptions{
		Exclude: m.p.Workspace.Exclude, Skip: commits.Own,
		Polls: func(reason error) {
			m.e.note(NoteSyncPolls, args{"dir": s.Root(), "reason": termsafe.Line(reason.Error())})
		},
	}, func(paths []string) error {
		o.At = paths
		res, err := s.Run(watching, o)
		if fault.CodeOf(err) == fault.SyncEmpty {
			res.Notes, err = append(res.Notes, workspace.Note{Text: err.Error()}), nil
		}
		for _, sent := range res.Sent {
			delete(told, sent.Path)
		}
		res.Conflicts = slices.DeleteFunc(res.Conflicts, func(c workspace.Conflict) bool { return !news(c) })
		res.Notes = slices.DeleteFunc(res.Notes, func(n workspace.Note) bool { return !news(workspace.Conflict{Path: n.Path, Why: n.Text}) })
		res.Given = slices.DeleteFunc(res.Given, func(g commits.Given) bool { return g.Count == 0 })
		if len(res.Sent)+len(res.Given)+len(res.Merged)+len(res.Conflicts)+len(res.Notes) > 0 {
			err = errors.Join(err, each(res))
		}
		return err
	})
	cancel(nil)
	<-ended
	switch {
	case ctx.Err() != nil:
		return false, nil // asked for
	case err == nil || fault.CodeOf(err) == fault.MachineLost || fault.CodeOf(context.Cause(watching)) == fault.MachineLost:
		return true, nil
	}
	return false, at.explain(err)
}

// syncRun is one run of a Sync.
type syncRun struct {
	m       Machine
	copied  *copied
	dry     bool
	done    []workspace.Sent
	refused []refusedItem
	made    map[string]bool // directories that were made
	merging map[string]int  // texts that are being sent merged, and the conflicts in them
	result  *SyncResult
}

// refusedItem is an item that is a conflict.
type refusedItem struct {
	workspace.Item
	now wire.SyncState // what the guest says that it has
	why string
}

// send sends items and sorts the answers.
func (r *syncRun) send(ctx context.Context, items []workspace.Item) error {
	if !r.dry {
		if err := r.copied.begin(items); err != nil {
			return err
		}
	}
	list := make([]client.Outgoing, len(items))
	for i := range items {
		it := &items[i]
		list[i].Item = wire.SyncItem{Path: []byte(it.Path), New: wireState(&it.New), Check: r.dry}
		for j := range it.Old {
			list[i].Item.Old = append(list[i].Item.Old, wireState(&it.Old[j]))
		}
		list[i].Open = func() (*os.File, error) { return r.copied.store.Open(it) }
	}
	req := wire.Sync{Dir: r.m.p.Workspace.Path, Durable: r.m.p.Keep != nil}
	noted := len(r.done)
	err := r.m.converse(ctx, func(stream net.Conn) error {
		return commandError(client.Sync(ctx, patient{stream, r.m.Name(), silence}, req, list, func(i int, a wire.SyncAnswer) error {
			r.answered(&items[i], a)
			return nil
		}))
	})
	if err != nil && req.Durable {
		// It may not be on the guest's disk, and a crash of the machine would seem to take
		// the user's edits back. The next sync finds what is there.
		r.done = r.done[:noted]
	}
	return err
}

// answered books what the guest says of one item. It is believed about itself only: that it
// has what it was sent.
func (r *syncRun) answered(it *workspace.Item, a wire.SyncAnswer) {
	if conflicts, ok := r.merging[it.Path]; ok && (a.Result == wire.SyncDone || a.Result == wire.SyncSame) {
		r.done = append(r.done, it.Sent)
		r.result.Merged = append(r.result.Merged, Merged{it.Path, conflicts})
		return
	}
	switch a.Result {
	case wire.SyncConflict:
		if r.dry && r.made[it.Path] {
			return // the mode of a directory that would be there by then
		}
		if r.dry && a.Now.Kind == "" && r.made[path.Dir(it.Path)] {
			r.sent(it, workspace.Add) // in a directory that would be there by then
			return
		}
		if it.New.Kind == workspace.None && it.Old[0].Kind == workspace.None {
			return // what was applied and removed since: the machine has another now, which is its own
		}
		r.refused = append(r.refused, refusedItem{*it, a.Now, conflictReason(it, a)})
	case wire.SyncSame:
		r.done = append(r.done, it.Sent)
	case wire.SyncDone:
		r.done = append(r.done, it.Sent)
		switch {
		case it.New.Kind == workspace.None:
			r.sent(it, workspace.Delete)
		case it.Old[0].Kind == workspace.None:
			r.sent(it, workspace.Add)
		case !r.made[it.Path]: // else it is the mode of a directory that was made just now
			r.sent(it, workspace.Modify)
		}
	case wire.SyncFailed:
		text := termsafe.Line(a.Error)
		text = strings.ToValidUTF8(text[:min(len(text), 200)], "")
		r.refused = append(r.refused, refusedItem{*it, a.Now, "the machine refuses it: " + text})
	}
}

// sent notes that the machine has an item now.
func (r *syncRun) sent(it *workspace.Item, op workspace.Op) {
	if it.New.Kind == workspace.Dir {
		r.made[it.Path] = true
	}
	dir := it.New.Kind == workspace.Dir || op == workspace.Delete && it.Old[0].Kind == workspace.Dir
	r.result.Sent = append(r.result.Sent, Synced{op, it.Path, dir})
}

func conflictReason(it *workspace.Item, a wire.SyncAnswer) string {
	switch now, old := a.Now.Kind, it.Old[0].Kind; {
	case a.Full:
		return "the directory still holds files in the machine"
	case now == "" && old == workspace.None:
		return "the directory that it belongs in is not there in the machine"
	case now == "":
		return "deleted in the machine"
	case old == workspace.None:
		return "something else of that name was made in the machine"
	case it.New.Kind == workspace.None:
		return "changed in the machine, and deleted here"
	}
	return "changed in the machine, too"
}

func wireState(s *workspace.State) wire.SyncState {
	out := wire.SyncState{Mode: s.Mode, Size: s.Size, AnyMode: s.AnyMode}
	switch s.Kind {
	case workspace.File:
		out.Kind, out.Sum = wire.KindFile, append([]byte{}, s.Sum[:]...)
	case workspace.Dir:
		out.Kind = wire.KindDir
	case workspace.Symlink:
		out.Kind, out.Target = wire.KindSymlink, []byte(s.Target)
	}
	return out
}

// takenBack has a later sync take nothing in the machine name for applied, since it was
// taken back here.
func (e *Engine) takenBack(name string) error {
	for _, path := range []string{e.machines().At(name).File(state.PlacedFile), e.definitions().At(name).File(definition.PlacedFile)} {
		placed, err := workspace.ReadPlaced(path)
		if err == nil && placed.TakeBack() {
			err = placed.Write(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
