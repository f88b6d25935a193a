package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Outgoing is all that it takes to find what is to be sent into a machine: what the
// directory on the host has become since it was packed, or sent the last time.
type Outgoing struct {
	Manifest *Manifest // what was packed
	Packed   Base      // its contents
	Synced   *Synced   // what was sent since
	// Placed is what was applied from the machine since. If it has that still, it is no newer
	// change of its own. May be nil.
	Placed *Placed
	Store  Store // gets the contents that are to be sent

	Exclude []string               // patterns that kept paths out of the copy
	Skip    func(path string) bool // paths that are left alone, with what is below
	At      []string               // only what is there or below; none is everything
	Warn    func(Note)             // hears what cannot be sent; may be nil
	// Checked are files that were read and found unchanged, whatever their times say. It is
	// read and written; may be nil.
	Checked map[string]Identity

	started int64
}

// State is what is at a path, on either side.
type State struct {
	Kind   Kind
	Mode   uint32 // permission bits of a file or directory
	Size   int64  // of a file
	Sum    [sparse.Size]byte
	Target string // of a symbolic link
	// AnyMode says of an old state that its mode does not matter.
	AnyMode bool
}

// Item is one path that is to be sent: what may be there in the machine, and what is to be.
// The first of Old is what was packed or sent the last time.
type Item struct {
	Path string
	Old  []State
	New  State
	// Sent is what is noted of the path when the machine has it.
	Sent Sent
}

func (e *Sent) state() State {
	s := State{Kind: e.Kind, Sum: e.Sum, Target: e.Target}
	if e.Kind == File || e.Kind == Dir {
		s.Mode = e.Mode & 0o777
	}
	if e.Kind == File {
		s.Size = e.Size
	}
	return s
}

// trusts reports whether the times of an entry can tell a later change. What was sent has no
// identity where they cannot.
func (o *Outgoing) trusts(e *Entry) bool {
	return o.Synced.Find(e.Path) != nil || o.Manifest.trusts(e)
}

// granularity is how old a change must be so that times can tell it from a later one; see
// [Manifest.trusts].
const granularity = 2 * time.Second

