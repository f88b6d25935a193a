// Package apt fetches signed Debian packages without installing them.
//
// A Root is a private apt: its own sources, lists and cache in a directory of
// the user's, so that it needs no privilege and changes nothing of the host's
// apt. apt itself checks the signatures, against Debian's archive keyring and
// nothing else; which mirror the bytes come from is therefore a matter of speed
// and not of trust. ReadMirrors reads the host's choice of one.
//
// The package unpacks what it fetched but runs none of it.
package apt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/filelock"
)

// Root is a private apt for one suite. Its methods may be called by several
// processes at once; they take turns.
type Root struct {
	Dir      string       // everything is kept here; may be removed at any time
	Suite    string       // for example "trixie" or "bookworm-backports"
	Mirror   string       // the archive's URI (ReadMirrors)
	Keyring  string       // the archive's keys; empty for Keyring()
	Arch     string       // as Debian names it; empty for "amd64"
	Progress func(string) // nil, or told what is being done, a line at a time
}

// Deb is a fetched package, its checksum verified.
type Deb struct {
	Name    string
	Version string
	Path    string
}

// Keyring returns the path of the Debian archive's keys, which the package
// debian-archive-keyring installs.
func Keyring() (string, error) {
	for _, path := range []string{
		"/usr/share/keyrings/debian-archive-keyring.gpg",
		"/usr/share/keyrings/debian-archive-keyring.pgp", // its name since trixie
	} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fault.New(fault.DebianKeysMissing, nil, "find the Debian archive's keys: not installed")
}

var (
	suitePattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9./-]*$`)
	packagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
)

// Update fetches the suite's list of packages.
func (r Root) Update(ctx context.Context) error {
	if err := r.configure(ctx); err != nil {
		return fmt.Errorf("set up apt for %s: %w", r.Suite, err)
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r.say("fetching the package list of %s", r.Suite)
	if _, err := r.run(ctx, r.Dir, "apt-get", "--quiet", "--quiet", "update"); err != nil {
		err = fmt.Errorf("fetch the package list of %s: %w", r.Suite, err)
		if unknownKey().MatchString(err.Error()) {
			err = fault.Wrap(err, fault.DebianKeysOld, fault.Args{"suite": r.Suite})
		}
		return err
	}
	return atomicfile.WriteUnsynced(filepath.Join(r.Dir, stampFile), nil, 0o644)
}

// unknownKey matches what apt says of a signature whose key it does not have,
// with gpgv and with sqv.
var unknownKey = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`NO_PUBKEY|Missing key`) })

// Updated returns when Update last succeeded; the zero time for never.
func (r Root) Updated() time.Time {
	info, err := os.Stat(filepath.Join(r.Dir, stampFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Depends returns the names of the packages that pkg needs, the direct ones
// only and in the order of its own list.
func (r Root) Depends(ctx context.Context, pkg string) ([]string, error) {
	if err := checkPackages(pkg); err != nil {
		return nil, err
	}
	out, err := r.run(ctx, r.Dir, "apt-cache", "depends", "--important", pkg)
	if err != nil {
		return nil, fmt.Errorf("look up what %s needs: %w", pkg, err)
	}
	return parseDepends(string(out)), nil
}

// parseDepends reads the output of `apt-cache depends`. Of alternatives the
// first counts, as it does for apt; virtual packages are left out.
func parseDepends(out string) []string {
	var names []string
	alternative := false
	for line := range strings.Lines(out) {
		kind, name, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		first := !alternative
		alternative = strings.HasPrefix(kind, "|")
		switch strings.TrimPrefix(kind, "|") {
		case "Depends", "PreDepends":
			if first && packagePattern.MatchString(name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Download fetches the packages, without what they depend on. One that is there
// already is not fetched again. Update must have been called once.
func (r Root) Download(ctx context.Context, pkgs ...string) ([]Deb, error) {
	if err := checkPackages(pkgs...); err != nil {
		return nil, err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()

	dir := filepath.Join(r.Dir, "debs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// apt says nothing of a file that is in its working directory already.
	out, err := r.run(ctx, filepath.Join(r.Dir, "empty"), "apt-get", append([]string{"download", "--print-uris"}, pkgs...)...)
	if err != nil {
		return nil, fmt.Errorf("look up %s in %s: %w", strings.Join(pkgs, ", "), r.Suite, err)
	}
	files, err := parseURIs(string(out))
	if err != nil {
		return nil, fmt.Errorf("look up %s in %s: %w", strings.Join(pkgs, ", "), r.Suite, err)
	}
	var debs []Deb
	var missing []string
	for _, pkg := range pkgs {
		i := slices.IndexFunc(files, func(f file) bool { return f.pkg == pkg })
		if i < 0 {
			return nil, fmt.Errorf("look up %s in %s: apt does not say where it is", pkg, r.Suite)
		}
		f := files[i]
		path := filepath.Join(dir, f.name)
		debs = append(debs, Deb{Name: f.pkg, Version: f.version, Path: path})
		if f.verify(path) != nil {
			// apt would take a damaged file for the beginning of a good one.
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			missing = append(missing, pkg+"="+f.version)
			r.say("downloading %s %s (%.1f MB)", f.pkg, f.version, float64(f.size)/1e6)
		}
	}
	if len(missing) == 0 {
		return debs, nil
	}
	if _, err := r.run(ctx, dir, "apt-get", append([]string{"--quiet", "--quiet", "download"}, missing...)...); err != nil {
		return nil, fmt.Errorf("download from %s: %w", r.Suite, err)
	}
	for i, d := range debs {
		j := slices.IndexFunc(files, func(f file) bool { return f.pkg == d.Name })
		if err := files[j].verify(debs[i].Path); err != nil {
			return nil, fmt.Errorf("download %s: %w", d.Name, err)
		}
	}
	return debs, nil
}

// Extract unpacks the package's files into dir, without running anything of it.
func Extract(ctx context.Context, d Deb, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--extract", d.Path, dir)
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("unpack %s: %w", d.Name, err)
	}
	return nil
}

// file is what apt knows of a package's file from the signed list.
type file struct {
	pkg, version string
	name         string // of the file
	size         int64
	sha256       string
}

// verify checks the file at path against the signed list. apt has done so when
// it fetched it; this finds one that was damaged since.
func (f file) verify(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	h := sha256.New()
	n, err := io.Copy(h, in)
	if err != nil {
		return err
	}
	if n != f.size || hex.EncodeToString(h.Sum(nil)) != f.sha256 {
		return fmt.Errorf("%s is not the file that the archive signed", path)
	}
	return nil
}

var uriLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^'[^']*' ([^ _/]+)_([^ _/]+)_([^ _/]+)\.deb ([0-9]{1,15}) SHA256:([0-9a-f]{64})$`)
})

