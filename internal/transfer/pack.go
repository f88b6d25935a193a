package transfer

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Pack writes the file or directory source as name. Links are written as links. The
// directory may be live in a machine, whose guest exchanges what is in it meanwhile:
// nothing outside of it is read, whatever links come to stand there.
func Pack(ctx context.Context, w io.Writer, source, name string, fi fs.FileInfo) error {
	tw := tar.NewWriter(w)
	err := func() error {
		if !fi.IsDir() {
			// A link that the user names is followed.
			f, err := os.OpenFile(source, os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			return addFile(tw, f, source, name, fi)
		}
		root, err := os.OpenRoot(source)
		if err != nil {
			return err
		}
		defer root.Close()
		return addTree(ctx, tw, root, ".", name, fi)
	}()
	if err != nil {
		return quoteNames(err)
	}
	return tw.Close()
}

// addTree writes what is at file below root as name.
func addTree(ctx context.Context, tw *tar.Writer, root *os.Root, file, name string, fi fs.FileInfo) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	switch {
	case fi.Mode().IsRegular():
		f, err := root.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		return addFile(tw, f, file, name, fi)
	case fi.Mode()&fs.ModeSymlink != 0:
		link, err := root.Readlink(file)
		if err != nil {
			return err
		}
		return writeHeader(tw, name, link, fi)
	case !fi.IsDir():
		return nil
	}
	if err := writeHeader(tw, name, "", fi); err != nil {
		return err
	}
	d, err := root.Open(file)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		fi, err := root.Lstat(path.Join(file, n))
		if err != nil {
			return err
		}
		if err := addTree(ctx, tw, root, path.Join(file, n), path.Join(name, n), fi); err != nil {
			return err
		}
	}
	return nil
}

// addFile writes the file f, which is to be that of fi, and closes it. What is no file is
// left out.
func addFile(tw *tar.Writer, f *os.File, file, name string, fi fs.FileInfo) error {
	defer f.Close()
	changed := func(err error) error {
		return fmt.Errorf("%s changed while it was read: %w", termsafe.Quote(file), err)
	}
	if now, err := f.Stat(); err != nil || !os.SameFile(fi, now) {
		return changed(cmp.Or(err, errors.New("it is another file now")))
	}
	if !fi.Mode().IsRegular() {
		return nil
	}
	if err := writeHeader(tw, name, "", fi); err != nil {
		return err
	}
	if _, err := io.CopyN(tw, f, fi.Size()); err != nil {
		return changed(err)
	}
	return nil
}

func writeHeader(tw *tar.Writer, name, link string, fi fs.FileInfo) error {
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return err
	}
	// Who it is here says nothing there.
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "", ""
	h.Format = tar.FormatPAX
	return tw.WriteHeader(h)
}
