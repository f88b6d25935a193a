package image

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/debian"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/test/env"
)

// These tests build real images. What must survive being killed runs in
// processes of its own: this test binary, started with childVariable set.

const childVariable = "MAYFLY_TEST_IMAGE_CHILD"

// child is what such a process does, and its results.
type child struct {
	Do      string  // "ensure", "prune" or "check packages"
	Options Options // of the account, but for AptDir
	Image   plan.Image

	Result Image  // of ensure
	Error  string // of either
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		os.Exit(runChild(text))
	}
	os.Exit(m.Run())
}

// runChild prints one line of JSON per event, and the child itself at the end.
func runChild(text string) int {
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	os.Unsetenv(childVariable)
	out := json.NewEncoder(os.Stdout)
	err := func() error {
		c.Options.Agent = guestProgram(testProgram) // a reader has no JSON
		s, err := Open(c.Options)
		if err != nil {
			return err
		}
		switch c.Do {
		case "prune":
			_, err := s.Prune(context.Background(), nil, false)
			return err
		case "check packages":
			w, err := s.resolve(c.Image)
			if err != nil {
				return err
			}
			b := &builder{Store: s, want: w, report: newReporter(nil)}
			if err := b.findMirrors(context.Background()); err != nil {
				return err
			}
			return b.checkPackages(context.Background())
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, os.Interrupt)
		go func() { <-stop; cancel() }()
		c.Result, err = s.Ensure(ctx, c.Image, func(e Event) { out.Encode(e) })
		return err
	}()
	if err != nil {
		c.Error = err.Error() + "; code: " + string(fault.CodeOf(err))
	}
	out.Encode(c)
	return 0
}

// account is who runs a child, and where.
type account struct {
	dir  string // that others can reach
	cred *syscall.Credential
	env  []string
}

// rootAccount builds as root.
func rootAccount(t *testing.T) account {
	t.Helper()
	env.NeedRoot(t)
	return account{dir: reachableDir(t, 0, 0), env: os.Environ()}
}

// userAccount makes a user with subordinate ids, for as long as the test runs.
func userAccount(t *testing.T) account {
	t.Helper()
	env.NeedRoot(t)
	for _, program := range []string{"useradd", "userdel", "newuidmap"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("makes a normal user who may build: %v", err)
		}
	}
	name := fmt.Sprintf("mayfly-test-%d", os.Getpid())
	if out, err := exec.Command("useradd", "--no-create-home", "--shell", "/bin/false", name).CombinedOutput(); err != nil {
		t.Fatalf("useradd: %v: %s", err, out)
	}
	t.Cleanup(func() {
		// It refuses as long as the user has processes, which after a kill may
		// be a moment longer than they have files.
		var out []byte
		var err error
		for range 100 {
			if out, err = exec.Command("userdel", name).CombinedOutput(); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("userdel: %v: %s", err, out)
	})
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	a := account{dir: reachableDir(t, uid, gid), cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	a.env = []string{"HOME=" + a.dir, "USER=" + name, "PATH=/usr/bin:/bin"}
	return a
}

// reachableDir makes a directory that belongs to a user. t.TempDir is in one
// that only root may enter.
func reachableDir(t *testing.T, uid, gid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "mayfly-test-image-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := debian.Remove(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"", "build"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chown(filepath.Join(dir, name), uid, gid), os.Chmod(filepath.Join(dir, name), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "child"), binary, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (a account) options() Options {
	return Options{
		Dir:      filepath.Join(a.dir, "store"),
		BuildDir: filepath.Join(a.dir, "build"),
		CacheDir: filepath.Join(a.dir, "cache"),
		Agent:    guestProgram(testProgram),
	}
}

// run runs a child, tells on about its events, and returns how it ended.
func (a account) run(c child, on func(Event, *os.Process)) (child, error) {
	aptDir := c.Options.AptDir
	c.Options = a.options()
	c.Options.AptDir = aptDir
	text, err := json.Marshal(c)
	if err != nil {
		return child{}, err
	}
	cmd := exec.Command(filepath.Join(a.dir, "child"))
	cmd.Env = append(slices.Clone(a.env), childVariable+"="+string(text))
	cmd.Dir = a.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.cred}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return child{}, err
	}
	if err := cmd.Start(); err != nil {
		return child{}, err
	}
	var last string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		last = lines.Text()
		var e Event
		if err := json.Unmarshal([]byte(last), &e); err == nil && e.Phase != "" && on != nil {
			on(e, cmd.Process)
		}
	}
	if err := cmd.Wait(); err != nil {
		return child{}, err
	}
	var done child
	if err := json.Unmarshal([]byte(last), &done); err != nil {
		return child{}, fmt.Errorf("child said %q: %w", last, err)
	}
	if done.Error != "" {
		return done, errors.New(done.Error)
	}
	return done, nil
}

