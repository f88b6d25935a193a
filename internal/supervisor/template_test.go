package supervisor

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/hardware"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/machine/qemu"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// What a template is made from has nothing of the machine that it is made for:
// its command line is the same for all, but for the memory.
func TestTemplateHasNoUser(t *testing.T) {
	img := image.Image{Kernel: image.Kernel{Path: "/store/vmlinux"}, Initramfs: "/store/initramfs", Layers: []image.Layer{{Path: "/store/base"}}}
	p := plan.Plan{
		Name:      "marker-name",
		Machine:   plan.Machine{Accelerator: plan.TCG, VCPUs: 2, MemoryMiB: 512, Engine: plan.Engine{Path: "/usr/bin/qemu"}},
		Guest:     plan.Guest{Hostname: "marker-host", User: plan.User{Name: "marker-user", Home: "/home/marker-user"}, Env: map[string]string{"TOKEN": "marker-secret"}},
		Workspace: plan.Workspace{Path: "/home/marker-user/src"},
	}
	m := state.Machine{Name: p.Name, Dir: "/state/marker-name"}
	spec := hardware.Base(p, img)
	spec.Memory = machine.SharedMemory{Path: "MEMORY"}
	saved := qemu.Driver{}.Command(spec)
	text, err := json.Marshal(saved)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "marker") {
		t.Errorf("the VMM of a template is started with %s; want nothing of the machine", text)
	}
	// And the machine has all of it, and its own disks beside.
	spec = hardware.Of(m, p, img)
	for slot, disk := range hardware.Base(p, img).Disks {
		if disk.Path != "" && spec.Disks[slot] != disk {
			t.Errorf("slot %d has %v; want %v as in the template", slot, spec.Disks[slot], disk)
		}
	}
	if spec.Disks[plan.SlotScratch].Path == "" || spec.Disks[plan.SlotWorkspace].Path == "" {
		t.Error("the machine has no disks of its own")
	}
}

// The memory of a template is never that of a machine with live directories, even
// if its plan says so.
func TestNoTemplateWithShares(t *testing.T) {
	s := &supervisor{driver: qemu.Driver{}, plan: plan.Plan{
		Template: plan.Template{Use: true, Dir: t.TempDir()},
		Shares:   []plan.Share{{Source: "/srv/x", Path: "/srv/x", Tag: "share0"}},
	}}
	if o := s.findOrigin(t.Context(), nil); o.template != nil || o.how.Reason == "" {
		t.Errorf("findOrigin() = %v, reason %q; want none and a reason", o.template, o.how.Reason)
	}
	spec := hardware.Of(state.Machine{Dir: "/state/m"}, s.plan, image.Image{})
	command := qemu.Driver{}.Command(spec)
	if text := command.String(); spec.Memory != nil || !strings.Contains(text, "memory-backend-memfd") || !strings.Contains(text, "tag=share0") {
		t.Errorf("the VMM is started with %s; want memory of its own that servers can map", text)
	}
}
