package host

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// QEMUVariable names the environment variable that overrides the search for
// QEMU: the path of a qemu-system binary.
const QEMUVariable = "MAYFLY_QEMU"

// QEMU is the emulator that machines use. Path is empty when there is none that
// starts; Problem then says why.
type QEMU struct {
	Path    string  `json:"path"`
	Version Version `json:"version"`
	Build   string  `json:"build"` // the first line of --version; names the distribution's package

	// DataDirs are the firmware directories, each for one -L, and ModuleDir is
	// for the environment variable QEMU_MODULE_DIR. Both are empty for a QEMU
	// that is installed where it was built for.
	DataDirs  []string `json:"data_dirs,omitempty"`
	ModuleDir string   `json:"module_dir,omitempty"`

	Problem string `json:"problem,omitempty"`
}

// Environ returns base with what QEMU needs in its environment.
func (q QEMU) Environ(base []string) []string {
	if q.ModuleDir == "" {
		return base
	}
	return append(slices.Clone(base), "QEMU_MODULE_DIR="+q.ModuleDir)
}

// DataArgs returns the -L arguments.
func (q QEMU) DataArgs() []string {
	var args []string
	for _, dir := range q.DataDirs {
		args = append(args, "-L", dir)
	}
	return args
}

// qemuBinary is QEMU's name for this architecture.
func qemuBinary() string {
	if runtime.GOARCH == "arm64" {
		return "qemu-system-aarch64"
	}
	return "qemu-system-x86_64"
}

// QEMUDir returns the directory of mayfly's private QEMUs, one subdirectory for
// each version.
func (d Dirs) QEMUDir() string { return filepath.Join(d.Data, "qemu") }

// TemplateDir returns the directory of saved boots.
func (d Dirs) TemplateDir() string { return filepath.Join(d.Cache, "templates") }

// findQEMU returns the first QEMU that starts: $MAYFLY_QEMU (and then no
// other), the newest private one, the one in PATH.
func findQEMU(ctx context.Context, o Options) QEMU {
	if path := o.env(QEMUVariable); path != "" {
		q, err := o.inspectQEMU(ctx, path)
		if err != nil {
			return QEMU{Problem: fmt.Sprintf("%s=%s: %v", QEMUVariable, path, err)}
		}
		return q
	}
	var candidates []string
	for _, v := range privateQEMUs(o.Dirs) {
		candidates = append(candidates, filepath.Join(o.Dirs.QEMUDir(), v.String(), "usr/bin", qemuBinary()))
	}
	if tool := findTool(o, qemuBinary()); tool.Path != "" {
		candidates = append(candidates, tool.Path)
	}
	problem := qemuBinary() + " is not installed"
	for i, path := range candidates {
		q, err := o.inspectQEMU(ctx, path)
		if err == nil {
			if i > 0 {
				q.Problem = problem // a private one that no longer starts is worth a word
			}
			return q
		}
		problem = fmt.Sprintf("%s: %v", path, err)
	}
	return QEMU{Problem: problem}
}

// privateQEMUs returns the versions unpacked in the data directory, newest
// first. Unfinished ones have a name that is no version.
func privateQEMUs(d Dirs) []Version {
	if d.Data == "" {
		return nil
	}
	entries, err := os.ReadDir(d.QEMUDir())
	if err != nil {
		return nil
	}
	var versions []Version
	for _, e := range entries {
		if v, err := ParseVersion(e.Name()); err == nil && v.String() == e.Name() {
			versions = append(versions, v)
		}
	}
	slices.SortFunc(versions, func(a, b Version) int { return b.Compare(a) })
	return versions
}

// inspectQEMU starts the binary to learn its version; that it starts proves
// that its libraries are there.
func inspectQEMU(ctx context.Context, path string) (QEMU, error) {
	q := QEMU{Path: path}
	// A Debian package that was unpacked elsewhere finds neither its firmware
	// nor its modules by itself.
	if tree, ok := strings.CutSuffix(path, "/usr/bin/"+filepath.Base(path)); ok && tree != "" {
		for _, dir := range []string{"usr/share/qemu", "usr/share/seabios"} {
			if dir = filepath.Join(tree, dir); exists(dir) {
				q.DataDirs = append(q.DataDirs, dir)
			}
		}
		modules, err := filepath.Glob(filepath.Join(tree, "usr/lib/*/qemu"))
		if err == nil && len(modules) == 1 {
			q.ModuleDir = modules[0]
		}
	}

	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = q.Environ(os.Environ())
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if text, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n"); text != "" {
			return QEMU{}, fmt.Errorf("start it: %w: %s", err, text)
		}
		return QEMU{}, fmt.Errorf("start it: %w", err)
	}
	if q.Version, err = parseVersionOutput(string(out)); err != nil {
		return QEMU{}, err
	}
	q.Build, _, _ = strings.Cut(string(out), "\n")
	return q, nil
}

// findTool looks for a program in PATH and then in the directories of system
// programs, which a normal user's PATH lacks on Debian.
func findTool(o Options, name string) Tool {
	dirs := append(filepath.SplitList(o.env("PATH")), "/usr/local/sbin", "/usr/sbin", "/sbin")
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			continue // never a program of the current directory, which may be anyone's
		}
		path := o.path(filepath.Join(dir, name))
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return Tool{Path: path}
		}
	}
	return Tool{}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