// Find returns what is to be sent, in an order in which it can be done one after another:
// deletions from the leaves up, then the rest from the root down, then modes of directories
// in which that would not be possible. Contents are in the store then.
func (o Outgoing) Find(ctx context.Context) ([]Item, error) {
	exclude, err := parseExcludes(o.Exclude)
	if err != nil {
		return nil, err
	}
	o.started = time.Now().UnixNano()
	root, err := unix.Open(o.Manifest.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", termsafe.Quote(o.Manifest.Root), err)
	}
	defer unix.Close(root)
	s := &scanner{opts: &o, exclude: exclude, manifest: o.Synced.Over(o.Manifest), root: root}
	all, err := s.scan(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.checkSize(all); err != nil {
		return nil, err
	}
	var items, modes []Item
	for _, f := range slices.Backward(all) {
		if f.now.Kind == None {
			item, err := o.item(ctx, f, Sent{Entry: f.now})
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
	}
	for _, f := range all {
		if f.now.Kind == None {
			continue
		}
		sent := Sent{Entry: f.now}
		if f.now.Kind == File {
			ok, err := o.content(ctx, root, f.old, &sent)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
		}
		item, err := o.item(ctx, f, sent)
		if err != nil {
			return nil, err
		}
		if item.Old[0] == item.New {
			if o.Checked != nil && sent.ID != (Identity{}) {
				o.Checked[item.Path] = sent.ID
			}
			continue
		}
		if open := item.New.Mode | 0o700; item.New.Kind == Dir && item.Old[0].Kind != Dir && open != item.New.Mode {
			later := item
			item.New.Mode, item.Sent.Mode = open, open
			later.Old = []State{item.New}
			modes = append(modes, later)
		}
		items = append(items, item)
	}
	slices.Reverse(modes)
	return append(items, modes...), nil
}

// checkSize refuses to send too much at once.
func (o *Outgoing) checkSize(all []found) error {
	total := int64(0)
	for _, f := range all {
		if f.now.Kind != File {
			continue
		}
		if f.now.Size > DefaultStageLimit-total {
			return fault.New(fault.SyncTooLarge, fault.Args{"limit": strconv.FormatInt(DefaultStageLimit, 10)},
				"what changed is more than %s: %s has %s", formatSize(DefaultStageLimit), termsafe.Quote(f.now.Path), formatSize(f.now.Size))
		}
		total += f.now.Size
	}
	return nil
}

// item returns what is to be done at one path.
func (o *Outgoing) item(ctx context.Context, f found, sent Sent) (Item, error) {
	it := Item{Path: f.now.Path, New: sent.state(), Sent: sent, Old: []State{{}}}
	if f.old != nil {
		old := Sent{Entry: *f.old}
		if old.Kind == File {
			var err error
			if old.Sum, err = o.oldSum(ctx, f.old); err != nil {
				return it, err
			}
		}
		it.Old[0] = old.state()
	}
	it.Old = append(it.Old, o.Placed.states(it.Path)...)
	return it, nil
}

// oldSum returns that of a file as the machine got it.
func (o *Outgoing) oldSum(ctx context.Context, e *Entry) ([sparse.Size]byte, error) {
	if s := o.Synced.Find(e.Path); s != nil {
		return s.Sum, nil
	}
	r, err := o.Packed.Open(e.Path)
	if err != nil {
		return [sparse.Size]byte{}, fmt.Errorf("read the packed %s: %w", termsafe.Quote(e.Path), err)
	}
	return sparse.SumOf(ctx, r, r.Size())
}

// content stores what a file of the host holds. It reports false for one that is not to be
// sent now.
func (o *Outgoing) content(ctx context.Context, root int, old *Entry, e *Sent) (ok bool, err error) {
	note := func(text string) {
		if o.Warn != nil {
			o.Warn(Note{e.Path, text})
		}
	}
	if id, ok := o.Checked[e.Path]; ok && id == e.ID {
		return false, nil
	}
	for range 2 {
		fd, err := openBeneath(root, e.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
		if err != nil {
			if !errors.Is(err, unix.ENOENT) {
				note("cannot be read; left as it is in the machine")
			}
			return false, nil
		}
		f := os.NewFile(uintptr(fd), e.Path)
		changed, err := o.read(ctx, f, old, e)
		f.Close()
		if err != nil || !changed {
			return err == nil, err
		}
	}
	note("keeps changing; left as it is in the machine")
	return false, nil
}

// read stores the content of an open file, unless it is that of old. It reports whether that changed meanwhile.
func (o *Outgoing) read(ctx context.Context, f *os.File, old *Entry, e *Sent) (changed bool, err error) {
	var before, after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &before); err != nil {
		return false, err
	}
	if kindOf(&before) != File {
		return true, nil
	}
	e.Mode, e.Size, e.ID = before.Mode&0o777, before.Size, identity(&before)
	if e.Size > DefaultStageLimit {
		return true, nil // it was small a moment ago
	}
	same := false
	if old != nil && old.Kind == File && old.Size == e.Size && old.Mode&0o777 == e.Mode {
		// As a rule only its times are new, and nothing is to be stored.
		was, err := o.oldSum(ctx, old)
		if err != nil {
			return false, err
		}
		e.Sum, err = sparse.SumOf(ctx, f, e.Size)
		same = err == nil && was == e.Sum
	}
	if !same {
		e.Sum, err = o.Store.put(ctx, f, e.Size)
	}
	if errors.Is(err, errShorter) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", termsafe.Quote(e.Path), err)
	}
	if err := unix.Fstat(int(f.Fd()), &after); err != nil || identity(&after) != e.ID || after.Size != e.Size {
		return true, err
	}
	if e.ID.CTime >= o.started-int64(granularity) {
		e.ID = Identity{}
	}
	return false, nil
}

// Open opens the content that an item is to have.
func (s Store) Open(it *Item) (*os.File, error) { return s.open(it.Path, it.New.Sum, it.New.Size) }
