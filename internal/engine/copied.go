package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/image/erofs"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// copied is what the host knows of a machine's copy of its workspace.
type copied struct {
	manifest *workspace.Manifest // what was packed
	image    *os.File
	packed   *erofs.Image
	files    state.SyncFiles
	store    workspace.Store
	unlock   func()            // gives the store up
	synced   *workspace.Synced // what was sent since
	sending  []workspace.Item  // what a sync has begun to send, while it is not in synced
}

// openCopy opens what is known of the machine's copy.
func (m Machine) openCopy() (_ *copied, err error) {
	packed, list := m.m.WorkspaceFiles(m.p)
	f, err := os.Open(list)
	if err != nil {
		return nil, fmt.Errorf("read what was packed: %w", err)
	}
	defer f.Close()
	c := &copied{files: m.m.SyncFiles(m.p)}
	c.store = workspace.Store{Dir: c.files.Sent}
	if c.manifest, err = workspace.ReadManifest(f); err != nil {
		return nil, err
	}
	// First the lock, then the list: what is in that stays.
	if c.unlock, err = c.store.Lock(); err != nil {
		return nil, fmt.Errorf("read what was sent: %w", err)
	}
	defer func() {
		if err != nil {
			c.unlock()
		}
	}()
	if err = c.readSynced(); err != nil {
		return nil, err
	}
	if c.image, err = os.Open(packed); err != nil {
		return nil, err
	}
	if c.packed, err = c.manifest.OpenImage(c.image); err != nil {
		c.image.Close()
	}
	return c, err
}

func (c *copied) close() error {
	c.unlock()
	return c.image.Close()
}

// base is the contents that the guest's changes start from.
func (c *copied) base() workspace.Base {
	if len(c.synced.Entries) == 0 {
		return c.packed
	}
	return &workspace.SyncedBase{Packed: c.packed, Synced: c.synced, Store: c.store}
}

// readSynced reads what was sent into this copy. What was sent into another one says nothing.
func (c *copied) readSynced() error {
	c.synced = &workspace.Synced{Of: c.manifest.Started}
	f, err := os.Open(c.files.Synced)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what was sent: %w", err)
	}
	defer f.Close()
	s, err := workspace.ReadSynced(f)
	if err != nil {
		return fmt.Errorf("read what was sent: %w", err)
	}
	if s.Of == c.manifest.Started {
		c.synced = s
	}
	return nil
}

// writeSynced writes it.
func (c *copied) writeSynced() error {
	f, err := atomicfile.Create(c.files.Synced, 0o600)
	if err != nil {
		return fmt.Errorf("note what was sent: %w", err)
	}
	defer f.Close()
	if _, err = c.synced.WriteTo(f); err == nil {
		err = f.Commit()
	}
	if err != nil {
		return fmt.Errorf("note what was sent: %w", err)
	}
	return nil
}
