// Package qemu is the driver for QEMU: a pure function from a machine's Spec
// to a command line, and a client of QEMU's own protocol, QMP.
package qemu

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// nullDisk is the file of a slot without a disk: QEMU's own driver, which
// needs no file. It is never read but for a partition table.
const nullDisk = "driver=null-co,node-name=%s,size=%d,read-zeroes=on,read-only=%s"

// command is Driver.Command.
func command(spec machine.Spec) machine.Command {
	m := spec.Machine
	c := machine.Command{Path: m.Engine.Path, Isolate: m.Engine.Isolate}
	if m.Engine.ModuleDir != "" {
		c.Env = append(c.Env, "QEMU_MODULE_DIR="+m.Engine.ModuleDir)
	}
	arg := func(name string, values ...string) {
		c.Args = append(c.Args, "-"+name)
		if len(values) > 0 {
			c.Args = append(c.Args, strings.Join(values, ","))
		}
	}
	file := func(f machine.File) int {
		c.Files = append(c.Files, f)
		return machine.FirstFile + len(c.Files) - 1
	}

	for _, dir := range m.Engine.DataDirs {
		arg("L", dir)
	}
	// Nothing but what is named here: no configuration of the host's, no
	// default devices, no display.
	arg("no-user-config")
	arg("nodefaults")
	arg("display", "none")
	// A guest that panics or reboots ends the machine.
	arg("no-reboot")
	// QEMU needs no new program, no other user and no other limits once it
	// runs, qemu-seccomp.c.
	arg("sandbox", "on", "obsolete=deny", "elevateprivileges=deny", "spawn=deny", "resourcecontrol=deny")

	// q35 boots everywhere and hot-plugs; what it has of a PC that no guest
	// of ours uses is off, which also saves the kernel's probing for it.
	hardware := []string{"q35", "usb=off", "sata=off", "smbus=off", "vmport=off", "smm=off", "graphics=off"}
	if spec.Memory != nil {
		arg("object", memoryBackend(spec))
		hardware = append(hardware, "memory-backend="+memoryID)
	} else if len(spec.Shares) > 0 {
		// Memory that servers of files can map, in a file without a name.
		arg("object", "memory-backend-memfd", "id="+memoryID, fmt.Sprintf("size=%dM", m.MemoryMiB), "share=on")
		hardware = append(hardware, "memory-backend="+memoryID)
	}
	arg("machine", hardware...)
	if m.Accelerator == plan.KVM {
		arg("accel", "kvm")
		arg("cpu", "host")
	} else {
		arg("accel", "tcg", "thread=multi")
		// All that TCG has. cx16 must stay: Bun's programs, such as
		// Claude Code, need it.
		// Four levels of page tables: walking a fifth is a tenth of a start.
		arg("cpu", "max", "la57=off")
	}
	arg("smp", fmt.Sprint(m.VCPUs))
	arg("m", fmt.Sprintf("%dM", m.MemoryMiB))
	arg("kernel", spec.Kernel)
	arg("initrd", spec.Initramfs)
	arg("append", kernelParameters(m, len(spec.Shares) > 0))

	socket := func(name machine.Socket) {
		arg("chardev", "socket", "id="+string(name), fmt.Sprintf("fd=%d", file(machine.File{Socket: name})))
	}
	socket(machine.Monitor)
	arg("mon", "chardev=monitor", "mode=control")
	socket(machine.Console)
	arg("serial", "chardev:console")
	socket(machine.Control)
	// No device has virtio's legacy interface, which no guest of ours uses.
	// All disks share two PCI devices as functions of it: a bridge or a
	// device each would cost the kernel's probing time at every boot.
	arg("device", "virtio-serial-pci", "id=serial", "addr=4.0", "multifunction=on", "max_ports=2", "disable-legacy=on")
	arg("device", "virtserialport", "bus=serial.0", "nr=1", "chardev=control", "name="+wire.PortName)
	arg("object", "rng-random", "id=rng0", "filename=/dev/urandom")
	arg("device", "virtio-rng-pci", "rng=rng0", "addr=4.1", "disable-legacy=on")
	// Of a saved machine no page is given back before its end: QEMU would
	// have to punch a hole into the file of the memory, which is others', too.
	arg("device", "virtio-balloon-pci", "addr=4.2", "disable-legacy=on", "free-page-reporting="+onOff(spec.Memory == nil))
	if spec.Card != nil {
		card(spec.Card, arg, file)
	}
	for i, share := range spec.Shares {
		id := machine.ShareFile(i)
		arg("chardev", "socket", "id="+id, fmt.Sprintf("fd=%d", file(machine.File{Given: id})))
		arg("device", "vhost-user-fs-pci", "chardev="+id, "tag="+share.Tag, fmt.Sprintf("addr=6.%d", i), "multifunction=on")
	}
	// Tells a guest's kernel that it was restored, and is to reseed.
	arg("device", "vmgenid", "guid=auto")

	sets := 0
	disk := func(d machine.Disk, name, addr string, readOnly, flush bool) {
		if d.Path == "" {
			arg("blockdev", fmt.Sprintf(nullDisk, name, int64(plan.DiskSize), onOff(readOnly)))
		} else {
			// The file is handed over open.
			fd := file(machine.File{Path: d.Path, Writable: d.Writable})
			sets++
			arg("add-fd", fmt.Sprintf("fd=%d", fd), fmt.Sprintf("set=%d", sets))
			// A lock would be shared by all that have the layer
			// open; we have our own. The page cache of the host is
			// the point of sharing layers.
			arg("blockdev", "driver=raw", "node-name="+name, "read-only="+onOff(readOnly),
				"cache.no-flush="+onOff(!flush), "discard=unmap",
				"file.driver=file", fmt.Sprintf("file.filename=/dev/fdset/%d", sets), "file.locking=off",
				"file.aio=threads")
		}
		// A write that the host cannot serve, for want of space or of quota, stops the
		// guest until it can: an error would reach its file systems, which then take no
		// more writes for good. A read that fails is an error, as on a disk.
		arg("device", "virtio-blk-pci", "drive="+name, "serial="+name, "addr="+addr, "multifunction=on", "disable-legacy=on",
			"werror=stop", "rerror=report")
	}
	for slot, d := range spec.Disks {
		// Read-only by the slot and not by its file: the guest has seen
		// whether a disk can be written when it is saved, and with another
		// file in the slot when it is restored. What is lost in a crash of the
		// host was disposable.
		disk(d, machine.Serial(slot), fmt.Sprintf("5.%d", slot), slot != plan.SlotScratch, false)
	}
	for i, d := range spec.Kept {
		disk(d, machine.KeptSerial(i), fmt.Sprintf("7.%d", i), false, true)
	}
	if spec.Incoming {
		arg("incoming", "defer")
	}
	if m.Accelerator == plan.KVM {
		c.Writable = []string{"/dev/kvm"}
	}
	c.Readable = append([]string{"/dev/urandom", m.Engine.Path, spec.Kernel, spec.Initramfs}, m.Engine.DataDirs...)
	if m.Engine.ModuleDir != "" {
		c.Readable = append(c.Readable, m.Engine.ModuleDir)
	}
	// QEMU opens the file of the memory by its name: it knows no sets of
	// descriptors there, file_ram_open in system/physmem.c.
	switch memory := spec.Memory.(type) {
	case machine.SharedMemory:
		c.Writable = append(c.Writable, memory.Path)
	case machine.PrivateMemory:
		c.Readable = append(c.Readable, memory.Path)
	}
	return c
}

