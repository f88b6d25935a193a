// Package debian makes root file systems out of Debian packages, as streams of
// uncompressed tar.
//
// It drives mmdebstrap, which works as root and, given subordinate user ids,
// as a normal user. The same packages give the same bytes whenever, wherever
// and by whoever they are built. What is done with the streams is the caller's
// matter; a tree on disk exists only while a build runs.
package debian

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/apt"
	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
)

// Builder builds root file systems of one suite.
type Builder struct {
	Suite string // "trixie"

	// Mirrors are where the packages of a base come from; DefaultMirrors for
	// who knows none.
	Mirrors apt.Mirrors

	// AptConfig is what apt needs during the build to reach the mirrors, in the
	// syntax of apt.conf. It does not get into the result.
	AptConfig string

	// Dir is an empty directory in which the tree is unpacked, which MakeDir has
	// made. Remove removes it.
	Dir string

	// Lock, if not nil, stays locked until the last process of a build has
	// ended, also when mayfly is killed.
	Lock *os.File

	// Text, if not nil, gets a line now and then about what is done.
	Text func(string)
	// AsRoot, if not nil, is told why packages are installed by root of the host, with all
	// its rights, when they are.
	AsRoot func(why error)
}

// epoch becomes the time of everything that a build makes or touches: the day
// of Debian 13's release. What is older in a package keeps its time.
const epoch = 1754697600

// UnknownPackageError says that the archive has no package of a name.
type UnknownPackageError struct{ Names []string }

func (e *UnknownPackageError) Error() string {
	return "no Debian package is called " + strings.Join(e.Names, ", ")
}

// UnknownPackages returns the error about packages that a suite does not have.
func UnknownPackages(suite string, names []string) error {
	return fault.New(fault.PackageUnknown, fault.Args{"suite": suite, "name": names[0]},
		"debian %s: %w", suite, &UnknownPackageError{names})
}

// Base writes a root file system with the packages given, and with apt and all
// that is essential. Modules is the path of a tar archive with a kernel's modules,
// usr/lib/modules/VERSION, and empty for none; with one, one of the packages must be kmod.
func (b Builder) Base(ctx context.Context, packages []string, modules string, w io.Writer) error {
	if err := CheckNames(packages); err != nil {
		return err
	}
	sources, err := b.sources()
	if err != nil {
		return err
	}
	args := []string{
		"--variant=apt",
		"--include=" + strings.Join(packages, ","),
		"--setup-hook=" + configure,
	}
	if modules != "" {
		// Who builds may not read it where it is.
		if err := copyFile(filepath.Join(b.Dir, "modules.tar"), modules); err != nil {
			return err
		}
		args = append(args, "--customize-hook="+addModules)
	}
	args = append(args, "--customize-hook="+clean)
	for _, o := range aptOptions() {
		args = append(args, "--aptopt="+o)
	}
	return b.run(ctx, args, sources, w)
}

// Install writes a root file system that is a base with more packages. The
// base comes from a function that writes it as a tar stream.
func (b Builder) Install(ctx context.Context, base func(io.Writer) error, packages []string, w io.Writer) error {
	if err := CheckNames(packages); err != nil {
		return err
	}
	// mmdebstrap gets the base through a FIFO, which costs no disk and, unlike
	// an inherited descriptor, is there in all of its processes.
	fifo := filepath.Join(b.Dir, "base.tar")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		return fmt.Errorf("make FIFO %s: %w", fifo, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var feeding sync.WaitGroup
	defer feeding.Wait()
	defer cancel(nil)
	feeding.Go(func() {
		if err := feed(ctx, fifo, base); err != nil {
			cancel(fmt.Errorf("unpack the base: %w", err))
		}
	})

	args := []string{
		"--variant=custom",
		// The base has its own sources, keys and options.
		"--skip=setup,update,cleanup/mmdebstrap",
		"--setup-hook=" + unpack,
		"--setup-hook=" + aptHostConfig,
		// The host's resolver is the one that reaches the host's mirrors.
		`--customize-hook=cat /etc/resolv.conf > "$1/etc/resolv.conf"`,
		`--customize-hook=chroot "$1" apt-get -q update`,
		`--customize-hook=DEBIAN_FRONTEND=noninteractive chroot "$1" apt-get -q -y --no-install-recommends install ` +
			strings.Join(packages, " "),
	}
	err := b.run(ctx, append(args, "--customize-hook="+clean), nil, w)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	return err
}

// feed writes the base to whoever opens the FIFO for reading.
func feed(ctx context.Context, fifo string, base func(io.Writer) error) error {
	var w *os.File
	for {
		var err error
		// Without a reader, opening fails at once instead of waiting for one:
		// there may never be one.
		w, err = os.OpenFile(fifo, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.ENXIO) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Millisecond):
		}
	}
	stop := context.AfterFunc(ctx, func() { w.Close() })
	err := base(w)
	if stop() {
		err = errors.Join(err, w.Close())
	}
	// A reader that went away has a better reason than this.
	if errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

