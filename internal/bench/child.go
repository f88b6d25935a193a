package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

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

// writeErofs makes an image of dir with nothing but a simple walk around the
// writer.
func writeErofs(dir string, out *os.File) error {
	w, err := erofs.NewWriter(out, erofs.Options{})
	if err != nil {
		return err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		e := erofs.Entry{Path: rel, Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: fi.ModTime(), Rdev: st.Rdev}
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			if e.Target, err = os.Readlink(path); err != nil {
				return err
			}
		case d.Type().IsRegular():
			e.Size = st.Size
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
			if err != nil {
				return err
			}
			f := os.NewFile(uintptr(fd), path) // os.Open would ask epoll for it
			return errors.Join(w.AddFile(e, f), f.Close())
		}
		return w.Add(e, nil)
	})
	if err != nil {
		return err
	}
	_, err = w.Finish()
	return err
}
