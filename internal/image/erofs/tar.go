package erofs

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TarOptions say what kind of archive is read or written.
type TarOptions struct {
	// OCI makes the archive a layer of a container image: whiteouts and opaque
	// directories, which overlayfs keeps as devices and xattrs, are files named
	// ".wh.NAME" and ".wh..wh..opq" in it.
	OCI bool

	// MaxSize bounds what ToTar writes: the sizes of all files together, holes
	// included. Zero means 256 GiB. FromTar has the writer's bound.
	MaxSize int64
}

// Names of the OCI image specification, layer.md.
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"

	paxXattr = "SCHILY.xattr."
)

// FromTar adds all that is in the archive to w. Links, devices, long names,
// sparse files and xattrs are understood; xattrs in name spaces that Linux does
// not have are left out. Leading slashes are dropped from names, and a name
// with ".." is refused. A file below a symbolic link goes where the link leads
// to inside the image.
func FromTar(w *Writer, r io.Reader, o TarOptions) error {
	tr := tar.NewReader(r)
	var hidden, opaque []string
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		// Where GODEBUG asks for it, names such as "/x" are reported; tarPath sees to them.
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("read tar: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		e, err := tarEntry(w, h)
		if err != nil {
			return fmt.Errorf("read tar: %q: %w", h.Name, err)
		}
		if o.OCI {
			if err := w.charge(len(e.Path)); err != nil { // the lists grow, too
				return fmt.Errorf("read tar: %w", err)
			}
			dir, name := path.Split(e.Path)
			switch {
			case name == whiteoutOpaque:
				opaque = append(opaque, path.Clean(dir))
				continue
			case strings.HasPrefix(name, whiteoutMeta): // of aufs
				continue
			case strings.HasPrefix(name, whiteoutPrefix):
				name := strings.TrimPrefix(name, whiteoutPrefix)
				if err := checkName(name); err != nil {
					return fmt.Errorf("read tar: whiteout %q: %w", h.Name, err)
				}
				hidden = append(hidden, dir+name)
				continue
			}
		}
		if err := w.Add(e, tr); err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
	}
	return addWhiteouts(w, hidden, opaque)
}

// addWhiteouts comes last: whatever their place in the archive, whiteouts mean
// the layers below and never what the layer itself brings. A directory that is
// both hidden and there replaces the one below.
func addWhiteouts(w *Writer, hidden, opaque []string) error {
	for _, p := range hidden {
		switch n := w.lookup(p); {
		case n == nil:
			e := Entry{Path: p, Mode: unix.S_IFCHR, MTime: w.opts.BuildTime}
			if err := w.Add(e, nil); err != nil {
				return fmt.Errorf("read tar: %w", err)
			}
		case n.dir != nil:
			opaque = append(opaque, p)
		}
	}
	for _, p := range opaque {
		p, err := checkPath(p)
		if err != nil {
			return fmt.Errorf("read tar: opaque directory: %w", err)
		}
		if n := w.lookup(p); n != nil && n.dir == nil {
			return fmt.Errorf("read tar: opaque directory %q: %w", p, syscall.ENOTDIR)
		}
		d, err := w.dir(p)
		if err != nil {
			return fmt.Errorf("read tar: opaque directory %q: %w", p, err)
		}
		xattrs := maps.Clone(d.xattrs)
		if xattrs == nil {
			xattrs = make(map[string][]byte)
		}
		xattrs[xattrOpaque] = []byte("y")
		d.xattrs = xattrs
	}
	return nil
}