func diffIDs(im Image) []string {
	var ids []string
	for _, l := range im.Layers {
		ids = append(ids, l.Role+" "+l.DiffID)
	}
	return ids
}

// Two processes that want the same image at the same time build it once; a
// normal user's build has the same contents as root's.
func TestBuild(t *testing.T) {
	env.NeedVM(t)
	root := rootAccount(t)
	pi := plan.Image{Base: "debian:trixie", Packages: []string{"delve"}}

	var mu sync.Mutex
	built := make(map[string]int) // by artifact
	var wg sync.WaitGroup
	var results [2]Image
	for i := range results {
		wg.Go(func() {
			started := make(map[string]bool)
			c, err := root.run(child{Do: "ensure", Image: pi}, func(e Event, _ *os.Process) {
				if e.Phase == PhaseBuild {
					started[e.Artifact] = true
				}
			})
			if err != nil {
				t.Errorf("Ensure() = %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			results[i] = c.Result
			for artifact := range started {
				built[artifact]++
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for artifact, n := range built {
		if n != 1 {
			t.Errorf("%s was built %d times; want once", artifact, n)
		}
	}
	if diff := cmp.Diff(results[0], results[1]); diff != "" {
		t.Errorf("two Ensures differ:\n%s", diff)
	}
	s, err := Open(root.options())
	if err != nil {
		t.Fatal(err)
	}
	checkBuilt(t, s, pi)

	t.Run("user", func(t *testing.T) {
		a := userAccount(t)
		c, err := a.run(child{Do: "ensure", Image: pi}, nil)
		if err != nil {
			t.Fatalf("Ensure() = %v", err)
		}
		if diff := cmp.Diff(diffIDs(results[0]), diffIDs(c.Result)); diff != "" {
			t.Errorf("layers differ from root's (-root +user):\n%s", diff)
		}
	})

	t.Run("unknown package", func(t *testing.T) {
		_, err := s.Ensure(t.Context(), plan.Image{Base: "debian:trixie", Packages: []string{"delve", "frobnicate"}}, nil)
		unknown, ok := errors.AsType[*debian.UnknownPackageError](err)
		if !ok || !slices.Equal(unknown.Names, []string{"frobnicate"}) || fault.CodeOf(err) != fault.PackageUnknown {
			t.Errorf("Ensure(frobnicate) = %v, %q; want an error that names it", err, fault.CodeOf(err))
		}
	})
}

// checkBuilt looks into an image with delve in it.
func checkBuilt(t *testing.T, s *Store, pi plan.Image) {
	t.Helper()
	im, err := s.Lookup(pi)
	if err != nil {
		t.Fatal(err)
	}
	if !im.Kernel.PVH || !strings.Contains(im.Kernel.Version, "cloud") {
		t.Errorf("kernel = %+v; want a cloud kernel with PVH", im.Kernel)
	}
	has := func(layer Layer, want bool, paths ...string) {
		t.Helper()
		image, closer, err := s.openLayer(layer.DiffID)
		if err != nil {
			t.Fatal(err)
		}
		defer closer.Close()
		for _, p := range paths {
			if _, err := image.Lookup(p); (err == nil) != want {
				t.Errorf("%s layer: Lookup(%s) = %v; want found: %v", layer.Role, p, err, want)
			}
		}
	}
	packages, base := im.Layers[0], im.Layers[1]
	has(packages, true, "usr/bin/dlv", "var/lib/dpkg/status")
	has(packages, false, "usr/bin/git", "etc/resolv.conf", "etc/hostname", "dev/null", "var/cache/apt/pkgcache.bin")
	has(base, true, "usr/bin/git", "usr/bin/gcc", "usr/bin/rg", "usr/bin/sudo", "usr/bin/zsh", "usr/share/zoneinfo/Europe/Zurich",
		"usr/share/doc/git/copyright", "etc/apt/sources.list", "usr/share/man/man1", "usr/share/man/man8")
	has(base, false, "usr/share/man/de", "usr/share/man/man1/git.1.gz", "etc/resolv.conf", "etc/hostname", "var/cache/apt/pkgcache.bin")

	if fsck, err := exec.LookPath("fsck.erofs"); err == nil {
		for _, l := range im.Layers {
			out, err := exec.Command(fsck, l.Path).CombinedOutput()
			if err != nil {
				t.Errorf("fsck.erofs of the %s layer: %v: %s", l.Role, err, out)
			}
		}
	}
	problems, err := s.Check(t.Context(), nil)
	if err != nil || len(problems) != 0 {
		t.Errorf("Check() = %v, %v; want nothing", problems, err)
	}
}

func TestBuildAgents(t *testing.T) {
	env.NeedVM(t)
	s, err := Open(Options{Dir: filepath.Join(t.TempDir(), "store"), BuildDir: "/var/tmp", Agent: guestProgram("guest program")})
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.resolve(plan.Image{Base: "debian:trixie", Agents: []string{"claude", "codex", "opencode"}})
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{Store: s, want: w, report: newReporter(nil)}
	id, err := b.agents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	im, closer, err := s.openLayer(id)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	for _, a := range w.agents {
		link, err := im.Lookup("usr/local/bin/" + a.Name)
		if err != nil {
			t.Error(err)
			continue
		}
		program, err := im.Open(strings.TrimPrefix(link.Target, "/"))
		if err != nil {
			t.Error(err)
			continue
		}
		// The guest's processor is the host's or an emulated one of its kind,
		// so the program must be able to run here.
		path := filepath.Join(t.TempDir(), a.Name)
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o700)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(f, program)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, "--version")
		cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), a.Version) {
			t.Errorf("%s --version = %q, %v; want %s", a.Name, out, err, a.Version)
		}
	}
}

// awaitWork waits until a build writes: it is in the middle of something then.
func awaitWork(t *testing.T, opts Options) {
	t.Helper()
	used := func() int64 { return DiskUsage(opts.BuildDir) + DiskUsage(opts.Dir) }
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for before := used(); used() == before; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Error("the build writes nothing")
			return
		}
	}
}

