// Package share lets a machine use a directory of the host live, by a virtiofsd
// of the host's that is confined to that directory.
//
// What flows in is a plan.Share and the user whose files they are to be; what
// flows out is a process that serves the directory, and the VMM's end of its
// socket. The guest is hostile, and what virtiofsd does is what the guest says,
// so that nothing here relies on it:
//
//   - It runs as the user and without capabilities, in a root of its own with
//     nothing but its libraries and the directory, which is mounted read-only
//     where it is to be. It has no network, and sees no other process.
//   - Landlock, where the kernel has it, allows nothing else either.
//   - A seccomp filter refuses setuid and setgid bits, devices, owners and
//     extended attributes, and lets all files belong to the user, whoever makes
//     them in the guest.
//
// The process is a mayfly that limits itself (Main) and then becomes virtiofsd.
// Nothing here decides what may be shared; that is package plan's.
package share

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/proc"
)

// Places are where distributions have virtiofsd: nobody calls it by its name.
func places() []string {
	return []string{
		"/usr/libexec/virtiofsd", // Debian 13, Fedora, Ubuntu: the one in Rust
		"/usr/lib/virtiofsd",     // Arch, openSUSE
		"/usr/lib/virtiofsd/virtiofsd",
		"/usr/lib/qemu/virtiofsd", // Debian 12, Ubuntu 22.04: the one in C, of QEMU
		"/usr/libexec/qemu/virtiofsd",
	}
}

// probeTimeout bounds the question for a version.
const probeTimeout = 10 * time.Second

// Find returns the first virtiofsd that can be used: of the directories of path,
// the value of the variable PATH, and then of those of the distributions.
func Find(ctx context.Context, path string) (plan.ShareServer, error) {
	var candidates []string
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) {
			candidates = append(candidates, filepath.Join(dir, "virtiofsd"))
		}
	}
	return find(ctx, append(candidates, places()...))
}

func find(ctx context.Context, candidates []string) (plan.ShareServer, error) {
	var unusable []error
	for _, name := range candidates {
		// The real path: in the server's root there are no others.
		real, err := filepath.EvalSymlinks(name)
		if err != nil {
			continue
		}
		if fi, err := os.Stat(real); err != nil || !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0 {
			continue
		}
		s, err := probe(ctx, real)
		if err == nil {
			return s, nil
		}
		unusable = append(unusable, err)
	}
	if len(unusable) > 0 {
		return plan.ShareServer{}, fault.Wrap(errors.Join(unusable...), fault.VirtiofsdUnusable, nil)
	}
	return plan.ShareServer{}, fault.New(fault.VirtiofsdMissing, nil, "there is no virtiofsd on this computer")
}

// probe asks the program at path for its version.
func probe(ctx context.Context, path string) (plan.ShareServer, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.WaitDelay = time.Second
	out, err := filteredOutput(cmd)
	if err != nil {
		return plan.ShareServer{}, fmt.Errorf("%s --version: %w", path, err)
	}
	s, err := parseVersion(out)
	s.Path = path
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// filteredOutput runs a command under the filter that it will serve under. The
// virtiofsd in C gives its groups away before it says anything, which a user who has
// some may not; the filter pretends.
func filteredOutput(cmd *exec.Cmd) (string, error) {
	var out []byte
	var err error
	done := make(chan struct{})
	proc.OnThread(func() {
		defer close(done)
		if err = proc.NoNewPrivileges(); err == nil {
			err = installFilter(uint32(os.Getuid()), uint32(os.Getgid()))
		}
		if err == nil {
			out, err = cmd.CombinedOutput()
		}
	})
	<-done
	return string(out), err
}

// versionPattern matches "virtiofsd version 7.2.22 (Debian …)" of the one in C,
// and "virtiofsd 1.13.2" or "virtiofsd backend 1.4.0" of the one in Rust.
var versionPattern = regexp.MustCompile(`(?m)^virtiofsd (version |backend )?v?([0-9]{1,4})\.([0-9]{1,4})(\.[0-9]{1,4})?\b`)

// parseVersion reads what virtiofsd says of itself.
func parseVersion(text string) (plan.ShareServer, error) {
	const limit = 4 << 10
	m := versionPattern.FindStringSubmatch(text[:min(len(text), limit)])
	if m == nil {
		return plan.ShareServer{}, errors.New("it says no version of virtiofsd")
	}
	major, _ := strconv.Atoi(m[2])
	minor, _ := strconv.Atoi(m[3])
	s := plan.ShareServer{Kind: plan.VirtiofsdRust, Version: m[2] + "." + m[3] + m[4]}
	// That in C has the version of its QEMU, and ended with 7.2.
	oldest := [2]int{1, 7} // the first that runs unprivileged without a sandbox of its own, as all of 2023 and later
	if strings.HasPrefix(m[1], "version") || major >= 5 {
		s.Kind = plan.VirtiofsdC
		oldest = [2]int{6, 0}
	}
	if major < oldest[0] || major == oldest[0] && minor < oldest[1] {
		return s, fmt.Errorf("virtiofsd %s is too old; mayfly needs %d.%d", s.Version, oldest[0], oldest[1])
	}
	return s, nil
}

// Args returns the arguments of server: it serves the directory dir to who
// connects to the listening socket fd.
func Args(server plan.ShareServer, dir string, fd int, readOnly bool) []string {
	if server.Kind == plan.VirtiofsdC {
		// It sees its own root as the directory: chroot is what is left of
		// its sandbox where nothing can be mounted any more. It asks for
		// capabilities that it does not get.
		return []string{
			"-f", fmt.Sprintf("--fd=%d", fd), "-o", "source=" + dir, "-o", "sandbox=chroot",
			"-o", "modcaps=-chown:-dac_override:-fowner:-fsetid:-setgid:-setuid:-mknod:-setfcap",
			"-o", "cache=auto", "-o", "no_posix_lock", "-o", "no_flock", "-o", "no_xattr",
			"-o", "log_level=err", "--rlimit-nofile=0",
		}
	}
	args := []string{
		fmt.Sprintf("--fd=%d", fd), "--shared-dir=" + dir, "--sandbox=none", "--seccomp=kill",
		"--cache=auto", "--inode-file-handles=never", "--log-level=error", "--rlimit-nofile=0",
	}
	if readOnly {
		if v := server.Version; rustReadOnly(v) {
			args = append(args, "--readonly")
		}
	}
	return args
}

// rustReadOnly reports whether the virtiofsd in Rust of a version has --readonly:
// since 1.12. It is one wall more.
func rustReadOnly(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 1 || major == 1 && minor >= 12
}
