package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a guest frees is to be free on the host, too. The mount option discard does that
// with each deletion, and made removing a tree of small files six times slower. So the
// agent looks now and then whether enough was freed, and tells the disks all at once.
const (
	giveBackInterval = 10 * time.Second
	giveBackBytes    = 32 << 20
)

// giver gives what a file system has freed back to the host.
type giver struct {
	dir  *os.File
	most uint64 // bytes that were in use since the last time
}

// openDisks opens the mounted disks of the machine that it writes.
func openDisks(dirs ...string) ([]*giver, error) {
	var disks []*giver
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // a machine without
		}
		if err != nil {
			return nil, err
		}
		disks = append(disks, &giver{dir: f})
	}
	return disks, nil
}

// writtenDisks returns where the disks are mounted that a machine with so many volumes
// writes.
func writtenDisks(volumes int, keeps bool) []string {
	dirs := []string{scratchDir}
	if keeps {
		dirs = append(dirs, keepDir)
	}
	for i := range volumes {
		dirs = append(dirs, volumeDir(i))
	}
	return dirs
}

// giveBack gives back what is freed on disks, for as long as the machine lives.
func giveBack(disks []*giver) {
	for range time.Tick(giveBackInterval) {
		for _, d := range disks {
			d.look()
		}
	}
}

// look gives back what was freed if it is worth that.
func (g *giver) look() {
	used, ok := g.used()
	if !ok {
		return
	}
	if used+giveBackBytes > g.most {
		g.most = max(g.most, used)
		return
	}
	if g.trim() == nil {
		g.most = used
	}
}

// used returns how many bytes of the file system are in use.
func (g *giver) used() (uint64, bool) {
	var st unix.Statfs_t
	if unix.Fstatfs(int(g.dir.Fd()), &st) != nil {
		return 0, false
	}
	return (st.Blocks - st.Bfree) * uint64(st.Bsize), true
}

// trimRange is struct fstrim_range of linux/fs.h.
type trimRange struct{ start, length, minimum uint64 }

const fitrim = 0xc0185879 // FITRIM of linux/fs.h

// trim has the file system tell its disk what of it is free.
func (g *giver) trim() error {
	r := trimRange{length: ^uint64(0), minimum: 64 << 10}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, g.dir.Fd(), fitrim, uintptr(unsafe.Pointer(&r)))
	if errno != 0 {
		return errno
	}
	return nil
}

// volumeDir is where a volume's disk is mounted.
func volumeDir(i int) string { return filepath.Join(volumesDir, strconv.Itoa(i)) }
