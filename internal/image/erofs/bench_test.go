package erofs

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// addTree packs a directory of the host with a simple walk.
func addTree(w *Writer, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		e := Entry{Path: rel, Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: fi.ModTime(), Rdev: st.Rdev}
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
}

// goSource is a large tree that every machine with Go has.
func goSource(b *testing.B) (dir string, size int64) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skipf("Go is not installed: %v", err)
	}
	dir = filepath.Join(strings.TrimSpace(string(root)), "src")
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil && d.Type().IsRegular() {
			size += fi.Size()
		}
		return err
	})
	if err != nil {
		b.Skipf("Go's source is not installed: %v", err)
	}
	return dir, size
}

// userTime is the CPU time that the process has used outside of the kernel.
func userTime(b *testing.B) time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano())
}

// BenchmarkTree packs Go's source from its directory.
func BenchmarkTree(b *testing.B) {
	dir, size := goSource(b)
	f, err := os.Create(filepath.Join(b.TempDir(), "image.erofs"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.SetBytes(size)
	user := userTime(b)
	var s Stats
	for b.Loop() {
		if err := f.Truncate(0); err != nil {
			b.Fatal(err)
		}
		w, err := NewWriter(f, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := addTree(w, dir); err != nil {
			b.Fatal(err)
		}
		s = finish(b, w)
	}
	user = userTime(b) - user
	b.ReportMetric(user.Seconds()*(1<<30)/float64(size)/float64(b.N), "user-s/GiB")
	b.ReportMetric(float64(s.Size)/float64(size), "size-ratio")
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(ru.Maxrss)/1024, "peak-MiB")
}

// BenchmarkMkfs packs the same tree with mkfs.erofs, to compare with.
func BenchmarkMkfs(b *testing.B) {
	mkfs, err := exec.LookPath("mkfs.erofs")
	if err != nil {
		b.Skip("mkfs.erofs is not installed; make test installs it")
	}
	dir, size := goSource(b)
	image := filepath.Join(b.TempDir(), "image.erofs")
	b.SetBytes(size)
	var user time.Duration
	for b.Loop() {
		if err := os.Remove(image); err != nil && !os.IsNotExist(err) {
			b.Fatal(err)
		}
		cmd := exec.Command(mkfs, "--quiet", image, dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("mkfs.erofs: %v\n%s", err, out)
		}
		user += cmd.ProcessState.UserTime()
	}
	b.ReportMetric(user.Seconds()*(1<<30)/float64(size)/float64(b.N), "user-s/GiB")
}

// BenchmarkTar packs it from an archive, as an image is imported.
func BenchmarkTar(b *testing.B) {
	dir, size := goSource(b)
	archive, err := os.Create(filepath.Join(b.TempDir(), "src.tar"))
	if err != nil {
		b.Fatal(err)
	}
	defer archive.Close()
	tw := tar.NewWriter(archive)
	if err := errors.Join(tw.AddFS(os.DirFS(dir)), tw.Close()); err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(filepath.Join(b.TempDir(), "image.erofs"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.SetBytes(size)
	user := userTime(b)
	for b.Loop() {
		if err := f.Truncate(0); err != nil {
			b.Fatal(err)
		}
		if _, err := archive.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		w, err := NewWriter(f, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := FromTar(w, archive, TarOptions{OCI: true}); err != nil {
			b.Fatal(err)
		}
		finish(b, w)
	}
	user = userTime(b) - user
	b.ReportMetric(user.Seconds()*(1<<30)/float64(size)/float64(b.N), "user-s/GiB")
}
