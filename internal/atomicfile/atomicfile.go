// Package atomicfile replaces files as a whole.
//
// A reader sees the old content or the new one, never a part, and an error
// leaves the old file as it was. The content is written to a temporary file in
// the same directory, which then takes the name.
//
// What a crash of the host can lose is the caller's choice:
//
//   - [Write], [WriteIn], [WriteNew], [File.Commit] and [File.CommitNew] sync the content,
//     rename, and sync the directory, in this order. The name never stands for a
//     file with holes, and once they return the new file survives a power cut.
//   - [WriteUnsynced] and [File.CommitUnsynced] leave the disk to the kernel:
//     after a power cut the file can be empty. They are for what is worthless
//     after a crash of the host or can be made again: the state of running
//     machines, caches, saved boots. A sync costs milliseconds, and the start of
//     a machine would pay for each of them.
//
// A process that is killed can leave a temporary file, whose name matches
// [Leftovers]. An error leaves none.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const tempPrefix = ".mayfly-new-"

// Leftovers is the pattern of the names of temporary files, for
// [filepath.Glob]. Whoever holds the lock of a directory's writers may remove
// the files in it that match.
const Leftovers = tempPrefix + "*"

// Write replaces the file name, durably. The file has exactly the mode perm,
// whatever the umask. A symbolic link of that name is replaced, not followed.
func Write(name string, data []byte, perm fs.FileMode) error {
	return write(name, data, perm, (*File).Commit)
}

// WriteIn is [Write] for a name below root, which it never leaves.
func WriteIn(root *os.Root, name string, data []byte, perm fs.FileMode) error {
	f, err := CreateIn(root, name, perm)
	if err != nil {
		return err
	}
	return f.fill(data, (*File).Commit)
}

// WriteNew is [Write] for a name that must be free. If it is taken the error is
// [fs.ErrExist], and the file there stays.
func WriteNew(name string, data []byte, perm fs.FileMode) error {
	return write(name, data, perm, (*File).CommitNew)
}

// WriteUnsynced is [Write] without durability.
func WriteUnsynced(name string, data []byte, perm fs.FileMode) error {
	return write(name, data, perm, (*File).CommitUnsynced)
}

func write(name string, data []byte, perm fs.FileMode, commit func(*File) error) error {
	f, err := Create(name, perm)
	if err != nil {
		return err
	}
	return f.fill(data, commit)
}

func (f *File) fill(data []byte, commit func(*File) error) error {
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return commit(f)
}

// File is a file that has no name yet. Close it in any case.
type File struct {
	file *os.File // nil once it is committed or closed
	dirs directories
	temp string
	name string
}

// directories is where names are: *os.Root, or paths for those of the process.
type directories interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	Rename(from, to string) error
	Link(from, to string) error
	Remove(name string) error
}

// paths takes names as the process does. It costs fewer system calls than a root.
type paths struct{}

func (paths) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}
func (paths) Rename(from, to string) error { return os.Rename(from, to) }
func (paths) Link(from, to string) error   { return os.Link(from, to) }
func (paths) Remove(name string) error     { return os.Remove(name) }

// Create begins a file that is to have name and exactly the mode perm.
func Create(name string, perm fs.FileMode) (*File, error) { return create(paths{}, name, perm) }

// CreateIn is [Create] for a name below root, which it never leaves. The caller
// keeps root open until the file is closed.
func CreateIn(root *os.Root, name string, perm fs.FileMode) (*File, error) {
	return create(root, name, perm)
}

func create(dirs directories, name string, perm fs.FileMode) (*File, error) {
	// Until it has its name only the owner reads it.
	const private = 0o600
	f := &File{dirs: dirs, name: name, temp: filepath.Join(filepath.Dir(name), tempPrefix+rand.Text())}
	var err error
	// O_EXCL follows no link that somebody put there.
	f.file, err = dirs.OpenFile(f.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, private)
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		err = failed.Err // the name of the temporary file says nothing
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	if perm != private {
		if err := f.file.Chmod(perm); err != nil {
			f.Close()
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
	}
	return f, nil
}

// Write appends to the content.
func (f *File) Write(p []byte) (int, error) {
	if f.file == nil {
		return 0, os.ErrClosed
	}
	return f.file.Write(p)
}

// WriteAt writes a part of the content, see [os.File.WriteAt].
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if f.file == nil {
		return 0, os.ErrClosed
	}
	return f.file.WriteAt(p, off)
}

// Truncate gives the content a size.
func (f *File) Truncate(size int64) error {
	if f.file == nil {
		return os.ErrClosed
	}
	return f.file.Truncate(size)
}

// Commit gives the file its name, durably. If only the sync of the directory
// fails, the new file is there already.
func (f *File) Commit() error {
	return f.commit(true, f.dirs.Rename)
}

// CommitNew is [File.Commit] for a name that must be free, see [WriteNew].
func (f *File) CommitNew() error {
	return f.commit(true, func(temp, name string) error {
		// Rename would replace a file. A link does not, and more file systems
		// know it than renameat2's RENAME_NOREPLACE.
		if err := f.dirs.Link(temp, name); err != nil {
			return err
		}
		return f.dirs.Remove(temp)
	})
}

// CommitUnsynced gives the file its name and leaves the disk to the kernel.
func (f *File) CommitUnsynced() error {
	return f.commit(false, f.dirs.Rename)
}

func (f *File) commit(durable bool, place func(temp, name string) error) (err error) {
	if f.file == nil {
		return os.ErrClosed
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", f.name, err)
		}
		f.Close()
	}()
	if durable {
		if err := f.file.Sync(); err != nil {
			return err
		}
	}
	// Some file systems report only here that the disk is full.
	if err := f.file.Close(); err != nil {
		return err
	}
	if err := place(f.temp, f.name); err != nil {
		return err
	}
	f.temp = ""
	if !durable {
		return nil
	}
	dir, err := f.dirs.OpenFile(filepath.Dir(f.name), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// Close removes the file unless it was committed. It is safe to call it again.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	f.file.Close() // a second time after a commit
	f.file = nil
	if f.temp == "" {
		return nil
	}
	return f.dirs.Remove(f.temp)
}

// Publish gives the finished file or directory from the name to, durably. They
// are on one file system. Of a directory only its own list of names is synced:
// what is in it must be synced already.
func Publish(from, to string) error {
	if err := Sync(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return Sync(filepath.Dir(to))
}

// Sync makes the content of a file durable, or the names in a directory.
func Sync(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	if fi, err := f.Stat(); err == nil && fi.IsDir() {
		return syncDir(f)
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncDir syncs and closes a directory. Network and FUSE file systems that
// cannot do so keep names in ways of their own.
func syncDir(dir *os.File) error {
	err := dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}
