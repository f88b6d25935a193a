// Package machine describes a virtual machine between its plan and a virtual
// machine monitor (VMM) that runs it.
//
// A Driver, such as that of package qemu, turns a Spec into a Command: pure data,
// what to execute with which open files. It starts that with Start, and gives a VMM
// to talk to. Nothing here knows what the guest does.
package machine

import (
	"fmt"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/shellquote"
)

// Spec is what a driver needs to know of one machine.
type Spec struct {
	Machine   plan.Machine
	Kernel    string // path
	Initramfs string // path

	// Disks are the files of the slots. A slot without a path gets an
	// empty disk.
	Disks [plan.DiskSlots]Disk

	// Kept are disks that outlive the machine, plan.MaxKeptDisks at most. What
	// the guest flushes to them reaches the host's disk.
	Kept []Disk

	// Card is the network card; nil for a machine without one.
	Card *Card

	// Shares are directories of the host's, plan.MaxShares at most. Who serves
	// them maps all of the guest's memory by its file, so that there must be no
	// PrivateMemory.
	Shares []Share

	// Memory is where the guest's memory lies. One that is not nil makes
	// the machine one that is saved, or that was.
	Memory Memory
	// Incoming makes the VMM wait for the state of a saved machine in place
	// of booting.
	Incoming bool
}

// Disk is the file of one disk: raw, sparse, plan.DiskSize long.
type Disk struct {
	Path     string
	Writable bool
}

// Card is a network card.
type Card struct {
	MAC string // "02:00:00:00:00:05"
	MTU int    // bytes; the guest is told
	// Tap makes it a tap of the host's, which is the file Tap of Start. Else
	// its frames go over the connection NetworkCard.
	Tap bool
}

// Share is a file system that another process serves, virtio-fs. The connection to
// that process is the file ShareFile(i) of Start.
type Share struct {
	Tag string // by which the guest finds it
}

// ShareFile names the connection of Spec.Shares[i] among the files that Start is
// given.
func ShareFile(i int) string { return fmt.Sprintf("share%d", i) }

// Serial returns the serial number by which the guest finds the disk of slot.
func Serial(slot int) string {
	return fmt.Sprintf("slot%d", slot)
}

// KeptSerial returns the serial number by which the guest finds one of Spec.Kept.
func KeptSerial(i int) string {
	return fmt.Sprintf("kept%d", i)
}

// Command is a VMM's command line. File i is open in the VMM as descriptor
// FirstFile+i.
type Command struct {
	Path  string   `json:"path"`
	Args  []string `json:"args"`
	Env   []string `json:"env,omitempty"` // KEY=VALUE, nothing is inherited
	Files []File   `json:"files"`
	// Isolate asks for user, network and IPC namespaces around the VMM.
	Isolate bool `json:"isolate"`
	// Readable and Writable, beside the system's libraries, are the only
	// files and directories that the VMM can open once it runs.
	Readable []string `json:"readable"`
	Writable []string `json:"writable,omitempty"`
}

// FirstFile is the descriptor of a Command's first file.
const FirstFile = 3

// File is a file that a VMM finds open.
type File struct {
	// Socket names one of the connections that Start makes. It is empty
	// for a file on disk.
	Socket Socket `json:"socket,omitempty"`
	// Given names a file that Start is given open.
	Given    string `json:"given,omitempty"`
	Path     string `json:"path,omitempty"`
	Writable bool   `json:"writable,omitempty"`
}

// Socket names a connection between a VMM and us.
type Socket string

// The connections of a machine.
const (
	Monitor     Socket = "monitor" // the VMM's own protocol, for its driver alone
	Control     Socket = "control" // the virtio-serial port, package wire
	Console     Socket = "console" // what the kernel prints
	NetworkCard Socket = "card"    // Ethernet frames, each after its length; only with a Card
)

// Tap is the name of the tap among the files that Start is given.
const Tap = "tap"

// String returns the command as one could type it in a shell, but for the open
// files.
func (c Command) String() string {
	var words []string
	for _, kv := range c.Env {
		key, value, _ := strings.Cut(kv, "=")
		words = append(words, key+"="+shellquote.Word(value))
	}
	words = append(words, shellquote.Word(c.Path))
	for _, arg := range c.Args {
		words = append(words, shellquote.Word(arg))
	}
	return strings.Join(words, " ")
}