// unpack is what mmdebstrap's own setup does, with a base: where devices can be
// made it expects them, and where not it puts them there itself.
const unpack = `tar -C "$1" -x --numeric-owner --xattrs --xattrs-include='*' --exclude='dev/*' < base.tar && cd "$1/dev" && ` +
	`mkdir -p pts shm && if mknod -m 666 null c 1 3 2> /dev/null; then ` +
	`mknod -m 666 zero c 1 5 && mknod -m 666 full c 1 7 && mknod -m 666 random c 1 8 && ` +
	`mknod -m 666 urandom c 1 9 && mknod -m 666 tty c 5 0 && mknod -m 666 ptmx c 5 2 && ` +
	`mknod -m 600 console c 5 1 && ln -s /proc/self/fd fd && ln -s fd/0 stdin && ln -s fd/1 stdout && ln -s fd/2 stderr; fi`

// addModules unpacks modules and writes what modprobe finds them by.
const addModules = `tar -C "$1" -x < modules.tar && chroot "$1" depmod "$(ls "$1/usr/lib/modules")"`

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// configure writes the options of dpkg, which stay in the root. As options of
// mmdebstrap they would start a filter for each essential package, a third of
// the time that the base takes.
const configure = `mkdir -p "$1/etc/dpkg/dpkg.cfg.d" && printf '%s\n' ` +
	// A tree that is thrown away after a crash needs no fsync per file.
	`force-unsafe-io ` +
	`'path-exclude=/usr/share/man/*' 'path-exclude=/usr/share/info/*' ` +
	`'path-exclude=/usr/share/locale/*' 'path-exclude=/usr/share/lintian/*' ` +
	// Redistribution needs the licences, and they are small.
	`'path-exclude=/usr/share/doc/*' 'path-include=/usr/share/doc/*/copyright' ` +
	`> "$1/etc/dpkg/dpkg.cfg.d/90mayfly" && ` + aptHostConfig

// aptHostConfig puts AptConfig where apt reads it, also when mmdebstrap runs
// apt outside of the root.
const aptHostConfig = `cp apt.conf "$1/etc/apt/apt.conf.d/00mayfly-build"`

// clean takes out what the essential packages brought before dpkg had its
// options, and what belongs to the building host or to one installation: each
// machine gets its own. The directories of manual pages stay: where there is none, a package
// with alternatives, such as Java's, cannot be configured.
const clean = `cd "$1" && rm -rf usr/share/man/* usr/share/info/* usr/share/locale/* usr/share/lintian/*` +
	` etc/apt/apt.conf.d/00mayfly-build etc/hostname etc/resolv.conf etc/ssh/ssh_host_* etc/.pwd.lock` +
	` var/lib/apt/lists/* var/cache/apt/*.bin var/cache/apt/archives/*` +
	` var/lib/dpkg/*-old var/cache/debconf/*-old var/lib/systemd/random-seed root/.bash_history` +
	` && for i in 1 2 3 4 5 6 7 8; do mkdir -m 755 usr/share/man/man$i; done` +
	` && find usr/share/doc ! -type d ! -name copyright -delete` +
	` && find usr/share/doc -mindepth 1 -type d -empty -delete` +
	` && if [ -e etc/machine-id ]; then : > etc/machine-id; fi`

// aptOptions stay in the root: apt works in a machine as it did when the image
// was made.
func aptOptions() []string {
	return []string{`APT::Install-Recommends "false"`, `Acquire::Languages "none"`}
}

// run runs mmdebstrap. Without lines for a sources.list it has its own, for who
// does not skip its setup.
func (b Builder) run(ctx context.Context, args, sources []string, w io.Writer) error {
	mode, users, err := b.rootMode(ctx)
	if err != nil {
		return err
	}
	// clean does what mmdebstrap's own clean-up of apt would do: that leaves
	// directories whose owner depends on the mode, and without mmdebstrap's
	// setup it would clean up the host's apt.
	args = append([]string{"--mode=" + mode, "--format=tar", "--skip=cleanup/apt"}, args...)
	args = append(args, b.Suite, "-")
	args = append(args, sources...)
	if err := os.WriteFile(filepath.Join(b.Dir, "apt.conf"), []byte(b.AptConfig), 0o644); err != nil {
		return err
	}

	var mu sync.Mutex
	var unknown []string
	line := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		if m := unknownPackage().FindStringSubmatch(s); m != nil && !slices.Contains(unknown, m[1]) {
			unknown = append(unknown, m[1])
		}
		if text, ok := strings.CutPrefix(s, "I: "); ok && b.Text != nil && stage().MatchString(text) {
			b.Text(strings.TrimSuffix(text, "..."))
		}
	}
	var keep []*os.File
	if b.Lock != nil {
		keep = append(keep, b.Lock)
	}
	err = tool.Run(ctx, tool.Cmd{
		Name:   "mmdebstrap",
		Args:   args,
		Keep:   keep,
		Dir:    b.Dir,
		Users:  users,
		Drop:   foreign,
		Env:    append([]string{"TMPDIR=" + b.Dir}, sameBytes...),
		Stdout: w,
		Line:   line,
		// Its other mode has namespaces anyway.
		OwnMounts: mode == "root",
	})
	switch {
	case len(unknown) > 0:
		return UnknownPackages(b.Suite, unknown)
	case errors.Is(err, exec.ErrNotFound):
		return fault.New(fault.MmdebstrapMissing, nil, "build a Debian root: %w", err)
	}
	return err
}

