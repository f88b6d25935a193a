package qemu

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

var update = flag.Bool("update", false, "write the golden files")

// specs are machines of all kinds, by the name of their golden file.
func specs() map[string]machine.Spec {
	base := machine.Spec{
		Machine: plan.Machine{
			Accelerator: plan.TCG, VCPUs: 2, MemoryMiB: 2048, TSCKHz: 2100000,
			Engine: plan.Engine{Path: "/usr/bin/qemu-system-x86_64", Version: "10.0.2", Isolate: true},
		},
		Kernel:    "/store/kernel/vmlinux",
		Initramfs: "/store/initramfs/0123.cpio",
	}
	base.Disks[plan.SlotScratch] = machine.Disk{Path: "/machines/m/scratch.img", Writable: true}
	base.Disks[plan.SlotFirstLayer] = machine.Disk{Path: "/store/layers/base"}

	noTSC := base
	noTSC.Machine.TSCKHz = 0
	kvm := base
	kvm.Machine.Accelerator = plan.KVM
	kvm.Machine.VCPUs, kvm.Machine.MemoryMiB = 8, 4096
	full := base
	for i := range plan.MaxLayers {
		full.Disks[plan.SlotFirstLayer+i] = machine.Disk{Path: fmt.Sprintf("/store/layers/%d", i)}
	}
	full.Disks[plan.SlotWorkspace] = machine.Disk{Path: "/machines/m/work,space.img"}
	private := base
	private.Machine.Engine = plan.Engine{
		Path: "/data/qemu/usr/bin/qemu-system-x86_64", DataDirs: []string{"/data/qemu/usr/share/qemu", "/data/qemu/usr/share/seabios"},
		ModuleDir: "/data/qemu/usr/lib/qemu",
	}
	saved := base
	saved.Memory = machine.SharedMemory{Path: "/cache/templates/.new-1/memory"}
	saved.Disks[plan.SlotScratch] = machine.Disk{}
	restored := base
	restored.Memory = machine.PrivateMemory{Path: "/cache/templates/0123/memory"}
	restored.Incoming = true
	bare := base
	bare.Disks = [plan.DiskSlots]machine.Disk{}
	user := base
	user.Card = &machine.Card{MAC: "52:54:00:6d:61:79", MTU: 65520}
	bridge := base
	bridge.Card = &machine.Card{MAC: "02:00:00:00:00:05", MTU: 1500, Tap: true}
	kept := base
	kept.Kept = []machine.Disk{{Path: "/kept/m/keep.img", Writable: true}, {}}
	shares := user
	shares.Shares = []machine.Share{{Tag: "share0"}, {Tag: "share1"}}
	return map[string]machine.Spec{
		"kept":         kept,
		"shares":       shares,
		"user-network": user, "bridge": bridge,
		"tcg": base, "tcg-unknown-tsc": noTSC, "kvm": kvm, "full": full, "private-qemu": private, "bare": bare, "saved": saved, "restored": restored,
	}
}

// format prints a command so that a difference reads well.
func format(c machine.Command) string {
	var b strings.Builder
	for _, kv := range c.Env {
		fmt.Fprintln(&b, kv)
	}
	fmt.Fprintln(&b, c.Path)
	for _, arg := range c.Args {
		if strings.HasPrefix(arg, "-") {
			fmt.Fprintf(&b, "\n%s", arg)
		} else {
			fmt.Fprintf(&b, " %s", arg)
		}
	}
	b.WriteString("\n\n")
	for i, f := range c.Files {
		mode := "read"
		if f.Writable {
			mode = "write"
		}
		if f.Socket != "" {
			mode = "socket"
		}
		if f.Given != "" {
			mode = "given"
		}
		fmt.Fprintf(&b, "descriptor %d: %s %s%s%s\n", machine.FirstFile+i, mode, f.Path, f.Socket, f.Given)
	}
	fmt.Fprintf(&b, "isolate: %v\nreadable: %s\nwritable: %s\n", c.Isolate, c.Readable, c.Writable)
	return b.String()
}

func TestCommand(t *testing.T) {
	for name, spec := range specs() {
		golden := filepath.Join("testdata", name+".txt")
		got := format(Driver{}.Command(spec))
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s differs (-want +got; go test -update writes it):\n%s", golden, d)
		}
	}
}

// The VMM gets its disks open: it needs no path of them, and could not open one.
func TestCommandNamesNoDisk(t *testing.T) {
	for name, spec := range specs() {
		c := Driver{}.Command(spec)
		words := slices.Concat(c.Args, c.Env, c.Readable, c.Writable)
		for slot, disk := range spec.Disks {
			if disk.Path == "" {
				continue
			}
			for _, w := range words {
				if strings.Contains(w, disk.Path) || strings.Contains(w, filepath.Dir(disk.Path)+"/") {
					t.Errorf("%s: %q names the disk of slot %d", name, w, slot)
				}
			}
			i := slices.IndexFunc(c.Files, func(f machine.File) bool { return f.Path == disk.Path })
			if i < 0 || c.Files[i].Writable != disk.Writable {
				t.Errorf("%s: the disk of slot %d is not among the open files, as it is to be opened", name, slot)
			}
		}
	}
}

