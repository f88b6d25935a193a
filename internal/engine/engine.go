// Package engine does what mayfly does: it loads configuration, plans machines,
// makes sure of their images, and starts, stops, lists, defines and updates them.
// It is what all front ends share, through package mayfly at the root.
//
// It prints nothing and asks nobody. What a user may want to know while something
// takes its time is an [Event]; what went wrong is an error with a code of package
// fault. The packages below it each know one thing; this one knows the order.
package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/guest/binary"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/template"
)

// Options are what an engine needs of its process.
type Options struct {
	// Getenv looks up the user's environment variables: os.Getenv, but for who
	// acts for another user.
	Getenv func(string) string
	// Program is the file that is executed again as each machine's supervisor, and
	// as what ssh connects through. It is mayfly, or a program that calls
	// Internal at its beginning. Empty for this program.
	Program string
	// Tell is called with what happens, from one goroutine at a time. It must not
	// block for long. Nil for nobody.
	Tell func(Event)
	// Fresh has the host looked at anew in place of what was remembered of it.
	Fresh bool
}

// Engine is one user's machines and images on this computer. It holds nothing open:
// all state is in files.
type Engine struct {
	opt  Options
	dirs host.Dirs
}

// New returns the engine for the user whose environment it is. It makes nothing, and refuses
// directories that other users can change.
func New(opt Options) (*Engine, error) {
	dirs, err := host.XDGDirs(opt.Getenv)
	if err != nil {
		return nil, err
	}
	if err := dirs.CheckOwn(); err != nil {
		return nil, err
	}
	if opt.Program == "" {
		if opt.Program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
	}
	if opt.Tell == nil {
		opt.Tell = func(Event) {}
	}
	return &Engine{opt: opt, dirs: dirs}, nil
}

func (e *Engine) home() string { return e.opt.Getenv("HOME") }

// machines opens the store of machines that run, or left something.
func (e *Engine) machines() state.Store { return state.Open(e.dirs.State) }

// definitions is the store of machines with names of their own.
func (e *Engine) definitions() definition.Store {
	return definition.Store{ConfigDir: e.dirs.Config, StateDir: e.dirs.State}
}

// images opens the store of images.
func (e *Engine) images() (*image.Store, error) {
	agent, err := binary.Agent()
	if err != nil {
		return nil, err
	}
	return image.Open(image.Options{
		Dir:        filepath.Join(e.dirs.Data, "store"),
		BuildDir:   "/var/tmp",
		Agent:      agent,
		AgentsLock: e.agentsLock(),
	})
}

// agentsLock is the file that pins coding agents, beside the configuration.
func (e *Engine) agentsLock() string { return filepath.Join(e.dirs.Config, "agents.lock.json") }

// templates is the store of templates.
func (e *Engine) templates() template.Store { return template.Store{Dir: e.dirs.TemplateDir()} }

// profileDir is where the user's own profiles are.
func (e *Engine) profileDir() string { return filepath.Join(e.dirs.Config, "profiles") }

// userConfig is the user's configuration.
func (e *Engine) userConfig() string { return filepath.Join(e.dirs.Config, "config.toml") }

// facts probes the host, and proves KVM unless that is not wanted. A dry run remembers
// nothing of what it finds out.
func (e *Engine) facts(ctx context.Context, proveKVM, dryRun bool) (host.Facts, error) {
	facts, err := host.Probe(ctx, e.probe(dryRun))
	if err != nil || !proveKVM || !facts.KVM.Openable || facts.QEMU.Path == "" {
		return facts, err
	}
	tried := facts.KVM.Tested
	kvm, err := host.ProveKVM(ctx, facts, host.ProveOptions{Forget: dryRun})
	if err != nil {
		// Emulation does without.
		e.note(NoteKVMUntested, args{"reason": err.Error()})
		return facts, ctx.Err()
	}
	if !tried && !kvm.Proven {
		e.note(NoteKVMUnusable, args{"reason": kvm.Reason})
	}
	facts.KVM = kvm
	return facts, nil
}

func (e *Engine) probe(dryRun bool) host.Options {
	return host.Options{Dirs: e.dirs, Getenv: e.opt.Getenv, Program: e.opt.Program, Fresh: e.opt.Fresh, Forget: dryRun}
}

// newName returns a name for a machine that its user did not name.
func newName() string {
	var b [3]byte
	rand.Read(b[:])
	return "run-" + hex.EncodeToString(b[:])
}