// sameBytes makes one list of packages one image, whoever builds it. What Python compiles
// would differ with the random order of its sets, and with what it wrote before.
var sameBytes = []string{"SOURCE_DATE_EPOCH=" + strconv.Itoa(epoch), "PYTHONDONTWRITEBYTECODE=1", "PYTHONHASHSEED=0"}

// stage matches those of mmdebstrap's messages that tell a user something.
var stage = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(running apt-get|downloading|extracting|installing|creating tarball)`)
})

var unknownPackage = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(
		`^E: (?:Unable to locate package |Couldn't find any package by (?:glob|regex) '|Package ')([^' ]+)(?:' has no installation candidate|')?$`)
})

// packageName is Debian's rule (policy, 5.6.1) and an optional version. A
// trailing hyphen would make apt remove the package.
var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*[a-z0-9+.](=[A-Za-z0-9.+:~-]+)?$`)

// CheckNames returns an error about the names that cannot be packages. They
// end up in a shell's command line.
func CheckNames(names []string) error {
	var bad []string
	for _, n := range names {
		if !packageName.MatchString(n) {
			bad = append(bad, strconv.Quote(n))
		}
	}
	if len(bad) > 0 {
		return fault.Wrap(&UnknownPackageError{bad}, fault.PackageNameInvalid, fault.Args{"name": bad[0]})
	}
	return nil
}

// rootMode returns the way in which mmdebstrap gets to be root, and the first of the users
// that it has instead of the system's, if root builds: what a package's script does is
// then done without any right on the host. Where this is the root of a container that has
// no such users, or no right to make namespaces, it builds as root, and says so.
func (b Builder) rootMode(ctx context.Context) (mode string, users int, err error) {
	if os.Geteuid() == 0 {
		if err := b.giveTo(ctx, confine.FirstBuilder); err != nil {
			if b.AsRoot != nil && ctx.Err() == nil {
				b.AsRoot(err)
			}
			return "root", 0, os.Chown(b.Dir, 0, 0)
		}
		return "unshare", confine.FirstBuilder, nil
	}
	if _, err := tool.Find("newuidmap"); err != nil {
		return "", 0, fault.New(fault.UIDMapMissing, nil, "build a Debian root as a normal user: %w", err)
	}
	u, err := user.Current()
	if err != nil {
		return "", 0, err
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		if _, err := subordinate(file, u); err != nil {
			return "", 0, fault.New(fault.SubordinateIDsMissing, fault.Args{"user": u.Username},
				"build a Debian root as a normal user: %w", err)
		}
	}
	return "unshare", 0, nil
}

// giveTo gives the directory to the root of other users, and finds out whether programs can
// work there as these.
func (b Builder) giveTo(ctx context.Context, users int) error {
	if err := os.Chown(b.Dir, users, users); err != nil {
		return err
	}
	return tool.Run(ctx, tool.Cmd{Name: "true", Dir: b.Dir, Users: users})
}

// foreign reports whether a variable of the user is none of a build's business, which runs
// the scripts of packages: a token may be in it. Those of proxies are.
func foreign(name string) bool {
	switch strings.ToLower(name) {
	case "path", "home", "lang", "apt_config", "http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy":
		return false
	}
	return true
}

// Remove removes a build's directory, also what a killed build left in it.
func Remove(ctx context.Context, dir string) error {
	// A build mounts nothing that others see, but what a mistake would cost is
	// the host's /dev/shm.
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounts), " "+dir+"/") {
		return fault.New(fault.BuildDirectoryMounted, fault.Args{"dir": dir}, "remove %s: something is mounted in it", dir)
	}
	err = os.RemoveAll(dir)
	if err == nil || os.Geteuid() == 0 {
		return err
	}
	// The tree belongs to subordinate users, whom only a user namespace can
	// speak for. Its top directory itself is in ours, and stays.
	trees, globErr := filepath.Glob(filepath.Join(dir, "*"))
	if globErr != nil {
		return globErr
	}
	err = tool.Run(ctx, tool.Cmd{
		Name: "mmdebstrap",
		Args: append([]string{"--unshare-helper", "sh", "-c", `for d; do find "$d" -mindepth 1 -delete; done`, "sh"}, trees...),
	})
	return errors.Join(err, os.RemoveAll(dir))
}
