package live

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// bulk is where git has what nobody runs or obeys, and much of it.
func bulk(dir, name string) bool { return name == "objects" && path.Base(dir) == ".git" }

// allLevels has walk look at all levels.
const allLevels = -1

// walk tells of all that is below an open directory, level by level, so that bounds leave
// out what is deepest. It looks at so many levels, and returns how many it has looked at
// as a whole, or allLevels. closed is told of directories that cannot be listed.
func walk(ctx context.Context, root, levels int, j Judge, closed func(dir string), tell func(path string, link bool) error) (int, error) {
	end := time.Now().Add(mostTime)
	left := mostEntries
	dirs := []string{"."}
	for level := 0; len(dirs) > 0; level++ {
		if level == levels {
			return level, nil
		}
		var next []string
		for _, dir := range dirs {
			if err := context.Cause(ctx); err != nil {
				return level, err
			}
			err := list(root, dir, closed, func(e fs.DirEntry) error {
				if left--; left < 0 || left%1000 == 0 && time.Now().After(end) {
					return errBound
				}
				p := path.Join(dir, e.Name())
				link := e.Type() == fs.ModeSymlink
				if e.IsDir() && !bulk(dir, e.Name()) || link && j.Leads(e.Name()) {
					next = append(next, p)
				}
				return tell(p, link)
			})
			if errors.Is(err, errBound) {
				return level, nil
			}
			if err != nil {
				return level, err
			}
		}
		dirs = next
	}
	return allLevels, nil
}

// list tells of the names in a directory. One that is gone has none.
func list(root int, dir string, closed func(dir string), tell func(fs.DirEntry) error) error {
	fd, err := beneath(root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENAMETOOLONG) {
		closed(dir)
		return nil
	}
	if err != nil {
		if err := absent(dir, err); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	for {
		entries, err := f.ReadDir(256)
		for _, e := range entries {
			if err := tell(e); err != nil {
				return err
			}
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
}
