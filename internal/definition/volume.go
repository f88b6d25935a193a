package definition

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Of returns the definition of the machine of a plan, as far as its data goes.
func Of(p plan.Plan) (Definition, bool) {
	if p.Keep == nil {
		return Definition{}, false
	}
	return Definition{Name: p.Name, Dir: p.Keep.Dir}, true
}

// File returns the path of one of the files of what is kept.
func (d Definition) File(name string) string { return filepath.Join(d.Dir, name) }

// VolumeFile returns the path of the disk of the volume name.
func (d Definition) VolumeFile(name string) string {
	return filepath.Join(d.Dir, VolumesDir, name+".img")
}

// sizes reads the size in MiB of each volume that was made. It is our own record: what
// the disk itself says is its guest's word.
func (d Definition) sizes() (map[string]int, error) {
	sizes := make(map[string]int)
	data, err := os.ReadFile(d.File(SizesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return sizes, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &sizes)
	}
	if err != nil {
		return nil, fmt.Errorf("read the sizes of the volumes of %s: %w", d.Name, err)
	}
	return sizes, nil
}

// CheckVolumes refuses volumes that are to be smaller than they are.
func (d Definition) CheckVolumes(volumes []plan.Volume) error {
	sizes, err := d.sizes()
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range volumes {
		if size := sizes[v.Name]; size > v.SizeMiB {
			errs = append(errs, fault.New(fault.VolumeShrinks,
				fault.Args{"volume": v.Name, "machine": d.Name, "mib": strconv.Itoa(size)},
				"the volume %s of %s has %d MiB; it can grow, and not shrink to %d MiB", v.Name, d.Name, size, v.SizeMiB))
		}
	}
	return errors.Join(errs...)
}

// RecordVolumes notes the sizes of the volumes.
func (d Definition) RecordVolumes(volumes []plan.Volume) error {
	sizes, err := d.sizes()
	if err != nil {
		return err
	}
	for _, v := range volumes {
		sizes[v.Name] = v.SizeMiB
	}
	data, err := json.Marshal(sizes)
	if err != nil {
		return err
	}
	// Durably: a machine whose sizes cannot be read starts only when its volumes have
	// been wiped.
	if err := atomicfile.Write(d.File(SizesFile), data, 0o600); err != nil {
		return fmt.Errorf("note the sizes of the volumes of %s: %w", d.Name, err)
	}
	return nil
}
