package engine

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// A sync notes what it is about to send, and removes the note once what the machine has is
// written down. Whoever finds the note later asks the machine what it has of it: that is no
// change of the machine's, as if the sync had come to its end.

// begin notes that items are about to be sent.
func (c *copied) begin(items []workspace.Item) error {
	c.sending = append(c.sending, items...)
	return (&workspace.Sending{Of: c.manifest.Started, Items: c.sending}).Write(c.files.Sending)
}

// end says that it is known what the machine has of what was sent.
func (c *copied) end() error {
	err := os.Remove(c.files.Sending)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		c.sending = nil
	}
	return err
}

// book notes what the machine has now, which is newer there than what was applied.
func (c *copied) book(m Machine, done []workspace.Sent) error {
	name := m.m.PlacedFile(m.p)
	placed, err := workspace.ReadPlaced(name)
	if err == nil && placed.Forget(done) {
		err = placed.Write(name)
	}
	if err != nil {
		return err
	}
	c.synced = c.synced.With(c.manifest, done)
	return c.writeSynced()
}

// sweep removes contents that nobody needs any more.
func (c *copied) sweep() error {
	sending := &workspace.Synced{}
	for i := range c.sending {
		sending.Entries = append(sending.Entries, c.sending[i].Sent)
	}
	c.unlock()
	c.unlock = func() {}
	return c.store.Sweep(c.synced, sending)
}

// endSync brings to its end what a sync has left that did not come to its own. A sync that
// goes on is left alone.
func (m Machine) endSync(ctx context.Context) error {
	if _, err := os.Lstat(m.m.SyncFiles(m.p).Sending); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	trying, stop := context.WithCancel(ctx)
	defer stop()
	release, err := m.m.LockApply(trying, func(int) { stop() })
	if err != nil && trying.Err() != nil && ctx.Err() == nil {
		return nil // who has the lock ends it
	}
	if err != nil {
		return m.notLocked(ctx, err)
	}
	defer release()
	c, err := m.openCopy()
	if err != nil {
		return err
	}
	defer c.close()
	return c.resume(ctx, m)
}

// resume does that with the lock of applies.
func (c *copied) resume(ctx context.Context, m Machine) error {
	left, err := workspace.ReadSending(c.files.Sending)
	if err != nil || left == nil {
		return err
	}
	if left.Of != c.manifest.Started { // into another copy
		return c.end()
	}
	list := make([]client.Outgoing, len(left.Items))
	for i := range left.Items {
		it := &left.Items[i]
		old := wire.SyncState{}
		if it.Old[0].Kind != workspace.None {
			old = wireState(&workspace.State{Kind: it.Old[0].Kind})
		}
		list[i].Item = wire.SyncItem{Path: []byte(it.Path), Old: []wire.SyncState{old}, New: wireState(&it.New), Check: true}
	}
	var done []workspace.Sent
	req := wire.Sync{Dir: m.p.Workspace.Path, Durable: m.p.Keep != nil}
	err = m.converse(ctx, func(stream net.Conn) error {
		return commandError(client.Sync(ctx, patient{stream, m.Name(), silence}, req, list, func(i int, a wire.SyncAnswer) error {
			if a.Result == wire.SyncSame {
				done = append(done, left.Items[i].Sent)
			}
			return nil
		}))
	})
	if err == nil && len(done) > 0 {
		err = c.book(m, done)
	}
	if err != nil {
		return err
	}
	return c.end()
}
