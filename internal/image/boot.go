package image

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/apt"
	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/cpio"
	"github.com/mayfly-vm/mayfly/internal/image/kernel"
)

// KernelInfo is the record of a kernel in the store.
type KernelInfo struct {
	Kernel
	Format   int       `json:"format"` // 1
	Image    FileSum   `json:"image"`
	Modules  []FileSum `json:"modules"`  // in load order
	Builtin  []string  `json:"builtin"`  // wanted modules that the kernel has built in
	Tree     FileSum   `json:"tree"`     // a tar of all its modules, as usr/lib/modules/VERSION
	Packages []string  `json:"packages"` // "NAME VERSION" of the Debian packages it is from
	Created  time.Time `json:"created"`
}

func (k KernelInfo) files() []FileSum { return append([]FileSum{k.Image, k.Tree}, k.Modules...) }

// FileSum is a file of a kernel.
type FileSum struct {
	Name   string `json:"name"` // relative to the kernel's directory
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// kernel returns a kernel's record after a check of its files' sizes.
func (s *Store) kernel(id string) (KernelInfo, error) {
	var k KernelInfo
	if err := readJSON(s.path(dirKernels, id, kernelFile), &k); err != nil {
		return KernelInfo{}, err
	}
	if k.Format != 1 || k.ID != id {
		return KernelInfo{}, errors.New("its record is damaged")
	}
	for _, f := range k.files() {
		fi, err := os.Stat(s.path(dirKernels, id, f.Name))
		if err != nil {
			return KernelInfo{}, err
		}
		if fi.Size() != f.Size {
			return KernelInfo{}, fmt.Errorf("%s has %d bytes; want %d", f.Name, fi.Size(), f.Size)
		}
	}
	return k, nil
}

// fetchKernel gets the newest kernel of a suite from the signed archive and
// puts it into the store.
func (s *Store) fetchKernel(ctx context.Context, root apt.Root) (id string, err error) {
	packages, err := kernelPackages(ctx, root)
	if err != nil {
		return "", err
	}
	debs, err := root.Download(ctx, packages...)
	if err != nil {
		return "", err
	}
	dir, release, err := s.temp()
	if err != nil {
		return "", err
	}
	defer release()
	unpacked := filepath.Join(dir, "unpacked")
	var from []string
	for _, d := range debs {
		if err := apt.Extract(ctx, d, unpacked); err != nil {
			return "", err
		}
		from = append(from, d.Name+" "+d.Version)
	}
	k, err := kernel.Load(unpacked, kernel.Wanted())
	if err != nil {
		return "", err
	}
	var tree bytes.Buffer
	if err := kernel.WriteTree(&tree, unpacked, k.Version); err != nil {
		return "", err
	}
	return s.addKernel(k, tree.Bytes(), from, filepath.Join(dir, "kernel"))
}

// modulesOf returns the path of the tar archive with all modules of a kernel.
func (s *Store) modulesOf(kernelID string) (string, error) {
	k, err := s.kernel(kernelID)
	if err != nil {
		return "", fault.New(fault.ImageDamaged, fault.Args{"kernel": kernelID}, "kernel %s: %w", kernelID, err)
	}
	return s.path(dirKernels, k.ID, k.Tree.Name), nil
}

// kernelPackages returns the packages in which the kernel's files are. The
// package that follows the newest kernel is empty, and newer kernels are split
// in two.
func kernelPackages(ctx context.Context, root apt.Root) ([]string, error) {
	var found []string
	todo := []string{kernelPackage}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		deps, err := root.Depends(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, d := range deps {
			ours := strings.HasPrefix(d, "linux-image-") || strings.HasPrefix(d, "linux-binary-") || strings.HasPrefix(d, "linux-modules-")
			if ours && !slices.Contains(found, d) && d != kernelPackage {
				found = append(found, d)
				todo = append(todo, d)
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s names no kernel", kernelPackage)
	}
	return found, nil
}

// addKernel writes a kernel, and the tar archive of all its modules, into the
// directory temp and publishes that.
func (s *Store) addKernel(k *kernel.Kernel, tree []byte, from []string, temp string) (id string, err error) {
	if err := os.MkdirAll(filepath.Join(temp, modulesDir), 0o755); err != nil {
		return "", err
	}
	info := KernelInfo{
		Kernel:   Kernel{Version: k.Version, PVH: k.PVH},
		Format:   1,
		Builtin:  k.Builtin,
		Packages: from,
		Created:  now(),
	}
	all := sha256.New()
	add := func(name string, data []byte) (FileSum, error) {
		sum := sha256.Sum256(data)
		all.Write(sum[:])
		path := filepath.Join(temp, name)
		err := os.WriteFile(path, data, 0o444)
		if err == nil {
			err = atomicfile.Sync(path)
		}
		return FileSum{name, int64(len(data)), hex.EncodeToString(sum[:])}, err
	}
	name := "vmlinuz"
	if k.PVH {
		name = "vmlinux"
	}
	if info.Image, err = add(name, k.Image); err != nil {
		return "", err
	}
	if info.Tree, err = add(treeFile, tree); err != nil {
		return "", err
	}
	for _, m := range k.Modules {
		f, err := add(modulesDir+"/"+m.Name+".ko", m.Data)
		if err != nil {
			return "", err
		}
		info.Modules = append(info.Modules, f)
	}
	info.ID = k.Version + "-" + hex.EncodeToString(all.Sum(nil))[:12]
	if err := s.writeJSON(filepath.Join(temp, kernelFile), info); err != nil {
		return "", err
	}
	to := s.path(dirKernels, info.ID)
	if _, err := s.kernel(info.ID); err == nil {
		return info.ID, nil
	}
	// What is there under that name is damaged, and a directory that is not
	// empty cannot be replaced.
	if err := os.RemoveAll(to); err != nil {
		return "", err
	}
	return info.ID, atomicfile.Publish(temp, to)
}

// bootVersion goes up when the same kernel and the same guest program give
// another initramfs.
const bootVersion = 2

// bootPath returns where the initramfs of a kernel and our guest program is.
func (s *Store) bootPath(kernelID string) (string, error) {
	agent, err := s.agentID()
	if err != nil {
		return "", fmt.Errorf("identify the guest program: %w", err)
	}
	k, err := key(struct {
		Format int
		Kernel string
		Agent  string
	}{bootVersion, kernelID, agent})
	return s.path(dirBoot, k, initramfs), err
}

// programID returns what tells a program from all others: the build id that the go
// command gives it, which is a hash of its content, and is there already. To hash
// megabytes takes milliseconds of each start.
func programID(program *io.SectionReader) (string, error) {
	const header = 16 // of the note; a build with -ldflags=-buildid= has no more
	if f, err := elf.NewFile(program); err == nil {
		if note := f.Section(".note.go.buildid"); note != nil && note.Size > header {
			id, err := note.Data()
			return hex.EncodeToString(id), err
		}
	}
	h := sha256.New()
	_, err := io.Copy(h, io.NewSectionReader(program, 0, program.Size()))
	return hex.EncodeToString(h.Sum(nil)), err
}

// ensureBoot makes the initramfs if it is missing, as after an update of
// mayfly.
func (s *Store) ensureBoot(ctx context.Context, kernelID string, report *reporter) error {
	path, err := s.bootPath(kernelID)
	if err != nil {
		return err
	}
	if ok, err := exists(path); ok || err != nil {
		return err
	}
	release, err := s.acquire(ctx, "boot", true, report.waiting("initramfs"))
	if err != nil {
		return err
	}
	defer release()
	if ok, err := exists(path); ok || err != nil {
		return err
	}
	report.event(PhaseBuild, "initramfs", "packing the guest program and its modules")
	info, err := s.kernel(kernelID)
	if err != nil {
		return fault.New(fault.ImageDamaged, fault.Args{"kernel": kernelID}, "kernel %s: %w", kernelID, err)
	}
	dir, remove, err := s.temp()
	if err != nil {
		return err
	}
	defer remove()
	temp := filepath.Join(dir, "boot")
	if err := os.Mkdir(temp, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(temp, initramfs), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	err = s.writeInitramfs(f, info)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return s.explainSpace(err, space{store: 64 << 20})
	}
	if err := atomicfile.Publish(temp, filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	report.event(PhaseDone, "initramfs", "")
	return nil
}

// writeInitramfs writes the guest's first root file system: our program as
// /init, and the modules that it loads in the order of /lib/modules/order.
func (s *Store) writeInitramfs(out io.Writer, k KernelInfo) error {
	buf := bufio.NewWriterSize(out, 1<<20)
	w := cpio.NewWriter(buf)
	for _, dir := range []string{"dev", "proc", "sys", "lib", "lib/modules"} {
		if err := w.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	// The kernel opens it as the standard streams of /init.
	if err := w.Mknod("dev/console", 0o600, 5, 1); err != nil {
		return err
	}
	agent := make([]byte, s.opts.Agent.Size())
	if _, err := s.opts.Agent.ReadAt(agent, 0); err != nil && err != io.EOF {
		return err
	}
	if err := w.WriteFile("init", 0o755, agent); err != nil {
		return err
	}
	var order strings.Builder
	for _, m := range k.Modules {
		name := filepath.Base(m.Name)
		data, err := os.ReadFile(s.path(dirKernels, k.ID, m.Name))
		if err != nil {
			return err
		}
		if err := w.WriteFile("lib/modules/"+name, 0o644, kernel.Unsigned(data)); err != nil {
			return err
		}
		fmt.Fprintln(&order, name)
	}
	if err := w.WriteFile("lib/modules/order", 0o644, []byte(order.String())); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return buf.Flush()
}