// card adds the network card. What a card can do depends on what is behind it, and so
// a saved machine is restored with what it was saved with.
func card(c *machine.Card, arg func(string, ...string), file func(machine.File) int) {
	if c.Tap {
		// QEMU asks the tap whether it has the header of virtio-net.
		arg("netdev", "tap", "id=net", fmt.Sprintf("fd=%d", file(machine.File{Given: machine.Tap})))
	} else {
		arg("netdev", "stream", "id=net", "server=off", "addr.type=fd",
			fmt.Sprintf("addr.str=%d", file(machine.File{Socket: machine.NetworkCard})))
	}
	// No ROM: nobody boots from it. And no announcement after a restore: our own network
	// knows its one guest, and a bridge has not seen it yet.
	arg("device", "virtio-net-pci", "netdev=net", "mac="+c.MAC, fmt.Sprintf("host_mtu=%d", c.MTU), "addr=4.3", "disable-legacy=on",
		"guest_announce=off", "romfile=")
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// memoryID is the name of the memory, also in the saved state.
const memoryID = "ram"

// memoryBackend returns the object that is the guest's memory.
func memoryBackend(spec machine.Spec) string {
	object := struct {
		Type     string `json:"qom-type"`
		ID       string `json:"id"`
		Size     int64  `json:"size"`
		Path     string `json:"mem-path"`
		Share    bool   `json:"share"`
		ReadOnly bool   `json:"readonly,omitempty"`
		// ROM "off" lets the guest write memory whose file is read-only,
		// since QEMU 8.2.
		ROM string `json:"rom,omitempty"`
	}{Type: "memory-backend-file", ID: memoryID, Size: int64(spec.Machine.MemoryMiB) << 20, Path: spec.Memory.File()}
	switch spec.Memory.(type) {
	case machine.SharedMemory:
		object.Share = true
	case machine.PrivateMemory:
		object.ReadOnly, object.ROM = true, "off"
	}
	data, err := json.Marshal(object)
	if err != nil {
		panic(err) // strings and numbers
	}
	return string(data)
}

// kernelParameters returns the command line of the guest's kernel. With shared, servers of
// shares map the guest's memory.
func kernelParameters(m plan.Machine, shared bool) string {
	// The guest is thrown away as a whole: protecting its processes from leftovers in memory
	// only costs time.
	leftovers := "init_on_alloc=0"
	if shared && m.Accelerator == plan.TCG {
		// The server of a share writes into the guest's memory, and the emulation does not see
		// that: it would run what it has translated of the page when that held other code. It
		// does see that the guest clears a page first.
		leftovers = "init_on_alloc=1"
	}
	params := []string{
		"console=ttyS0", "quiet",
		// A panic ends the machine; its text is on the console.
		"panic=-1",
		// No initramfs but ours is ever looked at, and no disk is probed
		// for one.
		"rdinit=/init",
		leftovers,
		// The kernel would test its ciphers at every start.
		"cryptomgr.notests",
		"random.trust_cpu=on",
	}
	if m.Accelerator == plan.TCG {
		// For the agent: what the kernel does not know becomes its environment. Code that
		// an emulated CPU sees for the first time takes longer than the 10 ms after which
		// Go's scheduler interrupts by a signal, whose way has to be translated, too.
		params = append(params, "GODEBUG=asyncpreemptoff=1")
	}
	if m.Accelerator == plan.TCG && m.TSCKHz > 0 {
		// The guest sees the host's time stamp counter, but on a loaded
		// host the kernel cannot measure its rate and may hang for ever
		// or lose time. lpj is the rate for one tick of Debian's 250 Hz.
		params = append(params,
			fmt.Sprintf("tsc_early_khz=%d", m.TSCKHz),
			fmt.Sprintf("lpj=%d", m.TSCKHz*1000/250),
			"no_timer_check", "tsc=reliable")
	}
	return strings.Join(params, " ")
}
