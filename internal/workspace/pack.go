package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/erofs"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// maxNotes is how many paths are named one by one, in notes and in errors.
const maxNotes = 8

// maxPatterns is for how many paths that may not be read the user is told what leaves them out.
const maxPatterns = 3

// maxContent bounds the sizes of all files, holes included. What the image
// itself may take is plan.DiskSize; holes take nothing.
const maxContent = 1 << 44

// PackOptions says how a workspace is packed.
type PackOptions struct {
	UID, GID int      // owner of everything in the copy: the guest's user
	Exclude  []string // patterns, see CheckExclude
	Git      *CarriedGit
	Warn     func(Note) // hears what was skipped; at most a few notes, may be nil
}

// CarriedGit is a directory that a copy has as .git at its top, in place of what is there. It
// is not among the entries of the manifest, and the host never gets it as files.
type CarriedGit struct {
	Dir    string
	Prefix string // of the workspace in the working tree of its repository, with a slash at its end
}

// Pack copies the directory dir into out as an EROFS image of plan.DiskSize
// (sparse), and returns what it saw.
//
// The image's root is dir itself. Files ignored by git are included, and so
// are other file systems mounted in dir, except the kernel's own such as
// /proc. Hard links stay hard links, times stay exact, setuid, setgid and
// sticky bits are dropped; sockets, pipes and devices are skipped with a note.
// No symbolic link is followed below dir. What may not be read is an error,
// since a copy with holes would look to the guest as if files were deleted.
//
// out is empty, or one hole of plan.DiskSize: a machine that boots meanwhile
// may have it open already.
func Pack(ctx context.Context, dir string, out *os.File, opts PackOptions) (*Manifest, error) {
	ex, err := parseExcludes(opts.Exclude)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Root: dir, Started: time.Now().UnixNano()}
	if opts.Git != nil {
		m.GitCarried, m.GitPrefix = true, opts.Git.Prefix
	}
	root, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("pack workspace: %w", err)
	}
	defer root.Close()

	fi, err := out.Stat()
	if err != nil {
		return nil, fmt.Errorf("pack workspace: %w", err)
	}
	w, err := erofs.NewWriter(out, erofs.Options{
		MaxSize: maxContent, FileSize: fi.Size(),
		Ended: func() error { return context.Cause(ctx) }, // one file can take minutes
	})
	if err != nil {
		return nil, fmt.Errorf("pack workspace: %w", err)
	}
	p := &packer{
		opts: opts, exclude: ex, manifest: m,
		root: int(root.Fd()), image: w,
		links: make(map[[2]uint64]string),
	}
	err = p.all(ctx)
	if err == nil {
		m.ImageSize, err = finish(w, out)
	}
	switch {
	case errors.Is(err, unix.ENOSPC):
		return nil, fault.New(fault.NoSpaceForWorkspace, fault.Args{"dir": dir}, "pack workspace %s: %w", termsafe.Quote(dir), err)
	case err != nil:
		return nil, fmt.Errorf("pack workspace %s: %w", termsafe.Quote(dir), err)
	}
	slices.SortFunc(m.Entries, func(a, b Entry) int { return comparePaths(a.Path, b.Path) })
	return m, nil
}

// finish completes the image, gives the file the size of every disk and
// returns that of the image.
func finish(w *erofs.Writer, out *os.File) (int64, error) {
	stats, err := w.Finish()
	if err != nil {
		return 0, err
	}
	if stats.Size > plan.DiskSize {
		args := fault.Args{"bytes": strconv.FormatInt(stats.Size, 10), "limit": strconv.FormatInt(plan.DiskSize, 10)}
		return 0, fault.New(fault.WorkspaceTooLarge, args, "it needs %s, and a disk has %s", formatSize(stats.Size), formatSize(plan.DiskSize))
	}
	return stats.Size, out.Truncate(plan.DiskSize)
}

// packer is one run of Pack.
type packer struct {
	opts     PackOptions
	exclude  excludes
	manifest *Manifest
	root     int // open directory
	image    *erofs.Writer

	links      map[[2]uint64]string // device and inode of files with several names
	bytes      int64                // of the manifest's paths and targets
	notes      int
	unreadable []string // the first maxNotes of them
	refused    int      // all of them
}

