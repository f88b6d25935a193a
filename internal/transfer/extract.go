// Package transfer carries files between the host and a machine, as tar streams.
//
// Pack reads a directory that may be live in a machine, whose guest exchanges what is in
// it meanwhile. Extract writes what a guest sends, which is hostile: nothing is written
// outside of the target or through a link, and devices and setuid bits are not kept.
package transfer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// maxSkipped bounds how many files that were left out are named.
const maxSkipped = 20

// Extract writes the tar stream of a guest below root, the entry name as newName. It
// returns what it left out.
func Extract(root *os.Root, r io.Reader, name, newName string) (skipped []string, err error) {
	skip := func(entry, why string) {
		if len(skipped) < maxSkipped {
			skipped = append(skipped, termsafe.Quote(entry)+": "+why)
		}
	}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return skipped, nil
		}
		if err != nil {
			return skipped, fmt.Errorf("read what the machine sent: %w", err)
		}
		clean := path.Clean(h.Name)
		rest, ok := strings.CutPrefix(clean, name)
		if !ok || rest != "" && rest[0] != '/' || !filepath.IsLocal(clean) {
			skip(h.Name, "it was not asked for")
			continue
		}
		to := newName + rest
		if link, err := throughLink(root, to); err != nil {
			return skipped, quoteNames(err)
		} else if link != "" {
			skip(h.Name, "it is behind a link")
			continue
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.Mkdir(to, 0o755)
			if errors.Is(err, fs.ErrExist) {
				err = nil
			}
		case tar.TypeReg:
			err = extractFile(root, tr, to, fs.FileMode(h.Mode)&0o755|0o600)
		case tar.TypeSymlink:
			// Whoever follows it later must not leave what was copied.
			if target := path.Join(path.Dir(to), h.Linkname); path.IsAbs(h.Linkname) || upAfterDown(h.Linkname) ||
				target != newName && !strings.HasPrefix(target, newName+"/") {
				skip(h.Name, "a link that leads out")
				continue
			}
			err = root.Symlink(h.Linkname, to)
		default:
			skip(h.Name, "neither a file, nor a directory, nor a link")
			continue
		}
		if err != nil {
			return skipped, quoteNames(err)
		}
	}
}

// upAfterDown reports whether a link goes up behind a name: where that is depends on what
// is there, another link of the same guest's say.
func upAfterDown(link string) bool {
	named := false
	for part := range strings.SplitSeq(link, "/") {
		if part == ".." && named {
			return true
		}
		named = named || part != ".." && part != "." && part != ""
	}
	return false
}

// throughLink returns the first directory on the way to name that is a symbolic link: of
// what comes out of a machine nothing is written through one. root alone would follow
// those that stay within it, to files that were there before.
func throughLink(root *os.Root, name string) (string, error) {
	for i, c := range name {
		if c != '/' {
			continue
		}
		fi, err := root.Lstat(name[:i])
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if fi.Mode()&fs.ModeSymlink != 0 {
			return name[:i], nil
		}
	}
	return "", nil
}

func extractFile(root *os.Root, r io.Reader, name string, mode fs.FileMode) error {
	// A link that stands there is not followed to what it names.
	if fi, err := root.Lstat(name); err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("%s is there already, and no file", termsafe.Quote(name))
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// quoteNames returns err with the names of files in it quoted. A guest has chosen them, and
// they may hold line breaks, behind which it would speak in mayfly's name.
func quoteNames(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s %s: %w", e.Op, termsafe.Quote(e.Path), e.Err)
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return fmt.Errorf("%s %s %s: %w", e.Op, termsafe.Quote(e.Old), termsafe.Quote(e.New), e.Err)
	}
	return err
}
