package supervisor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// What a machine with a name keeps is in its definition's directory and not in that of
// its run, which goes with the run. The lock of the run guards both.

// makeKept makes the disks of what is kept, unless they are there.
func (s *supervisor) makeKept(ctx context.Context) error {
	d, ok := definition.Of(s.plan)
	if !ok {
		return nil
	}
	if err := d.CheckVolumes(s.plan.Volumes); err != nil {
		return err
	}
	volumes := filepath.Dir(d.VolumeFile("x"))
	err := os.MkdirAll(volumes, 0o700)
	if err == nil {
		err = errors.Join(s.held.add(d.Dir), s.held.add(volumes))
	}
	if err != nil {
		return fmt.Errorf("make the disks of what is kept: %w", err)
	}
	if err := makeOnce(ctx, d.File(definition.KeepFile), plan.DiskSize); err != nil {
		return err
	}
	for _, v := range s.plan.Volumes {
		if err := makeOnce(ctx, d.VolumeFile(v.Name), int64(v.SizeMiB)<<20); err != nil {
			return err
		}
	}
	return d.RecordVolumes(s.plan.Volumes)
}

func makeOnce(ctx context.Context, path string, size int64) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return image.MakeVolume(ctx, path, size)
}

// keptPlaceholders returns what stood for secrets in earlier runs of the machine, by their
// names. A program may have written it into its files.
func keptPlaceholders(p plan.Plan, log *slog.Logger) map[string][]string {
	had := make(map[string][]string)
	d, ok := definition.Of(p)
	if !ok {
		return had
	}
	err := state.ReadJSON(d.File(definition.PlaceholdersFile), &had)
	if err == nil && had == nil { // "null"
		had = make(map[string][]string)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// The machine gets new ones.
		log.Warn("read the placeholders of secrets", "err", err)
		return make(map[string][]string)
	}
	return had
}

// keepPlaceholders writes down what stands for secrets in the machine.
func keepPlaceholders(p plan.Plan, had map[string][]string) error {
	d, ok := definition.Of(p)
	if !ok || len(p.Network.Secrets) == 0 {
		return nil
	}
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return fmt.Errorf("keep the placeholders of secrets: %w", err)
	}
	data, err := json.MarshalIndent(had, "", "\t")
	if err != nil {
		return fmt.Errorf("keep the placeholders of secrets: %w", err)
	}
	path, data := d.File(definition.PlaceholdersFile), append(data, '\n')
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return atomicfile.Write(path, data, 0o600)
}

// keptVolumes tells the guest of its volumes.
func keptVolumes(p plan.Plan) []wire.Volume {
	var volumes []wire.Volume
	for i, v := range p.Volumes {
		volumes = append(volumes, wire.Volume{Serial: machine.KeptSerial(1 + i), Mount: v.Mount, Blocks: uint64(v.SizeMiB) << 8})
	}
	return volumes
}

// keptCopy returns the name of the copy of the workspace that an earlier start of the
// machine made, "" if none did.
func (s *supervisor) keptCopy() (string, error) {
	if s.plan.Keep == nil {
		return "", nil
	}
	packed, path := s.machine.WorkspaceFiles(s.plan)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		// One without a list was being packed when its machine was killed.
		if err := os.Remove(packed); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("make the copy of the workspace: %w", err)
		}
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("find the copy of the workspace: %w", err)
	}
	defer f.Close()
	manifest, err := workspace.ReadManifest(f)
	if err != nil {
		return "", fault.New(fault.WorkspaceCopyDamaged, fault.Args{"name": s.plan.Name}, "find the copy of the workspace: %w", err)
	}
	if manifest.Root != s.plan.Workspace.Path {
		args := fault.Args{"name": s.plan.Name, "copy": manifest.Root, "workspace": s.plan.Workspace.Path}
		return "", fault.New(fault.WorkspaceCopyDiffers, args,
			"machine %s has a copy of %s still, and its workspace is %s", s.plan.Name, manifest.Root, s.plan.Workspace.Path)
	}
	return copyName(path)
}

// copyName returns the name of a copy: of its manifest's content.
func copyName(manifest string) (string, error) {
	data, err := os.ReadFile(manifest)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8]), nil
}
