// Package hardware says what hardware a machine has: its plan, its image and its
// directory become the Spec that a driver takes. It opens no file.
package hardware

import (
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/network/vnet"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// Of returns the hardware of the machine m and the files in its slots.
func Of(m state.Machine, p plan.Plan, img image.Image) machine.Spec {
	spec := Base(p, img)
	spec.Disks[plan.SlotScratch] = machine.Disk{Path: m.File(state.ScratchFile), Writable: true}
	if p.Workspace.Copied() {
		packed, _ := m.WorkspaceFiles(p)
		spec.Disks[plan.SlotWorkspace] = machine.Disk{Path: packed}
	}
	if p.Guest.HasDotfiles() {
		spec.Disks[plan.SlotDotfiles] = machine.Disk{Path: m.File(state.DotfilesFile)}
	}
	spec.Kept = keptDisks(p)
	for _, sh := range p.Shares {
		spec.Shares = append(spec.Shares, machine.Share{Tag: sh.Tag})
	}
	return spec
}

// Base is what all machines of an image and a shape have in common.
func Base(p plan.Plan, img image.Image) machine.Spec {
	spec := machine.Spec{Machine: p.Machine, Kernel: img.Kernel.Path, Initramfs: img.Initramfs, Card: networkCard(p.Network)}
	spec.Kept = make([]machine.Disk, p.KeptDisks())
	for i, layer := range img.Layers {
		spec.Disks[plan.SlotFirstLayer+i] = machine.Disk{Path: layer.Path}
	}
	return spec
}

// keptDisks returns the disks of what is kept, in the order of their serial numbers.
func keptDisks(p plan.Plan) []machine.Disk {
	d, ok := definition.Of(p)
	if !ok {
		return nil
	}
	disks := []machine.Disk{{Path: d.File(definition.KeepFile), Writable: true}}
	for _, v := range p.Volumes {
		disks = append(disks, machine.Disk{Path: d.VolumeFile(v.Name), Writable: true})
	}
	return disks
}

// cardMAC is the address of every machine's network card when it is saved.
const cardMAC = vnet.GuestMAC

// bridgeMTU is Ethernet's.
const bridgeMTU = 1500

// networkCard returns the card of a machine; nil for none.
func networkCard(n plan.Network) *machine.Card {
	switch n.Mode {
	case plan.NetworkUser:
		return &machine.Card{MAC: cardMAC, MTU: vnet.MTU}
	case plan.NetworkBridge:
		return &machine.Card{MAC: cardMAC, MTU: bridgeMTU, Tap: true}
	}
	return nil
}