// A build that is killed or interrupted leaves nothing that a prune does not
// find, and nothing that looks finished.
func TestBuildInterrupted(t *testing.T) {
	env.NeedVM(t)
	tests := []struct {
		who    string
		signal syscall.Signal
		at     string // what the base's build says
	}{
		{"root", syscall.SIGINT, "extracting archives"},
		{"root", syscall.SIGKILL, "installing essential packages"},
		{"root", syscall.SIGKILL, "creating tarball"},
		{"user", syscall.SIGKILL, "installing essential packages"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %v %s", tt.who, tt.signal, strings.Fields(tt.at)[0]), func(t *testing.T) {
			a := rootAccount(t)
			if tt.who == "user" {
				a = userAccount(t)
			}
			signalled := false
			_, err := a.run(child{Do: "ensure", Image: trixie}, func(e Event, p *os.Process) {
				if !signalled && e.Artifact == RoleBase && e.Text == tt.at {
					signalled = true
					awaitWork(t, a.options())
					p.Signal(tt.signal)
				}
			})
			if err == nil || !signalled {
				t.Fatalf("Ensure() = %v, signalled %v; want an interrupted build", err, signalled)
			}
			build := a.options().BuildDir
			if tt.signal == syscall.SIGINT {
				// It had the time to clean up.
				checkEmpty(t, build)
				checkEmpty(t, filepath.Join(a.options().Dir, dirTemp))
			}
			if _, err := a.run(child{Do: "prune"}, nil); err != nil {
				t.Errorf("Prune() = %v", err)
			}
			checkProcesses(t, build)
			checkEmpty(t, build)
			s, err := Open(a.options())
			if err != nil {
				t.Fatal(err)
			}
			// A kernel may have been complete, but belongs to no image.
			checkFiles(t, s, nil)
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil || strings.Contains(string(mounts), build) {
				t.Errorf("something is mounted in %s (%v)", build, err)
			}
		})
	}
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", filepath.Join(dir, e.Name()))
	}
}

// checkProcesses looks for processes whose root or command line is in dir.
func checkProcesses(t *testing.T, dir string) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		// Both fail for processes that end meanwhile.
		root, _ := os.Readlink(p + "/root")
		cmdline, _ := os.ReadFile(p + "/cmdline")
		if strings.HasPrefix(root, dir) || strings.Contains(string(cmdline), dir) {
			t.Errorf("still running: %s, root %s: %q", p, root, cmdline)
		}
	}
}

// A disk that fills up during a build is reported as one that was too full
// before it, and nothing of the build is left.
func TestBuildDiskFull(t *testing.T) {
	env.NeedVM(t)
	env.NeedRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("mounts a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s, err := Open(Options{Dir: dir, BuildDir: t.TempDir(), Agent: guestProgram("guest program")})
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{Store: s, report: newReporter(nil)}
	r := recipe{Role: RoleBase}
	build := func() error {
		_, err := b.once(t.Context(), r, space{store: 1 << 20}, func() (string, error) {
			return s.addLayer(t.Context(), r, writeTar(strings.Repeat("x", 16<<20)))
		})
		return err
	}
	err = build()
	if full, ok := errors.AsType[*NoSpaceError](err); !ok || full.Dir != dir || fault.CodeOf(err) != fault.NoSpaceForImage {
		t.Errorf("build on a small disk = %v, %q; want a *NoSpaceError", err, fault.CodeOf(err))
	}
	checkFiles(t, s, nil)
	// And before, when it is known to be too much.
	_, err = s.Ensure(t.Context(), trixie, nil)
	if _, ok := errors.AsType[*NoSpaceError](err); !ok {
		t.Errorf("Ensure() on a small disk = %v; want a *NoSpaceError", err)
	}
}
