// Package kvmguest is the tiny guest whose run to the end proves that KVM works.
//
// Image gives it as a kernel for QEMU's -kernel; Result reads what it wrote to
// its serial port. Running it is package host's business. guest.S is the source
// of its machine code and says what it exercises and why.
package kvmguest

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// ExitStatus is QEMU's exit status after a run to the end: isa-debug-exit turns
// the value v that the guest writes into v<<1 | 1.
const ExitStatus = 0x10<<1 | 1

// ExitDevice is the argument of -device that the guest ends QEMU with.
const ExitDevice = "isa-debug-exit,iobase=0xf4,iosize=4"

// loadAddress is where guest.S is linked to.
const loadAddress = 0x100000

// Image returns the guest as an ELF file with the note that tells QEMU its
// 32-bit PVH entry point, XEN_ELFNOTE_PHYS32_ENTRY.
func Image() []byte {
	const (
		headerSize  = 64 // Elf64_Ehdr
		programSize = 56 // Elf64_Phdr
		noteOffset  = headerSize + 2*programSize
		noteSize    = 20
		codeOffset  = 256
	)
	le := binary.LittleEndian
	var b []byte
	half := func(v ...uint16) {
		for _, v := range v {
			b = le.AppendUint16(b, v)
		}
	}
	word := func(v ...uint32) {
		for _, v := range v {
			b = le.AppendUint32(b, v)
		}
	}
	long := func(v ...uint64) {
		for _, v := range v {
			b = le.AppendUint64(b, v)
		}
	}

	b = append(b, "\x7fELF\x02\x01\x01"...) // 64-bit, little endian
	b = append(b, make([]byte, 16-len(b))...)
	half(2, 62)                      // ET_EXEC, EM_X86_64
	word(1)                          // version
	long(loadAddress, headerSize, 0) // entry, program headers, no sections
	word(0)                          // flags
	half(headerSize, programSize, 2, 0, 0, 0)

	word(1, 7) // PT_LOAD, readable, writable, executable
	long(codeOffset, loadAddress, loadAddress, uint64(len(code)), uint64(len(code)), 4096)
	word(4, 4) // PT_NOTE, readable
	long(noteOffset, 0, 0, noteSize, noteSize, 4)

	word(4, 4, 18) // sizes of name and content, XEN_ELFNOTE_PHYS32_ENTRY
	b = append(b, "Xen\x00"...)
	word(loadAddress)

	b = append(b, make([]byte, codeOffset-len(b))...)
	return append(b, code...)
}

// steps are the guest's steps in order: the letter that it writes after each
// and what works then.
var steps = []struct {
	letter byte
	name   string
}{
	{'p', "the start in protected mode"},
	{'l', "the switch to long mode"},
	{'c', "CPUID and model specific registers"},
	{'i', "cmpxchg16b and SSE instructions in the kernel"},
	{'f', "page faults and changes of the page tables"},
	{'h', "timer interrupts that end hlt"},
	{'t', "a timer interrupt in running code"},
	{'s', "running kernel code at the speed of a CPU"},
}

// Result reads what the guest wrote to its serial port. It returns whether the
// guest came to its end, and if not, the step that it did not complete.
func Result(serial []byte) (ok bool, stoppedAt string) {
	// Firmware may write to the port too, before the guest and on a line of
	// its own or not at all; the guest's own line is the last one.
	serial = bytes.TrimSuffix(serial, []byte("\n"))
	line := string(serial[bytes.LastIndexByte(serial, '\n')+1:])
	for _, s := range steps {
		rest, found := strings.CutPrefix(line, string(s.letter))
		if !found {
			return false, s.name
		}
		line = rest
	}
	return line == "", ""
}
