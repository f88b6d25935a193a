package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/clone"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
	"github.com/mayfly-vm/mayfly/internal/importer/bundle"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// have returns the machines and profiles that are here.
func (e *Engine) have() (bundle.Have, error) {
	have := bundle.Have{Machines: make(map[string][]byte), Profiles: make(map[string][]byte)}
	all, err := e.definitions().List()
	if err != nil {
		return have, err
	}
	for _, d := range all {
		file, err := config.ReadFile(d.Path)
		if err != nil {
			return have, err
		}
		have.Machines[d.Name] = file.Data
	}
	entries, err := os.ReadDir(e.profileDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return have, fmt.Errorf("list profiles: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if filepath.Ext(name) != ".toml" {
			continue
		}
		file, err := config.ReadFile(filepath.Join(e.profileDir(), name))
		if err != nil {
			return have, err
		}
		have.Profiles[name[:len(name)-len(".toml")]] = file.Data
	}
	return have, nil
}

// Export returns the machines with these names, all without any, and the profiles of the
// user's own that they use, as one file; and what a review of it would say.
func (e *Engine) Export(names []string) (data []byte, review []bundle.Change, err error) {
	have, err := e.have()
	if err != nil {
		return nil, nil, err
	}
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(have.Machines))
	}
	if len(names) == 0 {
		return nil, nil, fault.New(fault.ExportNothing, nil, "there are no machines with names to export")
	}
	var b bundle.Bundle
	profiles := make(map[string]bool)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		data, ok := have.Machines[name]
		if !ok {
			_, err := e.definitions().Get(name)
			return nil, nil, err
		}
		f := bundle.File{Name: name, Data: data}
		b.Machines = append(b.Machines, f)
		for _, p := range f.ProfileNames() {
			profiles[p] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		if data, own := have.Profiles[name]; own {
			b.Profiles = append(b.Profiles, bundle.File{Name: name, Data: data})
		}
	}
	data, err = b.Encode()
	return data, bundle.Review(b, bundle.Have{}, bundle.Placement{}).Changes, err
}

// Setup is a set-up of machines that was reviewed and not made yet.
type Setup struct {
	From   string
	SHA256 string
	// Changes are all that it would bring.
	Changes []bundle.Change

	e    *Engine
	plan bundle.Plan
	have bundle.Have
}

// ReviewSetup fetches a set-up and reviews it. Nothing that comes with it runs.
func (e *Engine) ReviewSetup(ctx context.Context, src bundle.Source, where bundle.Placement) (*Setup, error) {
	data, err := e.fetchSetup(ctx, src)
	if err != nil {
		return nil, err
	}
	if err := src.Check(data); err != nil {
		return nil, err
	}
	b, err := bundle.Read(data)
	if err != nil {
		return nil, fault.New(fault.SetupInvalid, args{"location": src.Location}, "%s: %w", src.Location, err)
	}
	have, err := e.have()
	if err != nil {
		return nil, err
	}
	p := bundle.Review(b, have, where)
	return &Setup{From: src.Location, SHA256: bundle.Sum(data), Changes: p.Changes, e: e, plan: p, have: have}, nil
}

// Empty reports whether there is nothing to make.
func (s *Setup) Empty() bool { return len(s.plan.Machines)+len(s.plan.Profiles) == 0 }

// Refused is the error of a review that refuses something.
func (s *Setup) Refused() error { return s.plan.Err() }

// Try reads the new files as they will be read, in a place of their own.
func (s *Setup) Try() (err error) {
	dir, err := os.MkdirTemp("", "mayfly-init-")
	if err != nil {
		return fmt.Errorf("review the set-up: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	profiles := slices.Clone(s.plan.Profiles)
	for name, data := range s.have.Profiles {
		profiles = append(profiles, bundle.File{Name: name, Data: data})
	}
	for _, f := range profiles {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f.Name)+".toml"), f.Data, 0o600); err != nil {
			return fmt.Errorf("review the set-up: %w", err)
		}
	}
	src := config.Sources{ProfileDir: dir}
	if user, err := s.e.readUserConfig(); err == nil {
		src.Files = append(src.Files, user)
	}
	var errs []error
	for _, f := range s.plan.Machines {
		if _, err := mergeFile(src, config.File{Path: f.Name + ".toml", Data: f.Data}); err != nil {
			errs = append(errs, InputError{fmt.Errorf("machine %s: %w", f.Name, err)})
		}
	}
	return errors.Join(errs...)
}

// Make makes all that the review has, or nothing.
func (s *Setup) Make(ctx context.Context) ([]Defined, error) { return s.e.makeAll(ctx, s.plan) }

