package workspace

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// A file is on the disk before it gets its name: else a crash of the host
// could leave an empty file in the place of the old one. To wait for the disk
// after each single file would take the better part of a minute for a few
// thousand, so files get their names in batches. The temporary files of one
// are written, all of them are waited for at once, and then come the renames.
const (
	batchFiles = 128 // each costs two file descriptors
	batchBytes = 64 << 20
)

// pending is a new file under its temporary name, not yet placed.
type pending struct {
	edit       *Edit
	file       *os.File
	dir        int // its directory, open with O_PATH
	name, temp string
	now        hostFile // what it replaces
}

// enqueue takes over a complete temporary file, f, and the directory dir.
func (a *applier) enqueue(p pending) {
	// Begin to write now, without waiting. It may fail, Sync may not.
	unix.SyncFileRange(int(p.file.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	a.batch = append(a.batch, p)
	a.batchSize += p.edit.NewSize
}

func (a *applier) batchFull() bool {
	return len(a.batch) >= batchFiles || a.batchSize >= batchBytes
}

// flush places the files of the batch.
func (a *applier) flush() error {
	defer a.dropBatch()
	for _, p := range a.batch {
		if err := p.file.Sync(); err != nil {
			return fmt.Errorf("%s: %w", termsafe.Quote(p.edit.Path), err)
		}
	}
	for len(a.batch) > 0 {
		p := a.batch[0]
		a.batch = a.batch[1:]
		err := a.placePending(p)
		if err == nil {
			a.made.setOpen(p.edit.Path, int(p.file.Fd()))
		}
		err = a.settle(p.edit, err)
		p.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// placePending places a file, if its directory still is where it was.
func (a *applier) placePending(p pending) error {
	parent, _ := splitPath(p.edit.Path)
	err := a.changeDir(parent, func(now hostFile) (uint32, error) {
		var st unix.Stat_t
		if err := unix.Fstat(p.dir, &st); err != nil {
			return 0, err
		}
		if uint64(st.Dev) != now.id.Dev || st.Ino != now.id.Ino {
			return 0, conflictParent
		}
		return now.mode, nil
	})
	if err != nil {
		removeAt(p.dir, p.temp)
		var why conflictError
		if errors.As(err, &why) {
			err = conflictParent
		}
		return err
	}
	return a.place(p.dir, p.temp, p.name, p.edit, p.now)
}

func (p *pending) close() {
	p.file.Close()
	unix.Close(p.dir)
}

// dropBatch removes the temporary files that were not placed.
func (a *applier) dropBatch() {
	for _, p := range a.batch {
		removeAt(p.dir, p.temp)
		p.close()
	}
	a.batch, a.batchSize = nil, 0
}