func (p *packer) all(ctx context.Context) error {
	var st unix.Stat_t
	if err := unix.Fstat(p.root, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if err := p.dir(ctx, ".", uint64(st.Dev), 0); err != nil {
		return err
	}
	if p.opts.Git != nil {
		if err := p.carriedGit(ctx, p.opts.Git.Dir); err != nil {
			return err
		}
	}
	if more := p.notes - maxNotes; more > 0 && p.opts.Warn != nil {
		p.opts.Warn(Note{Text: fmt.Sprintf("%d more like these", more)})
	}
	return p.permission()
}

// permission returns the error of all paths that may not be read, or nil.
func (p *packer) permission() error {
	if p.refused == 0 {
		return nil
	}
	args := fault.Args{"path": p.unreadable[0], "count": strconv.Itoa(p.refused)}
	for i, path := range p.unreadable {
		if pattern := literalPattern(path); p.refused <= maxPatterns {
			switch i {
			case 0:
				args["pattern1"] = pattern
			case 1:
				args["pattern2"] = pattern
			case 2:
				args["pattern3"] = pattern
			}
		}
		p.unreadable[i] = termsafe.Quote(path)
	}
	list := strings.Join(p.unreadable, ", ")
	if more := p.refused - len(p.unreadable); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return fault.New(fault.WorkspaceFilesUnreadable, args, "no permission to read %s: %w", list, fs.ErrPermission)
}

func (p *packer) note(path, format string, args ...any) {
	p.notes++
	if p.notes <= maxNotes && p.opts.Warn != nil {
		p.opts.Warn(Note{path, fmt.Sprintf(format, args...)})
	}
}

// outcome sorts the error of an access to one path: refused paths are
// collected, vanished ones are as if they had never been there.
func (p *packer) outcome(path, what string, err error) error {
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, fs.ErrPermission):
		p.refused++
		if len(p.unreadable) < maxNotes {
			p.unreadable = append(p.unreadable, path)
		}
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, termsafe.Quote(path), err)
}

// dir packs a directory: itself, what is in it, then what is below. One
// directory is open at a time, so depth costs no file descriptors.
func (p *packer) dir(ctx context.Context, path string, dev uint64, depth int) error {
	if depth > maxDepth {
		return fault.New(fault.WorkspaceTooDeep, fault.Args{"path": path, "limit": strconv.Itoa(maxDepth)}, "%s: more than %d directories deep", termsafe.Quote(path), maxDepth)
	}
	fd, err := openBeneath(p.root, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		p.note(path, "changed while it was copied; left out")
		return nil
	}
	if err != nil {
		return p.outcome(path, "open", err)
	}
	d := os.NewFile(uintptr(fd), path)
	defer d.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", termsafe.Quote(path), err)
	}
	if err := p.add(path, &st, ""); err != nil {
		return err
	}
	if uint64(st.Dev) != dev && kernelFS(fd) {
		p.note(path, "a file system of the kernel is mounted there; left empty")
		return nil
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list %s: %w", termsafe.Quote(path), err)
	}
	slices.Sort(names)
	var dirs []string
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		isDir, err := p.child(ctx, fd, joinPath(path, name), name)
		if err != nil {
			return err
		}
		if isDir {
			dirs = append(dirs, name)
		}
	}
	d.Close()
	for _, name := range dirs {
		if err := p.dir(ctx, joinPath(path, name), uint64(st.Dev), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// child packs one name of an open directory, unless it is a directory.
func (p *packer) child(ctx context.Context, dir int, path, name string) (isDir bool, err error) {
	if len(path) > maxPath {
		return false, fault.New(fault.WorkspacePathTooLong, fault.Args{"path": path}, "a path of %d bytes is too long: %s...", len(path), termsafe.Quote(path[:64]))
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, p.outcome(path, "stat", err)
	}
	kind := kindOf(&st)
	if p.exclude.match(path, kind == Dir) || path == ".git" && p.opts.Git != nil {
		return false, nil
	}
	switch kind {
	case Dir:
		return true, nil
	case File:
		return false, p.file(ctx, dir, path, name)
	case Symlink:
		target, err := readlinkat(dir, name)
		if errors.Is(err, unix.EINVAL) {
			p.note(path, "changed while it was copied; left out")
			return false, nil
		}
		if err != nil {
			return false, p.outcome(path, "read link", err)
		}
		return false, p.add(path, &st, target)
	}
	p.note(path, "%s; left out", specialName(st.Mode))
	return false, nil
}

// carriedGit packs the directory git, which mayfly made, as .git.
func (p *packer) carriedGit(ctx context.Context, git string) error {
	return filepath.WalkDir(git, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return err
		}
		e := p.entry(".git"+strings.TrimPrefix(path, git), &st, "")
		if d.IsDir() {
			return p.image.Add(e, nil)
		}
		return p.image.AddFile(e, f)
	})
}