// DefineFiles defines machines by their files, all or none. One that is here already is
// left alone, and is an error if it is another. A dry run only finds out what is wrong.
func (e *Engine) DefineFiles(ctx context.Context, files []bundle.File, dry bool) ([]Defined, error) {
	have, err := e.have()
	if err != nil {
		return nil, err
	}
	var todo []bundle.File
	var errs []error
	for _, f := range files {
		switch old, exists := have.Machines[f.Name]; {
		case exists && bytes.Equal(old, f.Data):
			e.note(NoteHere, args{"name": f.Name})
		case exists:
			errs = append(errs, fault.New(fault.MachineDiffers, args{"name": f.Name}, "machine %s is defined already, otherwise", f.Name))
		default:
			_, err := e.loadFile(config.File{Path: f.Name + ".toml", Data: f.Data})
			errs = append(errs, err)
			todo = append(todo, f)
		}
	}
	if err := errors.Join(errs...); err != nil || dry {
		return nil, err
	}
	return e.makeAll(ctx, bundle.Plan{Machines: todo})
}

func (e *Engine) makeAll(ctx context.Context, p bundle.Plan) ([]Defined, error) {
	d := &defining{e: e}
	for _, f := range p.Profiles {
		if err := d.profile(f); err != nil {
			return nil, d.rollback(err)
		}
	}
	made := []Defined{}
	for _, f := range p.Machines {
		one, err := d.file(ctx, f)
		if err != nil {
			return nil, d.rollback(err)
		}
		made = append(made, one)
	}
	return made, nil
}

// file defines a machine by its file.
func (d *defining) file(ctx context.Context, f bundle.File) (Defined, error) {
	cfg, err := d.e.loadFile(config.File{Path: f.Name + ".toml", Data: f.Data})
	if err != nil {
		return Defined{}, err
	}
	return d.define(ctx, f.Name, cfg, nil, func(taken definition.Taken) ([]byte, error) {
		if p, err := netip.ParsePrefix(cfg.Network.Address); err == nil {
			return f.Data, taken.Check(p, cfg.Network.MAC)
		}
		return f.Data, nil
	})
}

// profile writes a profile of the user's own. There must be none of its name.
func (d *defining) profile(f bundle.File) error {
	dir := d.e.profileDir()
	path := filepath.Join(dir, f.Name+".toml")
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = atomicfile.WriteNew(path, f.Data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the profile %s: %w", f.Name, err)
	}
	d.undo = append(d.undo, func() error { return os.Remove(path) })
	return nil
}

// fetchSetup gets the bytes of a set-up. Nothing that comes with them runs.
func (e *Engine) fetchSetup(ctx context.Context, src bundle.Source) (data []byte, err error) {
	if src.Kind == bundle.SourceFile {
		return readSetup(src.Location)
	}
	dir, err := os.MkdirTemp("", "mayfly-init-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	e.step(StepFetch, args{"url": src.Location})
	defer e.done()
	file := filepath.Join(dir, "setup")
	if src.Kind == bundle.SourceURL {
		err := tool.Run(ctx, tool.Cmd{Name: "curl", Args: []string{
			"--fail", "--silent", "--show-error", "--location", "--proto", "=https", "--proto-redir", "=https",
			"--max-time", "60", "--max-filesize", fmt.Sprint(bundle.MaxSize), "--output", file, "--", src.Location,
		}})
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fault.New(fault.CurlMissing, nil, "get %s: %w", src.Location, err)
		}
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", src.Location, err)
		}
		return readSetup(file)
	}
	_, err = clone.Clone(ctx, clone.Options{Spec: clone.Spec{URL: src.Location, Ref: src.Ref}, Dir: file, Depth: 1})
	if err != nil {
		return nil, err
	}
	// Within the repository, whatever links are in it.
	root, err := os.OpenRoot(file)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(src.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read the set-up of %s: %w", src.Location, err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, bundle.MaxSize+1))
}

// readSetup reads a set-up from a file.
func readSetup(name string) ([]byte, error) {
	if name == "/dev/stdin" || strings.HasPrefix(name, "/dev/fd/") {
		// What a shell has opened may be a pipe.
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read the set-up: %w", err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, bundle.MaxSize+1))
		if err != nil {
			return nil, fmt.Errorf("read the set-up: %w", err)
		}
		return data, nil
	}
	if fi, err := os.Stat(name); err == nil && fi.IsDir() {
		return nil, fault.New(fault.SetupDirectory, args{"file": filepath.Join(name, bundle.DefaultPath)}, "%s is a directory", name)
	}
	data, err := userfile.Read(name, bundle.MaxSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.SetupMissing, args{"file": name}, "read the set-up: there is no file %s", name)
	case err != nil:
		return nil, fmt.Errorf("read the set-up: %w", err)
	}
	return data, nil
}
