package engine

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Checked is what came of checking a machine's file.
type Checked struct {
	Name  string
	File  string
	Image string // the key of its image; empty when none was to be built
	Plan  plan.Plan
}

// Check checks the file of the machine what, or the file of that name that is to become
// one, and with build builds its image.
func (e *Engine) Check(ctx context.Context, what string, build bool) (Checked, error) {
	d, err := e.definitionOrFile(what)
	if err != nil {
		return Checked{}, err
	}
	p, err := e.planNamed(ctx, d, !build) // a check without a build makes nothing
	if err != nil {
		return Checked{}, err
	}
	if err := e.checkWorkspace(p); err != nil {
		return Checked{}, err
	}
	out := Checked{Name: d.Name, File: d.Path, Plan: p}
	if build {
		img, err := e.ensureImage(ctx, p.Image)
		if err != nil {
			return out, err
		}
		out.Image = img.Key
	}
	return out, nil
}

// definitionOrFile returns the definition of a machine's name, or one for a file.
func (e *Engine) definitionOrFile(what string) (definition.Definition, error) {
	d, err := e.definitions().Get(what)
	if err == nil || !strings.ContainsAny(what, "/.") {
		return d, err
	}
	path, err := filepath.Abs(what)
	if err != nil {
		return d, err
	}
	if _, err := os.Stat(path); err != nil {
		return d, fault.New(fault.FileMissing, args{"file": what}, "%s is neither a machine's name nor a file", what)
	}
	id := strings.TrimSuffix(filepath.Base(path), ".toml")
	if naming.Check(id) != nil {
		id = "checked"
	}
	d = e.definitions().At(id)
	d.Path = path
	return d, nil
}

// File returns the path and the content of the file of the machine name.
func (e *Engine) File(name string) (path string, content []byte, err error) {
	d, err := e.definitions().Get(name)
	if err != nil {
		return "", nil, err
	}
	file, err := config.ReadFile(d.Path)
	return d.Path, file.Data, err
}

// CheckFile finds out whether content can be the file of the machine name.
func (e *Engine) CheckFile(ctx context.Context, name string, content []byte) error {
	d, err := e.definitions().Get(name)
	if err != nil {
		return err
	}
	// Errors name the file that it is to be.
	_, err = e.planFile(ctx, d, config.File{Path: d.Path, Data: content}, false)
	return err
}

// ReplaceFile puts the file temp, which is beside that of the machine name, in its place,
// unless that is not before any more: then temp is kept under a name of its own.
func (e *Engine) ReplaceFile(ctx context.Context, name string, before []byte, temp string) error {
	release, err := e.definitions().LockFiles(ctx)
	if err != nil {
		return err
	}
	defer release()
	path, now, err := e.File(name)
	if err != nil {
		return err
	}
	if slices.Equal(before, now) {
		return atomicfile.Publish(temp, path)
	}
	kept := path + ".edited"
	if err := atomicfile.Publish(temp, kept); err != nil {
		return err
	}
	return fault.New(fault.FileChanged, args{"file": path, "kept": kept}, "%s was changed meanwhile; what you wrote is in %s", path, kept)
}

// ReadConfig reads a configuration file, bounded, as the engine does.
func ReadConfig(path string) ([]byte, error) {
	file, err := config.ReadFile(path)
	return file.Data, err
}

// Size is what the definition of a machine says of its size, the default where it says
// nothing, and whether a service manager is to start it by itself. The user's files are
// only read: with sudo, root asks for another user.
func (e *Engine) Size(name string) (memoryMiB, vcpus int, autostart bool, err error) {
	_, content, err := e.File(name)
	if err != nil {
		return 0, 0, false, err
	}
	cfg, err := e.loadFile(config.File{Path: e.definitions().At(name).Path, Data: content})
	if err != nil {
		return 0, 0, false, err
	}
	memoryMiB, vcpus = plan.DefaultMemoryMiB, plan.DefaultVCPUs
	if cfg.Machine.MemoryMiB != 0 {
		memoryMiB = cfg.Machine.MemoryMiB
	}
	if cfg.Machine.VCPUs != 0 {
		vcpus = cfg.Machine.VCPUs
	}
	return memoryMiB, vcpus, cfg.Machine.Autostart, nil
}