// parseURIs reads the output of `apt-get download --print-uris`:
//
//	'URI' seabios_1.16.3-2~bpo12+1_all.deb 164152 SHA256:…
func parseURIs(out string) ([]file, error) {
	var files []file
	for line := range strings.Lines(out) {
		m := uriLine().FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			return nil, fmt.Errorf("unexpected line from apt: %.200q", line)
		}
		f := file{pkg: m[1], sha256: m[5]}
		f.version = strings.ReplaceAll(m[2], "%3a", ":") // the epoch's colon
		f.name = fmt.Sprintf("%s_%s_%s.deb", m[1], m[2], m[3])
		if _, err := fmt.Sscan(m[4], &f.size); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// checkPackages refuses what apt would take for an option or a pattern.
func checkPackages(pkgs ...string) error {
	for _, p := range pkgs {
		if !packagePattern.MatchString(p) {
			return fmt.Errorf("%q is not the name of a package", p)
		}
	}
	return nil
}

func (r Root) say(format string, args ...any) {
	if r.Progress != nil {
		r.Progress(fmt.Sprintf(format, args...))
	}
}

func (r Root) lock(ctx context.Context) (func(), error) {
	return filelock.Acquire(ctx, filepath.Join(r.Dir, "lock"), func() {
		r.say("waiting for another mayfly that fetches packages")
	})
}

// run runs a program of apt's on this root and returns its standard output.
func (r Root) run(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(r.Dir, configFile))
	return output(cmd)
}

// output runs a program to its end; the error has what it said last. The
// program and its helpers are asked to stop when the context ends.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C.UTF-8")
	// An apt that outlives us would keep its lock. The signal is sent when the
	// thread that started the program ends, so the thread must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		const most = 1000
		said := strings.TrimSpace(stderr.String())
		if len(said) > most {
			said = "…" + said[len(said)-most:]
		}
		if said == "" {
			return nil, fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err)
		}
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, said)
	}
	return stdout.Bytes(), nil
}
