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
			return addFile(ctx, tw, f, source, name, fi)
		}
		root, err := os.OpenRoot(source)
		if err != nil {
			return err
		}
		defer root.Close()
		return addDir(ctx, tw, root, name, fi, 0)
	}()
	if err != nil {
		return quoteNames(err)
	}
	return tw.Close()
}

// PackIn writes what is called name in root under that name. A link is written as a link.
func PackIn(ctx context.Context, w io.Writer, root *os.Root, name string) error {
	tw := tar.NewWriter(w)
	fi, err := root.Lstat(name)
	if err == nil {
		err = addTree(ctx, tw, root, name, name, fi, 0)
	}
	if err != nil {
		return quoteNames(err)
	}
	return tw.Close()
}

// addTree writes what is called file in root as name, which is so many directories deep.
func addTree(ctx context.Context, tw *tar.Writer, root *os.Root, file, name string, fi fs.FileInfo, depth int) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	switch {
	case fi.Mode().IsRegular():
		f, err := root.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		return addFile(ctx, tw, f, name, name, fi)
	case fi.Mode()&fs.ModeSymlink != 0:
		link, err := root.Readlink(file)
		if err != nil {
			return err
		}
		return writeHeader(tw, name, link, fi)
	case !fi.IsDir():
		return nil
	}
	// Opened one in the other: a path would be walked from its beginning each time.
	sub, err := root.OpenRoot(file)
	if err != nil {
		return err
	}
	defer sub.Close()
	if now, err := sub.Stat("."); err != nil || !os.SameFile(fi, now) {
		return changed(name, err)
	}
	return addDir(ctx, tw, sub, name, fi, depth)
}

// addDir writes the directory root and what is in it.
func addDir(ctx context.Context, tw *tar.Writer, root *os.Root, name string, fi fs.FileInfo, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s is deeper than %d directories", termsafe.Quote(shorten(name)), maxDepth)
	}
	if err := writeHeader(tw, name, "", fi); err != nil {
		return err
	}
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		fi, err := root.Lstat(n)
		if err != nil {
			return err
		}
		if err := addTree(ctx, tw, root, n, path.Join(name, n), fi, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// changed is the error of a file that is another one than a moment ago.
func changed(file string, err error) error {
	return fmt.Errorf("%s changed while it was read: %w", termsafe.Quote(file), cmp.Or(err, errors.New("it is another file now")))
}

// addFile writes the file f, which is to be that of fi, and closes it. What is no file is
// left out.
func addFile(ctx context.Context, tw *tar.Writer, f *os.File, file, name string, fi fs.FileInfo) error {
	defer f.Close()
	if now, err := f.Stat(); err != nil || !os.SameFile(fi, now) {
		return changed(file, err)
	}
	if !fi.Mode().IsRegular() {
		return nil
	}
	if err := writeHeader(tw, name, "", fi); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	if _, err := io.CopyN(tw, f, fi.Size()); err != nil {
		return changed(file, cmp.Or(context.Cause(ctx), err))
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
