package agent

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// A machine whose process 1 is systemd begins like all others: the agent boots it,
// prepares and configures it. Then, with OpInit, it executes systemd in its place. It
// comes back as a service, which knows what it left in handoverDir and which the host
// greets anew. Nothing of this is in the image, whose files are Debian's: what the
// agent has to say to systemd it writes below /run.

// systemd is what process 1 becomes.
const systemd = "/usr/lib/systemd/systemd"

// Where the agent leaves what it needs as a service. Only root looks in here.
const (
	handoverDir  = "/run/mayfly"
	handoverFile = handoverDir + "/handover.json"
	programFile  = handoverDir + "/mayfly-guest"
	changesDir   = handoverDir + "/changes" // the workspace's upper directory
)

// handover is what the service knows of its machine.
type handover struct {
	Configure *wire.Configure `json:"configure"`
	Env       []string        `json:"env"` // of all programs
}

// showChanges makes the workspace's upper directory visible in the root to come: a
// service cannot inherit a descriptor of it.
func showChanges(upper string) error {
	if err := makeHandoverDir(); err != nil {
		return err
	}
	if err := os.MkdirAll(changesDir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(upper, changesDir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show the workspace's changes: %w", err)
	}
	return nil
}

func makeHandoverDir() error { return os.MkdirAll(handoverDir, 0o700) }

// containerDirs hold the layers of containers. Those are overlays, which the kernel
// does not make upon the overlay that the root is.
var containerDirs = []string{"/var/lib/containerd", "/var/lib/containers", "/var/lib/docker"}

// userContainers is where Podman and Buildah keep those of a user, below the home directory.
const userContainers = ".local/share/containers"

// mountContainerDirs puts the directories of containers on the scratch disk, but for
// those that a volume holds: what services of systemd's use, and in every machine what
// Podman and Buildah do if the image has them.
func mountContainerDirs(init string, u wire.User) error {
	var dirs []string
	if init == wire.InitSystemd {
		dirs = containerDirs
	}
	if _, err := os.Lstat(filepath.Join(rootDir, containersConf)); err == nil {
		if init != wire.InitSystemd {
			dirs = []string{"/var/lib/containers"}
		}
		if err := mountContainerDir(path.Join(u.Home, userContainers), "of-the-user", u); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		if err := mountContainerDir(dir, path.Base(dir), wire.User{}); err != nil {
			return err
		}
	}
	return nil
}

// mountContainerDir puts one of them, which is its owner's, in the directory name of the disk.
// A link on the way, as a volume may have one in a home directory, is somebody's own choice.
func mountContainerDir(dir, name string, owner wire.User) error {
	for at := dir; at != "/"; at = path.Dir(at) {
		if fi, err := os.Lstat(filepath.Join(rootDir, at)); err == nil && !fi.IsDir() {
			return nil
		}
	}
	if err := makeMountPoint(rootDir, dir, owner); err != nil {
		return err
	}
	var st unix.Statfs_t
	target := filepath.Join(rootDir, dir)
	if err := unix.Statfs(target, &st); err != nil {
		return err
	}
	if st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return nil
	}
	source := filepath.Join(scratchDir, "containers", name)
	if err := os.MkdirAll(source, 0o711); err != nil {
		return err
	}
	if err := os.Chown(source, owner.UID, owner.GID); err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}

// systemdFiles is what the agent adds to systemd's configuration, as below /run: its
// own service, and what a machine does without.
//
//go:embed all:run
var systemdFiles embed.FS

// prepareSystemd leaves in the machine's root, which is entered, what systemd and the
// service will find.
func prepareSystemd(h handover) error {
	if err := makeHandoverDir(); err != nil {
		return err
	}
	redacted := *h.Configure
	redacted.Entropy = nil
	h.Configure = &redacted
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := os.WriteFile(handoverFile, data, 0o600); err != nil {
		return err
	}
	// The program is in the initramfs, where no path leads any more.
	if err := os.WriteFile(programFile, nil, 0o500); err != nil {
		return err
	}
	if err := unix.Mount("/proc/self/exe", programFile, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show the agent's program: %w", err)
	}
	return writeSystemdFiles("/run")
}

// What a machine does without, because it has neither the hardware nor the seats that
// it is for, because the agent or the host has done it, or because a machine is too
// short-lived for it. An empty file of its name masks each, systemd.unit(5) and
// systemd.generator(7); systemctl unmask --runtime brings a unit back.
var (
	maskedUnits = []string{
		// The agent is the way in; a serial line would be waited for without udev.
		"getty.target", "getty-static.service",
		// It would hide the workspace that is below /tmp.
		"tmp.mount",
		// The agent and the host have done these.
		"systemd-remount-fs.service", "systemd-modules-load.service", "systemd-sysctl.service",
		"systemd-random-seed.service", "systemd-machine-id-commit.service", "systemd-hostnamed.socket",
		"systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-setup-dev-early.service", "systemd-timesyncd.service",
		// Nobody asks for these.
		"systemd-firstboot.service", "systemd-sysusers.service", "systemd-update-done.service",
		"systemd-journal-flush.service", "systemd-journal-catalog-update.service", "systemd-update-utmp.service",
		"systemd-binfmt.service", "systemd-pstore.service", "systemd-ask-password-console.path", "systemd-ask-password-wall.path",
		"systemd-hibernate-clear.service", "systemd-pcrphase.service", "systemd-rfkill.socket", "systemd-boot-random-seed.service",
		"dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
		"sys-fs-fuse-connections.mount", "sys-kernel-config.mount",
		"kmod-static-nodes.service", "modprobe@.service", "ldconfig.service", "first-boot-complete.target",
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
		"fstrim.timer", "man-db.timer", "motd-news.timer",
	}
	maskedGenerators = []string{
		"systemd-bless-boot-generator", "systemd-cryptsetup-generator", "systemd-debug-generator", "systemd-fstab-generator",
		"systemd-getty-generator", "systemd-gpt-auto-generator", "systemd-hibernate-resume-generator",
		"systemd-integritysetup-generator", "systemd-ssh-generator", "systemd-system-update-generator",
		"systemd-tpm2-generator", "systemd-veritysetup-generator",
	}
)

// writeSystemdFiles writes systemdFiles and masks below dir.
func writeSystemdFiles(dir string) error {
	err := fs.WalkDir(systemdFiles, "run", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, strings.TrimPrefix(name, "run"))
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := systemdFiles.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
	for below, names := range map[string][]string{"systemd/system": maskedUnits, "systemd/system-generators": maskedGenerators} {
		below = filepath.Join(dir, below)
		err = errors.Join(err, os.MkdirAll(below, 0o755))
		for _, name := range names {
			err = errors.Join(err, os.WriteFile(filepath.Join(below, name), nil, 0o644))
		}
	}
	return err
}

// handOver answers OpInit. This process serves the conversation that is, and no other.
func (a *agent) handOver() wire.Configured {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.machine == nil || !a.machine.systemd {
		return wire.Configured{Error: "nothing was prepared for systemd"}
	}
	if err := unix.Access(systemd, unix.X_OK); err != nil {
		return wire.Configured{Error: fmt.Sprintf("%s: %v", systemd, err)}
	}
	a.leaving = true
	return wire.Configured{}
}

func (a *agent) leaves() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leaving
}

// becomeSystemd executes systemd in the place of this process, which is process 1. It
// returns only when that fails.
func becomeSystemd() error {
	err := unix.Exec(systemd, []string{systemd}, []string{"PATH=" + defaultPath, "TERM=linux"})
	return fmt.Errorf("execute %s: %w", systemd, err)
}
