package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"github.com/mayfly-vm/mayfly/internal/guest/binary"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/template"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// app is what all commands share.
type app struct {
	Streams
	version string
	getenv  func(string) string
	signals *signals

	verbose bool
	json    bool // the command was asked for JSON
	fresh   bool // the command looks at the host anew
}

func (a *app) dirs() (host.Dirs, error) { return host.XDGDirs(a.getenv) }

// note prints one line for the user.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.Err, "mayfly: "+termsafe.Text(fmt.Sprintf(format, args...)))
}

// debug prints one line for the user who asked for more.
func (a *app) debug(format string, args ...any) {
	if a.verbose {
		a.note(format, args...)
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// facts probes the host, and proves KVM unless that is not wanted.
func (a *app) facts(ctx context.Context, proveKVM bool) (host.Facts, error) {
	dirs, err := a.dirs()
	if err != nil {
		return host.Facts{}, err
	}
	facts, err := host.Probe(ctx, host.Options{Dirs: dirs, Getenv: a.getenv, Fresh: a.fresh})
	if err != nil {
		return facts, err
	}
	if proveKVM && facts.KVM.Openable && facts.QEMU.Path != "" {
		tried := facts.KVM.Tested
		kvm, err := host.ProveKVM(ctx, facts, host.ProveOptions{})
		if err != nil {
			// Emulation does without.
			a.note("KVM was not tested: %v", err)
			return facts, ctx.Err()
		}
		if !tried && !kvm.Proven {
			a.note("KVM does not work here, so machines run emulated, several times slower (%s)", kvm.Reason)
		}
		facts.KVM = kvm
	}
	return facts, nil
}

// machines opens the store of machines.
func (a *app) machines() (state.Store, error) {
	dirs, err := a.dirs()
	if err != nil {
		return state.Store{}, err
	}
	return state.Open(dirs.State)
}

// machine returns the machine name.
func (a *app) machine(name string) (state.Machine, error) {
	machines, err := a.machines()
	if err != nil {
		return state.Machine{}, err
	}
	m, err := machines.Get(name)
	if err != nil && a.defined(name) {
		return m, hint.Errorf("mayfly start "+name, "%s does not run", name)
	}
	return m, err
}

// images opens the store of images.
func (a *app) images() (*image.Store, error) {
	dirs, err := a.dirs()
	if err != nil {
		return nil, err
	}
	agent, err := binary.Agent()
	if err != nil {
		return nil, err
	}
	return image.Open(image.Options{
		Dir:        filepath.Join(dirs.Data, "store"),
		BuildDir:   "/var/tmp",
		Agent:      agent,
		AgentsLock: filepath.Join(dirs.Config, agentsLockFile),
	})
}

// agentsLockFile pins agents, beside the configuration.
const agentsLockFile = "agents.lock.json"

// templates opens the store of templates.
func (a *app) templates() (template.Store, error) {
	dirs, err := a.dirs()
	if err != nil {
		return template.Store{}, err
	}
	return template.Store{Dir: dirs.TemplateDir()}, nil
}

// newName returns a name for a machine that its user did not name.
func newName() string {
	var b [3]byte
	rand.Read(b[:])
	return "run-" + hex.EncodeToString(b[:])
}

// inUse returns the files of images that machines have open.
func inUse(machines state.Store) ([]string, error) {
	all, err := machines.List()
	if err != nil {
		return nil, err
	}
	var files []string
	for _, m := range all {
		var img image.Image
		err := state.ReadJSON(m.File(state.ImageFile), &img)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, img.Files()...)
	}
	return files, nil
}

// workspacePath returns the real path of the workspace.
func workspacePath(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("find the workspace: %w", err)
	}
	return filepath.Abs(real)
}
