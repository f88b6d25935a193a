package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// machine is what a guest has become by wire.Configure.
type machine struct {
	user       wire.User
	credential *syscall.Credential // the user's
	env        []string
	workspace  *workspace // nil for none
}

func credential(u wire.User) *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}
	for _, g := range u.Groups {
		c.Groups = append(c.Groups, uint32(g.GID))
	}
	return c
}

// Where things are in the initramfs, before the machine's root covers it.
const (
	scratchDir = "/mayfly/scratch"
	layersDir  = "/mayfly/layers"
	packedDir  = "/mayfly/workspace"
	rootDir    = "/mayfly/root"
)

// overlayOptions switches off what would make an upper directory more than a
// list of changed files: with redirects and metadata-only copies a change
// would refer to the lower layers. The disks are thrown away after a crash, so
// nothing is ever synced.
const overlayOptions = "redirect_dir=off,metacopy=off,index=off,xino=off,volatile"

// configure makes a machine of the guest. It runs once.
func (a *agent) configure(req *wire.Configure) wire.Configured {
	start := time.Now()
	<-a.modules
	a.mu.Lock()
	defer a.mu.Unlock()
	m, err := a.configureLocked(req)
	if err != nil {
		return wire.Configured{Error: err.Error()}
	}
	a.machine = m
	return wire.Configured{Nanos: time.Since(start).Nanoseconds()}
}

func (a *agent) configureLocked(req *wire.Configure) (*machine, error) {
	if a.modErr != nil {
		return nil, a.modErr
	}
	if a.machine != nil {
		return nil, errors.New("the machine is configured already")
	}
	// First what nothing of a user may run without.
	if err := addEntropy(req.Entropy); err != nil {
		return nil, err
	}
	if err := setTime(req.Time); err != nil {
		return nil, err
	}
	if err := mountRoot(req); err != nil {
		return nil, err
	}
	m := &machine{user: req.User, credential: credential(req.User)}
	var err error
	if req.Workspace != nil {
		if m.workspace, err = mountWorkspace(req); err != nil {
			return nil, err
		}
	}
	if err := switchRoot(); err != nil {
		return nil, err
	}
	a.warmUp()
	if err := mountRuntime(); err != nil {
		return nil, err
	}
	if err := identify(req); err != nil {
		return nil, err
	}
	if m.env, err = setUpUser(req); err != nil {
		return nil, err
	}
	return m, nil
}

// warmUp runs a program that does nothing while the machine is configured. The
// first program of a guest finds nothing in its page cache, and an emulated CPU
// has to translate all of the kernel's and the linker's way to it.
func (a *agent) warmUp() {
	const program = "/bin/true"
	go a.reaper.start(func() (int, error) {
		return syscall.ForkExec(program, []string{program}, &syscall.ProcAttr{Dir: "/"})
	})
}

// addEntropy gives the host's random bytes to the kernel and makes it use them
// at once, random(4).
func addEntropy(seed []byte) error {
	if len(seed) < 32 {
		return fmt.Errorf("%d bytes of entropy are too few", len(seed))
	}
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info := struct { // struct rand_pool_info
		bits, size int32
		data       [512]byte
	}{}
	n := copy(info.data[:], seed)
	info.bits, info.size = int32(n*8), int32(n)
	if err := ioctl(f, unix.RNDADDENTROPY, unsafe.Pointer(&info)); err != nil {
		return fmt.Errorf("add entropy: %w", err)
	}
	if err := ioctl(f, rndReseedCRNG, nil); err != nil {
		return fmt.Errorf("reseed the random generator: %w", err)
	}
	return nil
}

// rndReseedCRNG is _IO('R', 0x07) of linux/random.h.
const rndReseedCRNG = 0x5207

func ioctl(f *os.File, req uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), req, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

func setTime(nanos int64) error {
	ts := unix.NsecToTimespec(nanos)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}

