package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/image/erofs"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// answer is what becomes of a machine's changes.
type answer string

const (
	answerNone     answer = "none" // nothing changed
	answerApply    answer = "yes"
	answerDiscard  answer = "no"
	answerKeep     answer = "keep"
	answerList     answer = "list"
	answerConflict answer = "conflict" // applied, but for conflicts
)

type reviewOptions struct {
	apply   bool
	discard bool
	keep    bool // the machine lives on in any case
	quiesce bool // end the guest's processes first, so that nothing changes meanwhile
}

// changes is what differs in a machine from the workspace that was packed.
type changes struct {
	manifest *workspace.Manifest
	image    *os.File
	base     *erofs.Image
	edits    []workspace.Edit
}

func (c *changes) close() { c.image.Close() }

// readChanges asks the guest of m for its changes, and checks them.
func readChanges(ctx context.Context, m state.Machine, quiesce bool) (_ *changes, err error) {
	p, err := m.Plan()
	if err != nil {
		return nil, err
	}
	if p.Workspace.Path == "" {
		return nil, fmt.Errorf("machine %s has no workspace", m.Name)
	}
	if !p.Workspace.Copied() {
		return nil, errLive(m.Name)
	}
	packed, list := m.WorkspaceFiles(p)
	f, err := os.Open(list)
	if err != nil {
		return nil, fmt.Errorf("read what was packed: %w", err)
	}
	defer f.Close()
	c := new(changes)
	if c.manifest, err = workspace.ReadManifest(f); err != nil {
		return nil, err
	}
	if c.image, err = os.Open(packed); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.base, err = c.manifest.OpenImage(c.image); err != nil {
		return nil, err
	}
	stream, err := control.OpenGuest(m)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	defer stop()
	c.edits, err = workspace.Diff(ctx, c.manifest, c.base, guestChanges(stream, quiesce))
	return c, err
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
		Target: string(c.Target), Opaque: c.Opaque,
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

// review lists the changes of m and applies them if that is wanted.
func (a *app) review(ctx context.Context, m state.Machine, o reviewOptions) (answer, error) {
	c, err := readChanges(ctx, m, o.quiesce)
	if err != nil {
		return "", err
	}
	defer c.close()
	shown := visible(c.edits)
	if len(shown) == 0 {
		a.debug("nothing changed in the workspace")
		return answerNone, nil
	}
	const most = 40
	a.printEdits(a.Err, shown, most)
	interactive := isTerminal(a.In) && isTerminal(a.Err)
	for !o.apply {
		switch {
		case o.discard || o.keep: // kept, the machine lives on with them
			return answerDiscard, nil
		case !interactive:
			a.note("nothing was applied; --apply does that, --keep keeps the machine")
			return answerDiscard, nil
		}
		words := []string{string(answerApply), string(answerDiscard), string(answerKeep)}
		if len(shown) > most {
			words = append(words, string(answerList))
		}
		word, err := a.ask("apply these changes?", words)
		if err != nil {
			return "", err
		}
		switch answer(word) {
		case answerApply:
			o.apply = true
		case answerList:
			a.printEdits(a.Err, shown, len(shown))
		default:
			return answer(word), nil
		}
	}
	return a.applyChanges(ctx, m, c)
}

// visible returns the edits that a person needs to see.
func visible(edits []workspace.Edit) []workspace.Edit {
	var out []workspace.Edit
	for _, e := range edits {
		if !e.Implied {
			out = append(out, e)
		}
	}
	return out
}

func (a *app) printEdits(w io.Writer, edits []workspace.Edit, most int) {
	counts := make(map[workspace.Op]int)
	for i, e := range edits {
		counts[e.Op]++
		if i < most {
			fmt.Fprintln(w, e)
		}
	}
	if len(edits) > most {
		fmt.Fprintf(w, "… and %d more\n", len(edits)-most)
	}
	var parts []string
	for _, op := range []struct {
		op   workspace.Op
		verb string
	}{{workspace.Add, "added"}, {workspace.Modify, "modified"}, {workspace.Delete, "deleted"}} {
		if n := counts[op.op]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, op.verb))
		}
	}
	a.note("%s", strings.Join(parts, ", "))
}

// applyChanges carries the edits out on the host's directory. The contents are
// fetched and checked first: then all of them are there, or none is applied.
func (a *app) applyChanges(ctx context.Context, m state.Machine, c *changes) (answer, error) {
	fetch := func(ctx context.Context, paths []string, put func(string, io.Reader) error) error {
		return client.Fetch(func() (io.ReadWriteCloser, error) { return control.OpenGuest(m) }, paths, put)
	}
	staging, err := workspace.Stage(ctx, m.File(state.StagingDir), c.edits, fetch, workspace.StageOptions{})
	if err != nil {
		return "", err
	}
	defer staging.Remove()
	result, err := workspace.Apply(ctx, workspace.Application{
		Dir: c.manifest.Root, Manifest: c.manifest, Base: c.base,
		Edits: c.edits, Staging: staging, Journal: m.File(state.JournalFile),
	})
	// Also after an error: what was done is done.
	a.note("applied %d of %d changes to %s", result.Applied, applicable(c.edits), termsafe.Quote(c.manifest.Root))
	for _, conflict := range result.Conflicts {
		a.note("not applied: %s", conflict)
	}
	switch {
	case err != nil:
		return "", err
	case len(result.Conflicts) > 0:
		return answerConflict, nil
	}
	return answerApply, nil
}

// applicable counts the edits that can be applied at all.
func applicable(edits []workspace.Edit) int {
	n := 0
	for _, e := range visible(edits) {
		if e.Skipped == "" {
			n++
		}
	}
	return n
}
