package template

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
)

// The memory of a template is too large to be read at every start. It is
// compared with its digest when it was made and when a stamp says that it may
// have changed since: the file is another, its times are (a write changes both),
// or the host was started anew, so that it came from the disk. In between it is
// the page cache's, like every other file that programs run from.

// stamp says which file was compared with its digest.
type stamp struct {
	Boot   string `json:"boot"` // random(4): changes when the host starts
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`
	MTime  int64  `json:"mtime"` // ns since 1970
	CTime  int64  `json:"ctime"`
}

func stampOf(f *os.File) (stamp, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return stamp{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return stamp{}, err
	}
	return stamp{
		strings.TrimSpace(string(boot)), st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano(),
	}, nil
}

// makeMemory makes the file of a memory with size bytes.
func makeMemory(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// sealMemory makes the memory in dir, which nobody has open any more, read-only
// and returns its sum.
func sealMemory(dir string) (Sum, error) {
	f, err := os.OpenFile(filepath.Join(dir, memoryFile), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return Sum{}, err
	}
	defer f.Close()
	if err := takeBack(f); err != nil {
		return Sum{}, err
	}
	sum, err := digest(f, true)
	if err != nil {
		return Sum{}, err
	}
	return sum, writeStamp(dir, f)
}

// takeBack makes f a file that nobody writes and that only its user reads; as root, who
// lent it to a VMM with a user of its own, also those of all machines.
func takeBack(f *os.File) error {
	if os.Geteuid() != 0 {
		return f.Chmod(0o400)
	}
	// A container may have no such group: then VMMs are root's there.
	f.Chown(0, confine.Group)
	return f.Chmod(0o440)
}

func writeStamp(dir string, f *os.File) error {
	st, err := stampOf(f)
	if err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, verifiedFile), st)
}

// verifyMemory reports whether the memory in dir is what want is of.
func verifyMemory(dir string, want Sum) error {
	f, err := os.OpenFile(filepath.Join(dir, memoryFile), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := stampOf(f)
	if err != nil {
		return err
	}
	if now.Size != want.Size {
		return fmt.Errorf("its memory has %d bytes; want %d", now.Size, want.Size)
	}
	var then stamp
	data, err := readFile(filepath.Join(dir, verifiedFile), maxRecord)
	if err == nil && json.Unmarshal(data, &then) == nil && then == now {
		return nil
	}
	sum, err := digest(f, false)
	if err != nil {
		return err
	}
	if sum != want {
		return fmt.Errorf("its memory has the digest %.12s; want %.12s", sum.SHA256, want.SHA256)
	}
	// In a directory that cannot be written it is compared each time.
	writeStamp(dir, f)
	return nil
}

const (
	pageSize = 4096
	// segment is what one goroutine reads at a time, in bytes.
	segment = 16 << 20
)

// digest returns the size of f and a SHA-256 of its pages that are not zero,
// with their places, so that it is the same however the holes lie. With punch
// it makes holes of the pages that are zero.
//
// The digest is that of the digests of all segments in their order, which can
// be computed by several CPUs at once.
func digest(f *os.File, punch bool) (Sum, error) {
	fi, err := f.Stat()
	if err != nil {
		return Sum{}, err
	}
	n := int((fi.Size() + segment - 1) / segment)
	sums := make([][sha256.Size]byte, n)
	errs := make([]error, n)
	next := make(chan int, n)
	for i := range n {
		next <- i
	}
	close(next)
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			buf := make([]byte, 256*pageSize)
			for i := range next {
				begin := int64(i) * segment
				sums[i], errs[i] = digestSegment(f, begin, min(begin+segment, fi.Size()), buf, punch)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return Sum{}, err
	}
	all := sha256.New()
	for _, sum := range sums {
		all.Write(sum[:])
	}
	return Sum{fi.Size(), hex.EncodeToString(all.Sum(nil))}, nil
}

var zeroPage [pageSize]byte

func digestSegment(f *os.File, begin, end int64, buf []byte, punch bool) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	for off := begin; off < end; {
		data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO || err == nil && data >= end {
			break
		}
		if err != nil {
			return sum, fmt.Errorf("find the data of the memory: %w", err)
		}
		// A file system may know holes of other sizes than pages.
		off = data &^ (pageSize - 1)
		n, err := f.ReadAt(buf[:min(int64(len(buf)), end-off)], off)
		if err != nil && err != io.EOF || n == 0 {
			return sum, fmt.Errorf("read the memory: %w", err)
		}
		for page := 0; page < n; page += pageSize {
			at := off + int64(page)
			p := buf[page:min(page+pageSize, n)]
			if !bytes.Equal(p, zeroPage[:len(p)]) {
				var place [8]byte
				binary.LittleEndian.PutUint64(place[:], uint64(at))
				h.Write(place[:])
				h.Write(p)
				continue
			}
			if punch {
				// Only to save space.
				unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, int64(len(p)))
			}
		}
		off += int64(n)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
