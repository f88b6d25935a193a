package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/apt"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/filelock"
)

// NeedsQEMU reports whether the host lacks a QEMU that runs guests right.
func (f Facts) NeedsQEMU() bool {
	return f.QEMU.Path == "" || !f.KVM.Proven && !f.QEMU.Version.TCGSafe()
}

// CanInstallQEMU reports whether InstallQEMU knows where to get a newer QEMU.
// Only Debian 12 needs it to and has one: later releases of the distributions
// come with a good one, and their packages do not run on earlier ones.
func (f Facts) CanInstallQEMU() bool {
	return f.Arch == "amd64" && f.OS.ID == "debian" && f.OS.Codename == "bookworm"
}

// backports is the suite for a distribution's QEMU, qemuPackages what is needed
// of it. Their libraries are those that the system's own QEMU package installs.
const backports = "bookworm-backports"

var qemuPackages = [...]string{"qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"}

// InstallQEMU unpacks the backports suite's QEMU into the user's data directory,
// beside the system's and without privilege. It appears as a whole or not at
// all; what an interrupted run left is removed by the next. An equal version
// that is there and starts is left alone.
func InstallQEMU(ctx context.Context, f Facts, progress func(string)) (QEMU, error) {
	if !f.CanInstallQEMU() {
		args := fault.Args{"os": f.OS.Name, "arch": f.Arch, "install": f.OS.install("qemu")}
		return QEMU{}, fault.New(fault.QEMUNotInstallable, args, "get a newer QEMU: none is known for %s on %s", f.OS.Name, f.Arch)
	}
	mirror := apt.ReadMirrors(apt.HostDir).Archive
	if mirror == "" {
		return QEMU{}, fmt.Errorf("get a newer QEMU: %s names no mirror of the Debian archive", apt.HostDir)
	}
	dir := f.Dirs.QEMUDir()
	for _, d := range []string{dir, f.Dirs.Cache} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return QEMU{}, fmt.Errorf("get a newer QEMU: %w", err)
		}
	}
	unlock, err := filelock.Acquire(ctx, filepath.Join(dir, "lock"), func() {
		if progress != nil {
			progress("waiting for another mayfly that installs QEMU")
		}
	})
	if err != nil {
		return QEMU{}, fmt.Errorf("get a newer QEMU: %w", err)
	}
	defer unlock()

	root := apt.Root{
		Dir:      filepath.Join(f.Dirs.Cache, "apt", backports),
		Suite:    backports,
		Mirror:   mirror,
		Progress: progress,
	}
	if err := root.Update(ctx); err != nil {
		return QEMU{}, fmt.Errorf("get a newer QEMU: %w", err)
	}
	debs, err := root.Download(ctx, qemuPackages[:]...)
	if err != nil {
		return QEMU{}, fmt.Errorf("get a newer QEMU: %w", err)
	}
	q, err := unpackQEMU(ctx, debs, dir)
	if err != nil {
		return QEMU{}, fmt.Errorf("install QEMU: %w", err)
	}
	return q, nil
}

// unpackQEMU publishes the packages' files as dir/VERSION. The caller holds the
// directory's lock.
func unpackQEMU(ctx context.Context, debs []apt.Deb, dir string) (QEMU, error) {
	_, upstream, found := strings.Cut(debs[0].Version, ":") // behind the epoch
	if !found {
		upstream = debs[0].Version
	}
	version, err := ParseVersion(upstream)
	if err != nil {
		return QEMU{}, err
	}
	final := filepath.Join(dir, version.String())
	binary := filepath.Join("usr/bin", qemuBinary())
	if q, err := inspectQEMU(ctx, filepath.Join(final, binary)); err == nil {
		return q, nil
	}

	tmp := final + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return QEMU{}, err
	}
	defer os.RemoveAll(tmp) // nothing is there after the rename
	for _, d := range debs {
		if err := apt.Extract(ctx, d, tmp); err != nil {
			return QEMU{}, err
		}
	}
	if _, err := inspectQEMU(ctx, filepath.Join(tmp, binary)); err != nil {
		if missing := missingLibraries(ctx, filepath.Join(tmp, binary)); missing != "" {
			err = fmt.Errorf("it lacks libraries that the system's QEMU brings: %s", missing)
		}
		return QEMU{}, fault.Wrap(err, fault.QEMULibrariesMissing, nil)
	}
	if err := syncFS(tmp); err != nil {
		return QEMU{}, err
	}
	if err := os.RemoveAll(final); err != nil { // one that does not start
		return QEMU{}, err
	}
	if err := os.Rename(tmp, final); err != nil {
		return QEMU{}, err
	}
	if err := syncFS(dir); err != nil {
		return QEMU{}, err
	}
	return inspectQEMU(ctx, filepath.Join(final, binary))
}

// missingLibraries names the shared libraries that the dynamic linker does not
// find for a binary.
func missingLibraries(ctx context.Context, path string) string {
	out, err := exec.CommandContext(ctx, "ldd", path).Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return ""
	}
	var missing []string
	for line := range strings.Lines(string(out)) {
		if name, _, found := strings.Cut(line, " => not found"); found {
			missing = append(missing, strings.TrimSpace(name))
		}
	}
	return strings.Join(missing, ", ")
}

// syncFS writes the file system that holds dir to its disk: one call instead
// of one for each of some hundred files.
func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
