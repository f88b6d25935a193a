package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/image/erofs"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// childCommand is the first argument of this program when it is what is
// measured: a process of its own has times and memory of its own.
const childCommand = "measured"

// cost is what a process took.
type cost struct {
	Wall    time.Duration `json:"wall"` // of the work, without the process's start
	User    time.Duration `json:"-"`
	System  time.Duration `json:"-"`
	PeakMiB float64       `json:"peak_mib"`
	Size    int64         `json:"size"` // of what was made
}

// inChild runs work in a process of its own.
func (b *bench) inChild(ctx context.Context, work, dir, out string) (cost, error) {
	cmd := exec.CommandContext(ctx, b.self, childCommand, work, dir, out)
	cmd.Stderr = b.log
	text, err := cmd.Output()
	if err != nil {
		return cost{}, fmt.Errorf("%s %s: %w", work, dir, err)
	}
	var c cost
	if err := json.Unmarshal(text, &c); err != nil {
		return c, err
	}
	c.User, c.System = cmd.ProcessState.UserTime(), cmd.ProcessState.SystemTime()
	return c, nil
}

// child is the measured process.
func child(args []string, stdout io.Writer) error {
	debug.SetGCPercent(control.StartGCPercent) // as the process that packs does
	if len(args) != 3 {
		return errors.New("measured: want WORK DIR FILE")
	}
	work := map[string]func(dir string, out *os.File) error{
		"erofs": writeErofs,
		"pack":  packWorkspace,
	}[args[0]]
	if work == nil {
		return fmt.Errorf("measured: no work is called %q", args[0])
	}
	out, err := os.Create(args[2])
	if err != nil {
		return err
	}
	defer out.Close()
	start := time.Now()
	if err := work(args[1], out); err != nil {
		return err
	}
	c := cost{Wall: time.Since(start)}
	// Not the rusage's: that remembers the process before execve, too.
	if c.PeakMiB, err = statusMiB("/proc/self/status", "VmHWM"); err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(c)
}

func packWorkspace(dir string, out *os.File) error {
	_, err := workspace.Pack(context.Background(), dir, out, workspace.PackOptions{UID: 1000, GID: 1000})
	return err
}

// writeErofs makes an image of dir with as little as possible around the
// writer.
func writeErofs(dir string, out *os.File) error {
	w, err := erofs.NewWriter(out, erofs.Options{})
	if err != nil {
		return err
	}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return errors.Join(err, root.Close())
	}
	if err := addDir(w, root, ".", &st); err != nil {
		return err
	}
	_, err = w.Finish()
	return err
}

// addDir adds the directory d, whose path in the image is path, and closes it.
func addDir(w *erofs.Writer, d *os.File, path string, st *unix.Stat_t) error {
	defer d.Close()
	if err := w.Add(newEntry(path, st), nil); err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := addFile(w, int(d.Fd()), name, filepath.Join(path, name)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func addFile(w *erofs.Writer, dir int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	e := newEntry(path, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, name, target)
		if err != nil {
			return err
		}
		e.Target = string(target[:n])
	case unix.S_IFREG, unix.S_IFDIR:
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), name) // os.Open would ask epoll for it
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return addDir(w, f, path, &st)
		}
		e.Size = st.Size
		return errors.Join(w.AddFile(e, f), f.Close())
	}
	return w.Add(e, nil)
}

func newEntry(path string, st *unix.Stat_t) erofs.Entry {
	return erofs.Entry{
		Path: path, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Rdev: st.Rdev,
		MTime: time.Unix(st.Mtim.Unix()),
	}
}