// mountRoot mounts the layers and the scratch disk and, over both, the root.
func mountRoot(req *wire.Configure) error {
	bySerial, err := disks()
	if err != nil {
		return err
	}
	disk := func(serial string) (string, error) {
		dev, ok := bySerial[serial]
		if !ok {
			return "", fmt.Errorf("no disk has the serial number %s", serial)
		}
		return dev, nil
	}
	var lowers []string
	for i, serial := range req.Layers {
		dev, err := disk(serial)
		if err != nil {
			return err
		}
		dir := fmt.Sprintf("%s/%d", layersDir, i)
		if err := (mount{dev, dir, "erofs", unix.MS_RDONLY, ""}).do(); err != nil {
			return err
		}
		lowers = append(lowers, dir)
	}
	if len(lowers) == 0 {
		return errors.New("the image has no layers")
	}
	dev, err := disk(req.Scratch)
	if err != nil {
		return err
	}
	if err := (mount{dev, scratchDir, "ext4", unix.MS_NOATIME, "noinit_itable"}).do(); err != nil {
		return err
	}
	if ws := req.Workspace; ws != nil {
		dev, err := disk(ws.Serial)
		if err != nil {
			return err
		}
		if err := (mount{dev, packedDir, "erofs", unix.MS_RDONLY | nosuid, ""}).do(); err != nil {
			return err
		}
	}
	return overlay("root", lowers, rootDir, 0)
}

// overlay mounts an overlay of lowers on target with its upper directory, of
// the lower's owner and mode, under name on the scratch disk.
func overlay(name string, lowers []string, target string, flags uintptr) error {
	upper := filepath.Join(scratchDir, name, "upper")
	work := filepath.Join(scratchDir, name, "work")
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// The root of an overlay takes its owner, mode and times from the upper.
	var st unix.Stat_t
	if err := unix.Stat(lowers[0], &st); err != nil {
		return err
	}
	if err := os.Chown(upper, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(upper, st.Mode&0o7777); err != nil {
		return err
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,%s", strings.Join(lowers, ":"), upper, work, overlayOptions)
	return mount{"mayfly", target, "overlay", flags | unix.MS_NOATIME, data}.do()
}

// mountWorkspace mounts the private copy of the workspace at its path below
// the new root.
func mountWorkspace(req *wire.Configure) (*workspace, error) {
	ws := req.Workspace
	root, err := os.OpenRoot(rootDir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := makePath(root, ws.Path, req.User); err != nil {
		return nil, fmt.Errorf("make the way to %s: %w", ws.Path, err)
	}
	target := filepath.Join(rootDir, ws.Path)
	if err := overlay("workspace", []string{packedDir}, target, nosuid); err != nil {
		return nil, err
	}
	// Opened now, since the new root will cover them.
	upper, err := os.OpenRoot(filepath.Join(scratchDir, "workspace", "upper"))
	if err != nil {
		return nil, err
	}
	return &workspace{upper: upper}, nil
}

// makePath makes path and its parents in root. New directories below the
// user's home are the user's; parents that are there are made traversable,
// since the user is not always who could pass them on the host.
func makePath(root *os.Root, path string, u wire.User) error {
	home := strings.Trim(filepath.Clean(u.Home), "/")
	var dir string
	for elem := range strings.SplitSeq(strings.Trim(filepath.Clean(path), "/"), "/") {
		dir = filepath.Join(dir, elem)
		err := root.Mkdir(dir, 0o755)
		switch {
		case err == nil:
			if dir == home || strings.HasPrefix(dir, home+"/") {
				err = root.Chown(dir, u.UID, u.GID)
			}
		case errors.Is(err, os.ErrExist):
			var fi os.FileInfo
			if fi, err = root.Stat(dir); err == nil && fi.Mode()&0o001 == 0 {
				err = root.Chmod(dir, fi.Mode().Perm()|0o011)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// switchRoot makes rootDir the root of this process and of all that it
// starts. The mount is moved over the initramfs rather than only entered: the
// kernel refuses user namespaces, and so most sandboxes, to a process in a
// plain chroot.
func switchRoot() error {
	for _, dir := range []string{"dev", "proc", "sys"} {
		target := filepath.Join(rootDir, dir)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("/"+dir, target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move /%s: %w", dir, err)
		}
	}
	if err := os.Chdir(rootDir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	return os.Chdir("/")
}

// mountRuntime mounts what programs expect beside the root.
func mountRuntime() error {
	for _, m := range []mount{
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", nosuid, "mode=1777"},
		{"tmpfs", "/run", "tmpfs", nosuid, "mode=755,size=25%"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", nosuid | unix.MS_NOEXEC, ""},
	} {
		if err := m.do(); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := os.MkdirAll("/run/lock", 0o1777); err != nil {
		return err
	}
	return nil
}
