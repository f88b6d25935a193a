// Package kernel takes from an unpacked Debian kernel package what a machine
// needs of it: the kernel in the form that starts fastest, and the modules that
// the guest's own program loads, decompressed and in the order in which they
// must be loaded.
//
// It reads files and returns bytes. Where the package comes from and where the
// results go is the caller's matter.
package kernel

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Wanted are the drivers of a machine's fixed devices and the file systems of
// its disks, in the order of their need: the control channel comes first, so
// that whatever goes wrong after it can be reported over it.
func Wanted() []string {
	return []string{
		"virtio_pci", "virtio_console",
		"virtio_blk", "virtio_rng", "virtio_net", "virtio_balloon",
		"erofs", "overlay", "ext4",
	}
}

// Kernel is a kernel and the modules that go with it.
type Kernel struct {
	Version string   // as uname -r says it
	Image   []byte   // an ELF executable with a PVH entry if PVH, else a bzImage
	PVH     bool     // can be entered directly, without its real-mode code
	Modules []Module // in load order
	Builtin []string // of those asked for, what needs no module
}

// Module is one decompressed module.
type Module struct {
	Name string // "virtio_blk"
	Data []byte
}

// Load reads the kernel in root, the directory into which its packages were
// unpacked. It is an error if there is more than one, or if it lacks one of
// the modules asked for.
func Load(root string, modules []string) (*Kernel, error) {
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil {
		return nil, err
	}
	if len(images) != 1 {
		return nil, fmt.Errorf("load kernel: %d kernel images in boot; want 1", len(images))
	}
	bzImage, err := os.ReadFile(images[0])
	if err != nil {
		return nil, fmt.Errorf("load kernel: %w", err)
	}
	k := &Kernel{
		Version: strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-"),
		Image:   bzImage,
	}
	// A kernel packed in a way that we do not know still starts, more slowly.
	if vmlinux, err := Decompress(bzImage); err == nil && HasPVH(vmlinux) {
		k.Image, k.PVH = vmlinux, true
	}
	dir, err := moduleDir(root, k.Version)
	if err != nil {
		return nil, fmt.Errorf("load kernel %s: %w", k.Version, err)
	}
	k.Modules, k.Builtin, err = loadModules(dir, modules)
	if err != nil {
		return nil, fmt.Errorf("load kernel %s: %w", k.Version, err)
	}
	return k, nil
}

// WriteTree writes all modules of a kernel in root, the directory into which its
// packages were unpacked, as a tar archive of usr/lib/modules/VERSION. The same
// modules give the same bytes.
func WriteTree(w io.Writer, root, version string) error {
	dir, err := moduleDir(root, version)
	if err != nil {
		return fmt.Errorf("pack the modules of kernel %s: %w", version, err)
	}
	tw := tar.NewWriter(w)
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		h := &tar.Header{Name: path.Join("usr/lib/modules", version, rel), ModTime: time.Unix(0, 0), Mode: 0o644, Format: tar.FormatPAX}
		switch {
		case d.IsDir():
			h.Name += "/"
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
			return tw.WriteHeader(h)
		case !d.Type().IsRegular():
			return nil // links to sources that are not there
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err = tw.Write(data)
		return err
	})
	if err = errors.Join(err, tw.Close()); err != nil {
		return fmt.Errorf("pack the modules of kernel %s: %w", version, err)
	}
	return nil
}

func moduleDir(root, version string) (string, error) {
	for _, lib := range []string{"usr/lib/modules", "lib/modules"} {
		dir := filepath.Join(root, lib, version)
		if _, err := os.Stat(filepath.Join(dir, "modules.builtin")); err == nil {
			return dir, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", errors.New("no modules directory")
}

// loadModules returns the modules asked for and what they depend on, each after
// its dependencies.
func loadModules(dir string, want []string) (modules []Module, builtin []string, err error) {
	builtinFile, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, nil, err
	}
	isBuiltin := make(map[string]bool)
	for line := range bytes.Lines(builtinFile) {
		isBuiltin[moduleName(string(bytes.TrimSpace(line)))] = true
	}
	files := make(map[string]string)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(d.Name(), ".ko") {
			files[moduleName(path)] = path
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}

	state := make(map[string]int) // 1: on the way to it, 2: loaded
	var load func(name string, chain []string) error
	load = func(name string, chain []string) error {
		switch {
		case isBuiltin[name] || state[name] == 2:
			return nil
		case state[name] == 1:
			return fmt.Errorf("module %s depends on itself: %v", name, chain)
		case files[name] == "":
			return fmt.Errorf("module %s: %w", strings.Join(append(chain, name), " -> "), fs.ErrNotExist)
		}
		state[name] = 1
		data, err := readModule(files[name])
		if err != nil {
			return err
		}
		deps, err := Dependencies(data)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, dep := range deps.Hard {
			if err := load(dep, append(chain, name)); err != nil {
				return err
			}
		}
		for _, dep := range deps.Soft {
			// A soft dependency may name an alias or a module that is not there.
			if files[dep] != "" {
				if err := load(dep, append(chain, name)); err != nil {
					return err
				}
			}
		}
		state[name] = 2
		modules = append(modules, Module{Name: name, Data: data})
		return nil
	}
	for _, name := range want {
		if isBuiltin[name] {
			builtin = append(builtin, name)
		}
		if err := load(name, nil); err != nil {
			return nil, nil, err
		}
	}
	slices.SortFunc(builtin, cmp.Compare[string])
	return modules, builtin, nil
}

// moduleName returns the name of the module in a file: "virtio_rng" for
// "drivers/char/hw_random/virtio-rng.ko.xz".
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}