// Only the scratch disk is writable, and what is kept, for the file and for the device.
// That goes by the slot, also of an empty one: a restored guest has seen it.
func TestCommandReadOnly(t *testing.T) {
	for name, spec := range specs() {
		c := Driver{}.Command(spec)
		for _, f := range c.Files {
			kept := slices.ContainsFunc(spec.Kept, func(d machine.Disk) bool { return d.Path == f.Path })
			if f.Writable && f.Path != spec.Disks[plan.SlotScratch].Path && !kept {
				t.Errorf("%s: %s is open for writing; want the scratch disk and what is kept only", name, f.Path)
			}
		}
		for _, arg := range c.Args {
			if !strings.Contains(arg, "node-name=slot") {
				continue
			}
			want := ",read-only=on"
			if strings.Contains(arg, "node-name=slot0,") {
				want = ",read-only=off"
			}
			if !strings.Contains(arg, want) {
				t.Errorf("%s: %q; want %s", name, arg, want)
			}
		}
	}
}

// The memory of a template is opened for reading only, and nothing can be opened
// for writing but the memory of one machine alone.
func TestCommandMemory(t *testing.T) {
	for name, tt := range map[string]struct {
		memory             machine.Memory
		readable, writable bool
		want               []string
	}{
		"template": {machine.SharedMemory{Path: "/t/me,mory"}, false, true, []string{`"share":true`}},
		"clone":    {machine.PrivateMemory{Path: "/t/me,mory"}, true, false, []string{`"share":false`, `"readonly":true`, `"rom":"off"`}},
		"boot":     {nil, false, false, nil},
	} {
		spec := specs()["tcg"]
		spec.Memory = tt.memory
		c := Driver{}.Command(spec)
		if got := slices.Contains(c.Readable, "/t/me,mory"); got != tt.readable {
			t.Errorf("%s: the memory among the readable files: %v; want %v", name, got, tt.readable)
		}
		if got := slices.Contains(c.Writable, "/t/me,mory"); got != tt.writable {
			t.Errorf("%s: the memory among the writable files: %v; want %v", name, got, tt.writable)
		}
		args := strings.Join(c.Args, " ")
		for _, want := range tt.want {
			if !strings.Contains(args, want) {
				t.Errorf("%s: no %s in %s", name, want, args)
			}
		}
		// Discarding a page would punch a hole into what others have mapped.
		if got, want := strings.Contains(args, "free-page-reporting=on"), tt.memory == nil; got != want {
			t.Errorf("%s: free page reporting: %v; want %v", name, got, want)
		}
	}
}

// What is saved of one machine fits all of its kind: the devices never differ, but
// for the network card, which is of two kinds or not there, and the number of disks that
// are kept.
func TestCommandDevicesAreFixed(t *testing.T) {
	devices := func(c machine.Command) (devs []string) {
		for i, arg := range c.Args {
			if arg == "-device" || arg == "-chardev" && strings.HasPrefix(c.Args[i+1], "socket") {
				// A machine that boots gives pages back, see TestCommandMemory.
				dev, _, _ := strings.Cut(c.Args[i+1], ",free-page-reporting=")
				devs = append(devs, dev)
			}
		}
		return devs
	}
	want := devices(Driver{}.Command(specs()["bare"]))
	if n := len(want); n != 3+5+plan.DiskSlots {
		t.Errorf("%d devices and sockets; want 3 sockets, 5 devices and %d disks", n, plan.DiskSlots)
	}
	for name, spec := range specs() {
		got := devices(Driver{}.Command(spec))
		if len(spec.Shares) > 0 { // it is never saved
			got = slices.DeleteFunc(got, func(dev string) bool {
				return strings.Contains(dev, "id=share") || strings.Contains(dev, "chardev=share")
			})
		}
		isCard := func(dev string) bool { return strings.HasPrefix(dev, "virtio-net-pci,") }
		got = slices.DeleteFunc(got, func(dev string) bool { return strings.HasPrefix(dev, "virtio-blk-pci,drive=kept") })
		if n := len(got); spec.Card != nil && !slices.ContainsFunc(got, isCard) || n > len(want)+1 {
			t.Errorf("%s: no network card, or several, in %q", name, got)
		}
		if spec.Card != nil {
			got = slices.DeleteFunc(got, isCard)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: other devices than a bare machine (-bare +%s):\n%s", name, name, d)
		}
	}
}

func TestKernelParameters(t *testing.T) {
	m := plan.Machine{Accelerator: plan.TCG, TSCKHz: 2100000}
	if got := kernelParameters(m, false); !strings.Contains(got, "tsc_early_khz=2100000 lpj=8400000 ") {
		t.Errorf("kernelParameters(%+v) = %q; want the rate of the time stamp counter", m, got)
	}
	m.Accelerator = plan.KVM
	if got := kernelParameters(m, false); strings.Contains(got, "tsc") {
		t.Errorf("kernelParameters(%+v) = %q; want nothing of a time stamp counter", m, got)
	}
	// With an emulated CPU, pages that the server of a share fills are cleared first.
	for _, c := range []struct {
		accelerator plan.Accelerator
		shared      bool
		want        string
	}{
		{plan.TCG, true, "init_on_alloc=1"},
		{plan.TCG, false, "init_on_alloc=0"},
		{plan.KVM, true, "init_on_alloc=0"},
	} {
		got := strings.Fields(kernelParameters(plan.Machine{Accelerator: c.accelerator}, c.shared))
		if !slices.Contains(got, c.want) {
			t.Errorf("kernel parameters with %s, shares %v = %q; want %s", c.accelerator, c.shared, got, c.want)
		}
	}
}
