package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// scratchVersion goes up when the options of mkfs.ext4 below change.
const scratchVersion = 1

func (s *Store) scratchPath() string {
	return s.path(dirScratch, "v"+strconv.Itoa(scratchVersion)+".ext4")
}

// ensureScratch makes the empty file system that each machine gets a copy of.
func (s *Store) ensureScratch(ctx context.Context, report *reporter) error {
	path := s.scratchPath()
	if ok, err := exists(path); ok || err != nil {
		return err
	}
	release, err := s.acquire(ctx, "scratch", true, report.waiting("scratch"))
	if err != nil {
		return err
	}
	defer release()
	if ok, err := exists(path); ok || err != nil {
		return err
	}
	report.event(PhaseBuild, "scratch", "making an empty file system")
	dir, remove, err := s.temp()
	if err != nil {
		return err
	}
	defer remove()
	temp := filepath.Join(dir, "scratch")
	if err := mkfs(ctx, temp); err != nil {
		return s.explainSpace(err, space{store: 16 << 20})
	}
	if err := os.Chmod(temp, 0o444); err != nil {
		return err
	}
	if err := atomicfile.Publish(temp, path); err != nil {
		return err
	}
	report.event(PhaseDone, "scratch", "")
	return nil
}

// mkfs makes an ext4 file system of plan.DiskSize in a few megabytes.
func mkfs(ctx context.Context, path string) error {
	return makeExt4(ctx, path, plan.DiskSize,
		// One inode per 32 KiB: 2 million, enough for node_modules.
		"-i", "32768",
		// A journal and checksums would protect contents that are thrown
		// away after a crash. Without them the guest also has no inode
		// tables to initialize in the background: mkfs leaves them as
		// holes, which read as zeros.
		"-O", "^has_journal,^resize_inode,^metadata_csum,^uninit_bg",
		"-E", "lazy_itable_init=0,packed_meta_blocks=1,hash_seed=6d617966-6c79-4000-8000-000000000001",
		"-U", "6d617966-6c79-4000-8000-000000000000")
}

// MakeVolume makes a disk at path, which must not exist, with an empty ext4 file system
// of size bytes that outlives crashes of its guest, and that a kernel can grow to
// plan.DiskSize while it is mounted.
func MakeVolume(ctx context.Context, path string, size int64) error {
	// Under another name until it is whole: what is there is never made again.
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make a disk: %w", err)
	}
	extended := "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
	if size < plan.DiskSize {
		extended += fmt.Sprintf(",resize=%d", int64(plan.DiskSize)>>12)
	}
	err := makeExt4(ctx, temp, size,
		// One inode per 16 KiB, ext4's own choice: it may hold small files only.
		"-i", "16384",
		// The journal's blocks are holes until it is written.
		"-J", "size=16", "-E", extended)
	if err == nil {
		err = atomicfile.Publish(temp, path)
	}
	if err != nil {
		os.Remove(temp)
		return fmt.Errorf("make a disk: %w", err)
	}
	return nil
}

// makeExt4 makes a sparse file of plan.DiskSize with a file system of size bytes.
func makeExt4(ctx context.Context, path string, size int64, options ...string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(plan.DiskSize), f.Close()); err != nil {
		return err
	}
	args := append([]string{"-q", "-F", "-b", "4096", "-m", "0"}, options...)
	err = tool.Run(ctx, tool.Cmd{
		Name: "mkfs.ext4",
		Args: append(args, path, fmt.Sprint(size>>12)), // in blocks
		Env:  []string{"E2FSPROGS_FAKE_TIME=1754697600"},
	})
	if errors.Is(err, exec.ErrNotFound) {
		return fault.New(fault.E2fsprogsMissing, nil, "make a file system: %w", err)
	}
	return err
}

// CopySparse makes dst a copy of src, holes included. It shares the blocks
// where the file system can, and copies only what is not a hole elsewhere. dst
// must not exist.
func CopySparse(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			os.Remove(dst)
			err = fmt.Errorf("copy disk: %w", err)
		}
	}()
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return nil
	}
	if err := out.Truncate(fi.Size()); err != nil {
		return err
	}
	for off := int64(0); off < fi.Size(); {
		start, end, err := nextData(in, off)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		// os.File's copy uses copy_file_range(2) where it can.
		if _, err := in.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := out.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, end-start); err != nil {
			return err
		}
		off = end
	}
	return nil
}

// nextData returns the first range at or after off that is not a hole, or
// io.EOF if there is none.
func nextData(f *os.File, off int64) (start, end int64, err error) {
	start, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return 0, 0, io.EOF
	}
	if err != nil {
		return 0, 0, fmt.Errorf("find data: %w", err)
	}
	end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, fmt.Errorf("find holes: %w", err)
	}
	return start, end, nil
}

// checkScratch finds a scratch disk that was cut short or overwritten.
func checkScratch(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != plan.DiskSize {
		return fmt.Errorf("the scratch disk has %d bytes; want %d", fi.Size(), int64(plan.DiskSize))
	}
	const magicAt = 1024 + 0x38 // in ext4's superblock
	var magic [2]byte
	if _, err := f.ReadAt(magic[:], magicAt); err != nil {
		return err
	}
	if magic != [2]byte{0x53, 0xef} {
		return errors.New("the scratch disk is not an ext4 file system")
	}
	return nil
}
