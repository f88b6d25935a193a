package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// Where things are in the initramfs, before the machine's root covers it.
const (
	scratchDir = "/mayfly/scratch"
	layersDir  = "/mayfly/layers"
	packedDir  = "/mayfly/workspace"
	rootDir    = "/mayfly/root"
)

// lastingOptions keep an upper directory a list of changed files, with one exception: a
// directory of a lower layer that is renamed is there under its new name, with its old
// place in the attribute redirect. Without that no program could rename such a directory.
// A copy of nothing but a file's attributes would refer to the lower layers, too, and
// saves little.
const lastingOptions = "redirect_dir=on,metacopy=off,index=off,xino=off"

// redirectMax is how long a redirect may be in bytes; with the kernel's own 256 a rename
// fails deep in a tree. An attribute is to fit into a block of 4 KiB.
const redirectMax = 3072

// allowRedirects makes the kernel take redirects of redirectMax bytes.
func allowRedirects() error {
	return os.WriteFile("/sys/module/overlay/parameters/redirect_max", []byte(strconv.Itoa(redirectMax)), 0)
}

// overlayOptions are for disks that are thrown away after a crash: nothing is ever
// synced.
const overlayOptions = lastingOptions + ",volatile"

// makeRoot mounts the machine's own disks, fills in what makes the root this
// machine's, and mounts it with the workspace below rootDir.
func (p *prepared) makeRoot(req *wire.Configure) (*machine, error) {
	// The packed workspace and what is kept are mounted while the rest goes on.
	packed := make(chan error, 1)
	go func() { packed <- errors.Join(p.mountPacked(req.Workspace), p.mountKeep(req.Keep)) }()
	m, places, err := p.fillRoot(req)
	if err := errors.Join(err, <-packed); err != nil {
		return nil, err
	}
	if err := overlay(filepath.Join(scratchDir, "root"), p.layers, rootDir, overlayOptions, 0); err != nil {
		return nil, err
	}
	if err := p.mountVolumes(req); err != nil {
		return nil, err
	}
	if err := mountKeepDirs(req); err != nil {
		return nil, err
	}
	if err := mountContainerDirs(req.Init, req.User); err != nil {
		return nil, err
	}
	if err := p.mountDotfiles(req.Dotfiles); err != nil {
		return nil, err
	}
	if err := mountShares(req.Shares, places.shares, req.User); err != nil {
		return nil, err
	}
	if req.Workspace == nil {
		return m, nil
	}
	dir, lasting, err := workspaceDir(req)
	if err != nil {
		return nil, err
	}
	options := overlayOptions
	if lasting {
		options = lastingOptions
	}
	if err := overlay(dir, []string{packedDir}, filepath.Join(rootDir, places.workspace), options, nosuid); err != nil {
		return nil, err
	}
	if req.Init == wire.InitSystemd {
		return m, showChanges(filepath.Join(dir, "upper"))
	}
	// Opened now, since the new root will cover it.
	m.workspace, err = openWorkspace(filepath.Join(dir, "upper"))
	return m, err
}

func (p *prepared) mountPacked(ws *wire.Workspace) error {
	if ws == nil {
		return nil
	}
	dev, err := p.disks.find(ws.Serial)
	if err != nil {
		return err
	}
	return mount{dev, packedDir, "erofs", unix.MS_RDONLY | nosuid, ""}.do()
}

// places are where the workspace and the shares are, without symbolic links.
type places struct {
	workspace string
	shares    []string
}

// fillRoot writes names, user and the way to the workspace and the shares into the
// upper directory of the root to come.
func (p *prepared) fillRoot(req *wire.Configure) (m *machine, at places, err error) {
	if err := p.mountScratch(); err != nil {
		return nil, at, err
	}
	upper, err := makeUpper(filepath.Join(scratchDir, "root"), p.layers[0])
	if err != nil {
		return nil, at, err
	}
	t := treeOf(upper, p.layers, p.seen)
	if req.Init == wire.InitSystemd {
		if _, _, err := t.stat(systemd); err != nil {
			return nil, at, fmt.Errorf("the image has no systemd: %w", err)
		}
	}
	// What lets programs trust the machine's authority is half of what is written: beside
	// the rest.
	network := make(chan error, 1)
	go func() { network <- t.setUpNetwork(req.Network) }()
	var env []string
	if err = identify(t, req); err == nil {
		env, err = setUpUser(t, req)
	}
	m = newMachine(req)
	m.env = env
	if err == nil {
		err = t.linkDotfiles(req)
	}
	if err == nil {
		err = t.setUpShells(req)
	}
	if err == nil {
		err = t.setUpHistory(req.History)
	}
	if err := errors.Join(err, <-network); err != nil {
		return nil, at, err
	}
	for i, v := range req.Volumes {
		if req.Volumes[i].Mount, err = t.makePath(v.Mount, req.User); err != nil {
			return nil, at, fmt.Errorf("make the way to %s: %w", v.Mount, err)
		}
	}
	for i, d := range req.KeepDirs {
		if req.KeepDirs[i].Path, err = t.makePath(d.Path, req.User); err != nil {
			return nil, at, fmt.Errorf("make the way to %s: %w", d.Path, err)
		}
	}
	if ws := req.Workspace; ws != nil {
		if at.workspace, err = t.makePath(ws.Path, req.User); err != nil {
			return nil, at, fmt.Errorf("make the way to %s: %w", ws.Path, err)
		}
	}
	for _, s := range req.Shares {
		path, err := t.makePath(s.Path, req.User)
		if err != nil {
			return nil, at, fmt.Errorf("make the way to %s: %w", s.Path, err)
		}
		at.shares = append(at.shares, path)
	}
	if req.Link != nil {
		t.link(*req.Link, req.User) // a machine can do without
	}
	return m, at, nil
}

// makeUpper makes the upper directory of an overlay in dir, of the lower's owner
// and mode: the root of an overlay takes them from it.
func makeUpper(dir, lower string) (string, error) {
	upper := filepath.Join(dir, "upper")
	if err := os.MkdirAll(upper, 0o755); err != nil {
		return "", err
	}
	fi, err := os.Stat(lower)
	if err != nil {
		return "", err
	}
	return upper, own(upper, fi)
}

// overlay mounts an overlay of lowers on target with its upper directory in dir.
func overlay(dir string, lowers []string, target, options string, flags uintptr) error {
	upper, err := makeUpper(dir, lowers[0])
	if err != nil {
		return err
	}
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,%s", strings.Join(lowers, ":"), upper, work, options)
	return mount{"mayfly", target, "overlay", flags | unix.MS_NOATIME, data}.do()
}

// switchRoot makes rootDir the root of this process and of all that it
// starts. The mount is moved over the initramfs rather than only entered: the
// kernel refuses user namespaces, and so most sandboxes, to a process in a
// plain chroot.
func switchRoot() error {
	for _, dir := range []string{"dev", "proc", "sys", "run"} {
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

// mountRuntime mounts what programs expect beside the root. switchRoot takes it
// along.
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