// tarEntry turns a header into an entry.
func tarEntry(w *Writer, h *tar.Header) (Entry, error) {
	mode, ok := tarMode(h.Typeflag)
	if !ok {
		return Entry{}, fmt.Errorf("type %q is not supported", h.Typeflag)
	}
	name, err := tarPath(w, h.Name)
	if err != nil {
		return Entry{}, err
	}
	if h.Typeflag == tar.TypeLink {
		link, err := tarPath(w, h.Linkname)
		return Entry{Path: name, Link: link}, err
	}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > math.MaxUint32 || int64(h.Gid) > math.MaxUint32 {
		return Entry{}, fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	e := Entry{
		Path:  name,
		Mode:  mode | uint32(h.Mode)&0o7777,
		UID:   uint32(h.Uid),
		GID:   uint32(h.Gid),
		MTime: h.ModTime,
	}
	switch mode {
	case unix.S_IFREG:
		e.Size = h.Size
	case unix.S_IFLNK:
		e.Target = h.Linkname
	case unix.S_IFCHR, unix.S_IFBLK:
		if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor > math.MaxUint32 || h.Devminor > math.MaxUint32 {
			return Entry{}, fmt.Errorf("device %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		e.Rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if _, _, known := splitXattr(name); !ok || !known {
			continue
		}
		if e.Xattrs == nil {
			e.Xattrs = make(map[string][]byte)
		}
		e.Xattrs[name] = []byte(value)
	}
	return e, nil
}

// tarMode returns the type of a file as Linux has it.
func tarMode(flag byte) (mode uint32, ok bool) {
	switch flag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeLink:
		return unix.S_IFREG, true
	case tar.TypeSymlink:
		return unix.S_IFLNK, true
	case tar.TypeChar:
		return unix.S_IFCHR, true
	case tar.TypeBlock:
		return unix.S_IFBLK, true
	case tar.TypeDir:
		return unix.S_IFDIR, true
	case tar.TypeFifo:
		return unix.S_IFIFO, true
	}
	return 0, false
}

// tarPath makes a name of an archive a path of the image.
func tarPath(w *Writer, name string) (string, error) {
	if len(name) > maxPath {
		return "", fmt.Errorf("name of %d bytes, at most %d are possible", len(name), maxPath)
	}
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", errors.New(`the name leads out of the archive with ".."`)
	}
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	if clean == "" {
		return ".", nil
	}
	return w.resolve(clean)
}

// ToTar writes an image as a tar archive that has all its attributes, sorted;
// the same image gives the same bytes. Sockets are left out, as tar has none.
func ToTar(im *Image, out io.Writer, o TarOptions) error {
	tw := tar.NewWriter(out)
	left := cmp.Or(o.MaxSize, defaultMaxSize)
	err := im.Walk(func(e Entry, open func() *io.SectionReader) error {
		if e.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return nil
		}
		if e.Link == "" {
			left -= e.Size
		}
		if left < 0 {
			return fmt.Errorf("write tar: %q: the image holds more than %d bytes", e.Path, cmp.Or(o.MaxSize, defaultMaxSize))
		}
		if err := writeTar(tw, &e, open, o); err != nil {
			return fmt.Errorf("write tar: %q: %w", e.Path, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return nil
}

func writeTar(tw *tar.Writer, e *Entry, open func() *io.SectionReader, o TarOptions) error {
	dir, name := path.Split(e.Path)
	if o.OCI && strings.HasPrefix(name, whiteoutPrefix) {
		return errors.New("an OCI layer cannot hold a file of this name")
	}
	if o.OCI && e.Link == "" && e.IsWhiteout() {
		return tw.WriteHeader(whiteoutHeader(dir + whiteoutPrefix + name))
	}
	h := &tar.Header{
		Name:    e.Path,
		Mode:    int64(e.Mode & 0o7777),
		Uid:     int(e.UID),
		Gid:     int(e.GID),
		ModTime: e.MTime,
	}
	if e.MTime.Nanosecond() != 0 {
		h.Format = tar.FormatPAX
	}
	opaque := o.OCI && e.IsOpaque()
	switch {
	case e.Link != "":
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: e.Path, Linkname: e.Link, ModTime: time.Unix(0, 0)})
	case open != nil:
		h.Typeflag = tar.TypeReg
		h.Size = e.Size
	case e.Mode&unix.S_IFMT == unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case e.Mode&unix.S_IFMT == unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		h.Linkname = e.Target
	case e.Mode&unix.S_IFMT == unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		h.Typeflag = tar.TypeChar
		if e.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor = int64(unix.Major(e.Rdev))
		h.Devminor = int64(unix.Minor(e.Rdev))
	}
	for name, value := range e.Xattrs {
		if opaque && name == xattrOpaque {
			continue
		}
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords[paxXattr+name] = string(value)
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if open != nil {
		if _, err := io.Copy(tw, open()); err != nil {
			return err
		}
	}
	if opaque {
		return tw.WriteHeader(whiteoutHeader(path.Join(e.Path, whiteoutOpaque)))
	}
	return nil
}

func whiteoutHeader(name string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, ModTime: time.Unix(0, 0)}
}
