package workspace

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// The journal of an Apply says where its temporary files can be. It is on the
// disk before the first of them is made and gone after the last, so that
// whatever a killed Apply left can be found without searching the workspace.
//
// Its file is this line and then, each ended by a NUL byte: the workspace, the
// Apply's id, the directories, and an empty string. A journal without that end
// was never used. What follows are permissions that were given for the work, each before it
// was. It is locked by the process that uses it.
const (
	journalMagic = "mayfly apply journal 1\n"
	maxJournal   = 1 << 30
	tempPrefix   = ".mayfly-"
)

// ErrBusy is returned for a journal that a running Apply uses.
var ErrBusy = errors.New("changes are being applied right now")

type journal struct {
	f    *os.File
	id   string
	size int64
}

// lockJournal opens and locks the journal at path. One of a supervisor of root's, which is
// another user and applies nothing, is none: it is removed.
func lockJournal(path string, flags int) (*os.File, error) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		if _, foreign := confine.SupervisorOf(int(st.Uid)); foreign {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
	}
	for {
		f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if err == unix.EWOULDBLOCK {
				return nil, ErrBusy
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// Its last holder may have removed it between our open and our lock.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return f, nil
		}
		f.Close()
	}
}

// startJournal writes the journal of an Apply in root that will change dirs.
func startJournal(path, root string, dirs []string) (_ *journal, err error) {
	f, err := lockJournal(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := clean(f); err != nil { // what an Apply before us left
		return nil, err
	}
	j := &journal{f: f, id: strings.ToLower(rand.Text()[:16])}
	var b strings.Builder
	b.WriteString(journalMagic)
	for _, s := range append([]string{root, j.id}, dirs...) {
		b.WriteString(s)
		b.WriteByte(0)
	}
	b.WriteByte(0)
	if err := f.Truncate(0); err != nil {
		return nil, err
	}
	if _, err := f.WriteAt([]byte(b.String()), 0); err != nil {
		return nil, err
	}
	j.size = int64(b.Len())
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return j, atomicfile.Sync(filepath.Dir(path))
}

// temp returns a name for the temporary file of the n-th edit.
func (j *journal) temp(n int) string { return fmt.Sprintf("%s%s-%d", tempPrefix, j.id, n) }

// end removes the journal: no temporary file is left.
func (j *journal) end() error {
	err := os.Remove(j.f.Name())
	return errors.Join(err, j.f.Close())
}

// CleanJournal removes what an Apply that was killed left in its workspace,
// and then the journal. It is no error when there is none.
func CleanJournal(path string) error {
	f, err := lockJournal(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clean up after an interrupted apply: %w", err)
	}
	defer f.Close()
	if err := clean(f); err != nil {
		return fmt.Errorf("clean up after an interrupted apply: %w", err)
	}
	return os.Remove(path)
}

// clean removes the temporary files of the journal f.
func clean(f *os.File) error {
	b, err := io.ReadAll(io.LimitReader(f, maxJournal))
	if err != nil {
		return err
	}
	root, id, dirs, opened, ok := parseJournal(string(b))
	if !ok {
		return nil
	}
	j := &journal{f: f, size: int64(len(b))}
	r, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // the workspace is gone, and our files with it
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", termsafe.Quote(root), err)
	}
	defer unix.Close(r)
	var errs []error
	for _, dir := range dirs {
		if err := j.cleanDir(r, dir, tempPrefix+id+"-"); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", termsafe.Quote(filepath.Join(root, dir)), err))
		}
	}
	for _, o := range slices.Backward(opened) { // the inner ones first
		o.shut(r)
	}
	return errors.Join(errs...)
}

// cleanDir removes what has a name with the prefix.
func (j *journal) cleanDir(root int, dir, prefix string) error {
	fd, err := openBeneath(root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.EACCES) {
		place, there := openBeneath(root, dir, unix.O_PATH|unix.O_DIRECTORY)
		if there != nil {
			return nil // nobody has worked in what cannot be reached
		}
		defer unix.Close(place)
		var shut func()
		if shut, err = j.open(place, dir, 0o700); err == nil {
			defer shut()
			fd, err = openBeneath(root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
		}
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil // it never came to be, or is no longer the one we worked in
	case err != nil:
		return err
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		// A directory that is not empty holds what somebody put there.
		if err := removeAt(fd, name); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", termsafe.Quote(name), err))
		}
	}
	return errors.Join(errs...)
}

// parseJournal returns what is in a journal, and false for one without end.
func parseJournal(s string) (root, id string, dirs []string, opened []opened, ok bool) {
	s, ok = strings.CutPrefix(s, journalMagic)
	if !ok {
		return "", "", nil, nil, false
	}
	s, rest, ok := strings.Cut(s, "\x00\x00")
	parts := strings.Split(s, "\x00")
	if !ok || len(parts) < 2 || !filepath.IsAbs(parts[0]) || len(parts[1]) != 16 {
		return "", "", nil, nil, false
	}
	for _, dir := range parts[2:] {
		if dir != "." && checkPath(dir) != nil {
			return "", "", nil, nil, false
		}
	}
	return parts[0], parts[1], parts[2:], parseOpened(rest), true
}