// file packs a regular file. One that changes size meanwhile is tried once
// more.
func (p *packer) file(ctx context.Context, dir int, path, name string) error {
	for range 2 {
		// O_NONBLOCK: it may have become a pipe, whose opening would block.
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return p.outcome(path, "open", err)
		}
		f := os.NewFile(uintptr(fd), path)
		err = p.content(f, path)
		f.Close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, erofs.ErrChanged) {
			return err
		}
	}
	p.note(path, "keeps changing; left out")
	return nil
}

// content adds an open regular file.
func (p *packer) content(f *os.File, path string) error {
	var before, after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &before); err != nil {
		return fmt.Errorf("stat %s: %w", termsafe.Quote(path), err)
	}
	if kindOf(&before) != File {
		return erofs.ErrChanged
	}
	key := [2]uint64{uint64(before.Dev), before.Ino}
	if before.Nlink > 1 {
		if first, ok := p.links[key]; ok {
			if err := p.record(path, &before, ""); err != nil {
				return err
			}
			return p.image.Add(erofs.Entry{Path: path, Link: first}, nil)
		}
	}
	if p.refused > 0 {
		return nil // there will be no image; only the list of refused files is wanted
	}
	if err := p.image.AddFile(p.entry(path, &before, ""), f); err != nil {
		return err
	}
	if before.Nlink > 1 {
		p.links[key] = path
	}
	if err := p.record(path, &before, ""); err != nil {
		return err
	}
	// The identity from before is kept: what is on the host now may differ
	// from the copy, and then it has another identity.
	if err := unix.Fstat(int(f.Fd()), &after); err == nil && identity(&after) != identity(&before) {
		p.note(path, "changed while it was copied; the copy may be half old, half new")
	}
	return nil
}

// add adds a directory or a symbolic link.
func (p *packer) add(path string, st *unix.Stat_t, target string) error {
	if err := p.image.Add(p.entry(path, st, target), nil); err != nil {
		return err
	}
	if path == "." {
		return nil
	}
	return p.record(path, st, target)
}

// entry returns how a host file looks in the image.
func (p *packer) entry(path string, st *unix.Stat_t, target string) erofs.Entry {
	e := erofs.Entry{
		Path:   path,
		Mode:   st.Mode&unix.S_IFMT | st.Mode&0o777,
		UID:    uint32(p.opts.UID),
		GID:    uint32(p.opts.GID),
		MTime:  time.Unix(0, unix.TimespecToNsec(st.Mtim)),
		Target: target,
	}
	if kindOf(st) == File {
		e.Size = st.Size
	}
	return e
}

func (p *packer) record(path string, st *unix.Stat_t, target string) error {
	e := Entry{Path: path, Kind: kindOf(st), Mode: st.Mode & 0o7777, Target: target, ID: identity(st)}
	if e.Kind == File {
		e.Size = st.Size
	}
	p.manifest.Entries = append(p.manifest.Entries, e)
	p.bytes += int64(len(path) + len(target))
	return checkTotal(len(p.manifest.Entries), p.bytes, maxEntryBytes)
}

func specialName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFIFO:
		return "a named pipe"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return "a special file"
}

// kernelFS reports whether an open directory is on a file system that shows
// the kernel's state: endless to copy, and nobody's work.
func kernelFS(fd int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return false
	}
	switch uint32(fs.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.DEVPTS_SUPER_MAGIC:
		return true
	}
	return false
}
