package workspace

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Times of a watch.
const (
	quietTime = 150 * time.Millisecond // without a change, before a batch is told
	batchTime = 2 * time.Second        // the longest time that a batch is waited for
	pollTime  = 2 * time.Second        // between two looks at everything where the kernel tells nothing
)

// maxWatchPaths is how many paths a batch names. More are everything.
const maxWatchPaths = 10_000

// WatchOptions says what of a directory is watched.
type WatchOptions struct {
	Exclude []string               // patterns, as those of Pack
	Skip    func(path string) bool // paths that are left alone, with what is below
	// Polls is called if the kernel cannot watch everything, with the reason: from then on
	// all is looked at every two seconds.
	Polls func(error)
}

// Watch calls changed at once, and then with the paths at which something may have changed
// in the directory root, in batches, until ctx ends or changed returns an error. No paths
// are everything: where the kernel has lost count. The end of ctx is no error.
func Watch(ctx context.Context, root string, o WatchOptions, changed func(at []string) error) error {
	exclude, err := parseExcludes(o.Exclude)
	if err != nil {
		return err
	}
	w := &watcher{skip: func(p string) bool { return o.Skip(p) || exclude.match(p, true) }, watched: make(map[int32]string)}
	if w.root, err = unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("watch %s: %w", termsafe.Quote(root), err)
	}
	defer unix.Close(w.root)
	err = w.run(ctx, changed)
	if limit, ok := errors.AsType[watchLimit](err); ok {
		o.Polls(limit.error)
		err = poll(ctx, changed)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watchLimit is the error of the kernel that it watches no more.
type watchLimit struct{ error }

// poll is Watch without the kernel's help.
func poll(ctx context.Context, changed func([]string) error) error {
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		if err := changed(nil); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watcher is one Watch.
type watcher struct {
	skip    func(path string) bool
	root    int
	events  *os.File
	fd      int
	watched map[int32]string // directories, by the kernel's number of the watch
	dirty   map[string]bool
	all     bool // the kernel has lost count
}

func (w *watcher) run(ctx context.Context, changed func([]string) error) (err error) {
	if w.fd, err = unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC); err != nil {
		return watchLimit{fmt.Errorf("watch directories: %w", err)}
	}
	w.events = os.NewFile(uintptr(w.fd), "inotify")
	defer w.events.Close()
	defer context.AfterFunc(ctx, func() { w.events.Close() })()
	if err := w.add(ctx, "."); err != nil {
		return err
	}
	w.all = true
	for {
		at := w.take()
		if err := changed(at); err != nil || ctx.Err() != nil {
			return err
		}
		if err := w.wait(ctx); err != nil {
			return err
		}
	}
}

// take returns the paths of a batch, nil for everything.
func (w *watcher) take() []string {
	at := slices.Sorted(maps.Keys(w.dirty))
	if w.all || len(at) > maxWatchPaths {
		at = nil
	}
	w.all, w.dirty = false, make(map[string]bool)
	return at
}

// wait waits for changes, until none comes for a while.
func (w *watcher) wait(ctx context.Context) error {
	buf := make([]byte, 64<<10)
	var end time.Time // of the batch
	w.events.SetReadDeadline(time.Time{})
	for {
		n, err := w.events.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("watch directories: %w", err)
		}
		if err := w.note(ctx, buf[:n]); err != nil {
			return err
		}
		if !w.all && len(w.dirty) == 0 {
			continue
		}
		now := time.Now()
		if end.IsZero() {
			end = now.Add(batchTime)
		}
		quiet := now.Add(quietTime)
		if quiet.After(end) {
			quiet = end
		}
		w.events.SetReadDeadline(quiet)
	}
}

// note notes the events of one read, inotify(7).
func (w *watcher) note(ctx context.Context, b []byte) error {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask, n := binary.NativeEndian.Uint32(b[4:]), int(binary.NativeEndian.Uint32(b[12:]))
		name := unix.ByteSliceToString(b[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+n])
		b = b[unix.SizeofInotifyEvent+n:]
		dir, known := w.watched[wd]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			w.all = true
			if err := w.add(ctx, "."); err != nil {
				return err
			}
			continue
		case mask&unix.IN_IGNORED != 0:
			delete(w.watched, wd)
			continue
		case !known:
			continue
		}
		path := dir
		if name != "" {
			path = joinPath(dir, name)
		}
		if path == "." || w.skip(path) {
			continue
		}
		w.dirty[path] = true
		if mask&unix.IN_ISDIR != 0 && mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 {
			if err := w.add(ctx, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// add watches a directory and all below it.
func (w *watcher) add(ctx context.Context, path string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	fd, err := openBeneath(w.root, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil // it is gone, or cannot be read, and then nothing in it is sent
	}
	d := os.NewFile(uintptr(fd), path)
	const mask = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE
	// By the descriptor: a name may have become a link to elsewhere.
	wd, err := unix.InotifyAddWatch(w.fd, "/proc/self/fd/"+strconv.Itoa(fd), mask|unix.IN_ONLYDIR)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM) {
		d.Close()
		return watchLimit{fmt.Errorf("watch %s: %w", termsafe.Quote(path), err)}
	}
	if err != nil {
		d.Close()
		return nil
	}
	w.watched[int32(wd)] = path
	entries, _ := d.ReadDir(-1) // after the watch, so that what is made now is met either way
	d.Close()
	for _, e := range entries {
		if below := joinPath(path, e.Name()); e.IsDir() && !w.skip(below) {
			if err := w.add(ctx, below); err != nil {
				return err
			}
		}
	}
	return nil
}
