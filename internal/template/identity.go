package template

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"

	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// identityVersion goes up when a template of the same identity would be another
// for a reason that is not in it.
const identityVersion = 1

// Identity is everything that a template depends on. Machines with equal
// identities can begin from the same template.
type Identity struct {
	Version   int      `json:"version"`
	Image     string   `json:"image"`     // key of the image
	Kernel    string   `json:"kernel"`    // id, which holds a hash
	Initramfs string   `json:"initramfs"` // path, which holds a hash of the guest's program
	Layers    []string `json:"layers"`    // SHA-256 of their EROFS bytes, the top one first
	Warm      []string `json:"warm,omitempty"`
	Network   string   `json:"network,omitempty"` // how the guest's card is set up; empty for not
	HostCPU   string   `json:"host_cpu"`
	MemoryMiB int      `json:"memory_mib"`
	VMM       Program  `json:"vmm"`
	Command   []string `json:"command"` // the VMM's arguments, with MemoryName for the memory
}

// Program is an executable file as it is now. That it has the same path and says
// the same version does not make it the same.
type Program struct {
	Path  string `json:"path"`
	Build string `json:"build"` // what it says of itself
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"` // ns since 1970
}

// MemoryName stands for the path of the memory in an Identity's command.
const MemoryName = "MEMORY"

// Identify returns the identity of a machine of m and img. warm are the warming
// commands, network is how the guest's card is set up before the save. command is the
// command line of a VMM that boots it, its memory in the file MemoryName and with
// no files in its slots but the layers.
func Identify(m plan.Machine, img image.Image, warm []string, network string, command machine.Command) (Identity, error) {
	vmm, err := os.Stat(command.Path)
	if err != nil {
		return Identity{}, fmt.Errorf("identify the template: %w", err)
	}
	id := Identity{
		Version:   identityVersion,
		Image:     img.Key,
		Kernel:    img.Kernel.ID,
		Initramfs: img.Initramfs,
		Warm:      warm,
		Network:   network,
		HostCPU:   m.HostCPU,
		MemoryMiB: m.MemoryMiB,
		VMM:       Program{command.Path, m.Engine.Build, vmm.Size(), vmm.ModTime().UnixNano()},
		Command:   append(command.Env, command.Args...),
	}
	for _, l := range img.Layers {
		id.Layers = append(id.Layers, l.SHA256)
	}
	return id, nil
}

// Key is the name of the template with this identity.
func (id Identity) Key() string {
	data, err := json.Marshal(id)
	if err != nil {
		panic(err) // strings and numbers
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// equal returns an error that says what differs.
func (id Identity) equal(want Identity) error {
	got, other := reflect.ValueOf(id), reflect.ValueOf(want)
	for i := range got.NumField() {
		if a, b := got.Field(i).Interface(), other.Field(i).Interface(); !reflect.DeepEqual(a, b) {
			return fmt.Errorf("it was made for another %s: %v; want %v", got.Type().Field(i).Tag.Get("json"), a, b)
		}
	}
	return nil
}
