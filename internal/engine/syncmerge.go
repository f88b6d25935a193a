package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/linediff"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Bounds of what is merged.
const (
	mostMergeBytes = 1 << 20 // of each of the three texts
	mostMerged     = 1000    // files
)

// mergeNames are how the lines of a conflict are marked.
var mergeNames = linediff.Labels{Ours: "machine", Base: "before", Theirs: "host"}

// notMerged is why a file that both sides changed is not merged.
type notMerged string

func (e notMerged) Error() string { return string(e) }

// merge gives the machine both changes of texts that both sides changed.
func (r *syncRun) merge(ctx context.Context) error {
	var items []workspace.Item
	for i := range r.refused {
		it := &r.refused[i]
		if it.New.Kind != workspace.File || it.now.Kind != wire.KindFile {
			continue
		}
		merged, conflicts, err := r.merged(ctx, it, len(items))
		if why, ok := errors.AsType[notMerged](err); ok {
			it.why += "; not merged: " + why.Error()
			continue
		}
		if err != nil {
			return err
		}
		r.merging[it.Path] = conflicts
		items = append(items, merged)
	}
	if len(items) == 0 {
		return nil
	}
	refused := r.refused
	r.refused = nil
	if err := r.send(ctx, items); err != nil {
		r.refused = refused
		return err
	}
	// What the machine changed once more meanwhile stays a conflict.
	done := make(map[string]bool)
	for _, m := range r.result.Merged {
		done[m.Path] = true
	}
	again := r.refused
	r.refused = slices.DeleteFunc(refused, func(it refusedItem) bool {
		return done[it.Path] || slices.ContainsFunc(again, func(other refusedItem) bool { return other.Path == it.Path })
	})
	r.refused = append(r.refused, again...)
	return nil
}

// merged returns what is to be sent of one file, and the number of conflicts in it. The nth
// is the last that is merged.
func (r *syncRun) merged(ctx context.Context, it *refusedItem, n int) (item workspace.Item, conflicts int, err error) {
	old := it.Old[0]
	switch {
	case n >= mostMerged:
		return item, 0, notMerged(fmt.Sprintf("only %d files are at once", mostMerged))
	case old.Kind != workspace.File:
		return item, 0, notMerged("the content that both began with is not there")
	case max(old.Size, it.New.Size, it.now.Size) > mostMergeBytes:
		return item, 0, notMerged("it is larger than 1 MiB")
	}
	before, err := r.copied.base().Open(it.Path)
	if err != nil {
		return item, 0, err
	}
	base, err := io.ReadAll(before)
	if err != nil {
		return item, 0, err
	}
	f, err := r.copied.store.Open(&it.Item)
	if err != nil {
		return item, 0, err
	}
	host, err := io.ReadAll(f)
	f.Close()
	if err != nil {
		return item, 0, err
	}
	guest, err := r.fetch(ctx, it.Path)
	if err != nil {
		return item, 0, err
	}
	if slices.ContainsFunc([][]byte{base, host, guest}, linediff.Binary) {
		return item, 0, notMerged("it is no text")
	}
	text, conflicts := linediff.Merge(string(base), string(guest), string(host), mergeNames)
	item = workspace.Item{Path: it.Path, Sent: it.Sent}
	// What was merged with is what has to be there still, with the mode that it had.
	was := workspace.State{Kind: workspace.File, Mode: it.now.Mode & 0o777, Size: int64(len(guest))}
	if was.Sum, err = sparse.SumOf(ctx, bytes.NewReader(guest), was.Size); err != nil {
		return item, 0, err
	}
	item.Old = []workspace.State{was}
	item.New = workspace.State{Kind: workspace.File, Mode: was.Mode, Size: int64(len(text))}
	if it.New.Mode != old.Mode {
		item.New.Mode = it.New.Mode
	}
	item.New.Sum, err = r.copied.store.Put(ctx, []byte(text))
	return item, conflicts, err
}

// fetch returns the content of a file that the guest has changed.
func (r *syncRun) fetch(ctx context.Context, path string) (content []byte, err error) {
	open := func() (io.ReadWriteCloser, error) {
		stream, err := r.m.open(ctx)
		return patient{stream, r.m.Name(), silence}, err
	}
	err = client.Fetch(open, []string{path}, func(_ string, in io.Reader) error {
		var b bytes.Buffer
		if n, err := io.Copy(&b, io.LimitReader(in, mostMergeBytes+1)); err != nil || n > mostMergeBytes {
			return errors.Join(err, notMerged("it is larger than 1 MiB"))
		}
		content = b.Bytes()
		return nil
	})
	if _, ok := errors.AsType[*client.GuestError](err); ok {
		return nil, notMerged("the machine does not give it")
	}
	if _, ok := errors.AsType[notMerged](err); ok {
		return nil, err
	}
	return content, r.m.spoken(ctx, err)
}
