package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// prepared is what a guest has become by wire.Prepare.
type prepared struct {
	disks  diskNames
	layers []string // where the image's are mounted, the top one first
	seen   *seen    // of the layers
	// mountScratch mounts the machine's own disk, once.
	mountScratch func() error
	// begin begins, once, what a machine needs whatever it will be.
	begin func()
	// card says that the network card is set up.
	card bool
}

// prepare mounts the layers of an image and warms the guest up. It runs once,
// and what is left of it may be saved: the layers, which are read-only and the
// same for every machine of the image, and the pages that were read of them.
func (a *agent) prepare(req *wire.Prepare) wire.Prepared {
	start := time.Now()
	<-a.modules
	a.mu.Lock()
	defer a.mu.Unlock()
	var answer wire.Prepared
	p, err := a.prepareLocked(req)
	if err != nil {
		answer.Error = err.Error()
		return answer
	}
	a.prepared = p
	if len(req.Warm) > 0 {
		answer.Notes, err = a.warm(p, req.Warm, time.Duration(req.WarmSeconds)*time.Second)
		if err := errors.Join(err, wire.Rehearse()); err != nil {
			answer.Error = err.Error()
		}
		// What was garbage when the state is saved stays in every machine.
		debug.FreeOSMemory()
	}
	// The programs that warm up had none.
	if err := setUpNetwork(req.Network); err != nil && answer.Error == "" {
		answer.Error = err.Error()
	}
	p.card = req.Network != nil
	answer.Nanos = time.Since(start).Nanoseconds()
	return answer
}

func (a *agent) prepareLocked(req *wire.Prepare) (*prepared, error) {
	switch {
	case a.modErr != nil:
		return nil, a.modErr
	case a.prepared != nil:
		return nil, errors.New("the guest is prepared already")
	case len(req.Layers) == 0:
		return nil, errors.New("the image has no layers")
	}
	disks, err := findDisks()
	if err != nil {
		return nil, err
	}
	p := &prepared{disks: disks, seen: newSeen()}
	for i, serial := range req.Layers {
		dev, err := disks.find(serial)
		if err != nil {
			return nil, err
		}
		dir := fmt.Sprintf("%s/%d", layersDir, i)
		if err := (mount{dev, dir, "erofs", unix.MS_RDONLY, ""}).do(); err != nil {
			return nil, err
		}
		p.layers = append(p.layers, dir)
	}
	// Every machine with a network will read it.
	if _, err := treeOf(p.layers[0], p.layers[1:], p.seen).readFile(wire.TrustedFile); err != nil {
		return nil, err
	}
	scratch, err := disks.find(req.Scratch)
	if err != nil {
		return nil, err
	}
	p.begin = sync.OnceFunc(func() {
		go p.mountScratch()
		go a.warmUp(p)
	})
	p.mountScratch = sync.OnceValue(mount{scratch, scratchDir, "ext4", unix.MS_NOATIME, "noinit_itable,no_prefetch_block_bitmaps"}.do)
	return p, errors.Join(mountRuntime(), loopbackUp())
}

// warmDir holds what the warming programs write, in memory, until they ended.
const warmDir = "/mayfly/warm"

// nobody is who runs the warming programs: they get nothing that would have to
// be taken from them again.
const nobody = 65534

// warm runs commands in a root of their own over the layers. Of what they do only
// the pages stay that the kernel read for them. That one fails is only worth a
// note: a machine that is less warm works as well. That its mounts cannot be
// undone is an error.
func (a *agent) warm(p *prepared, commands []string, timeout time.Duration) (notes []string, err error) {
	var mounted []string
	defer func() {
		a.reaper.killAll()
		for _, target := range slices.Backward(mounted) {
			if undoErr := unix.Unmount(target, 0); undoErr != nil {
				err = errors.Join(err, fmt.Errorf("unmount %s: %w", target, undoErr))
			}
		}
	}()
	root := filepath.Join(warmDir, "root")
	for _, step := range []struct {
		target string
		mount  func(target string) error
	}{
		{warmDir, mount{"tmpfs", "", "tmpfs", nosuid, "mode=755,size=50%"}.on},
		{root, func(target string) error { return overlay(warmDir, p.layers, target, overlayOptions, unix.MS_NODEV) }},
		{root + "/tmp", mount{"tmpfs", "", "tmpfs", nosuid, "mode=1777,size=50%"}.on},
		{root + "/proc", mount{"proc", "", "proc", nosuid | unix.MS_NOEXEC, ""}.on},
		{root + "/dev", mount{"devtmpfs", "", "devtmpfs", unix.MS_NOSUID, "mode=0755"}.on},
	} {
		if err := step.mount(step.target); err != nil {
			return nil, err
		}
		mounted = append(mounted, step.target)
	}
	if err := rehearse(p); err != nil {
		notes = append(notes, fmt.Sprintf("rehearse: %v", err))
	}
	for _, command := range commands {
		if err := a.warmWith(root, command, timeout); err != nil {
			notes = append(notes, fmt.Sprintf("prewarm %q: %v", command, err))
		}
	}
	return notes, nil
}

// rehearse writes a machine's files as configure does, for nobody: what it reads of the
// layers stays in memory, and so does what it sees there. Its own go with the directory.
func rehearse(p *prepared) error {
	t := treeOf(filepath.Join(warmDir, "rehearsal"), p.layers, p.seen)
	if err := os.Mkdir(t.upper, 0o755); err != nil {
		return err
	}
	req := &wire.Configure{User: wire.User{Name: "nobody", UID: nobody, GID: nobody, Home: "/home/nobody", Shell: "bash"}}
	if err := writeIdentity(t, req); err != nil {
		return err
	}
	if err := t.setUpNetwork(&wire.Network{DNS: "127.0.0.1", Authority: rehearsed, AuthorityHash: "00000000"}); err != nil {
		return err
	}
	_, err := setUpUser(t, req)
	return err
}

// rehearsed has the form of a certificate.
var rehearsed = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

// warmWith runs one command to its end.
func (a *agent) warmWith(root, command string, timeout time.Duration) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	home := filepath.Join(root, "tmp/home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	if err := os.Chown(home, nobody, nobody); err != nil {
		return err
	}
	argv := []string{"/bin/sh", "-c", command}
	pid, status, err := a.reaper.start(func() (int, error) {
		return syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
			Dir:   "/tmp/home",
			Env:   []string{"PATH=" + defaultPath, "HOME=/tmp/home", "USER=nobody", "LANG=C.UTF-8", "TERM=dumb"},
			Files: []uintptr{null.Fd(), null.Fd(), null.Fd()},
			Sys: &syscall.SysProcAttr{
				Setsid: true, Chroot: root,
				Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
			},
		})
	})
	if err != nil {
		return err
	}
	select {
	case ws := <-status:
		if ws.ExitStatus() != 0 {
			return fmt.Errorf("it failed (%d)", ws.ExitStatus())
		}
		return nil
	case <-time.After(timeout):
		unix.Kill(-pid, unix.SIGKILL)
		return fmt.Errorf("it took more than %v", timeout)
	}
}
