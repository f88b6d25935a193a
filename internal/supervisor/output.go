package supervisor

import (
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// prints are what the VMMs of a machine print, and their guests.
type prints struct{ console, vmm *output }

// openPrints makes the files of what is printed.
func openPrints(m state.Machine) (*prints, error) {
	console, err := newOutput(m.File(state.ConsoleFile))
	if err != nil {
		return nil, err
	}
	vmm, err := newOutput(m.File(state.VMMLogFile))
	if err != nil {
		console.close()
		return nil, err
	}
	return &prints{console, vmm}, nil
}

// begin forgets the last lines: what comes now is of another VMM.
func (p *prints) begin() {
	p.console.begin()
	p.vmm.begin()
}

// Close closes the files.
func (p *prints) Close() {
	p.console.close()
	p.vmm.close()
}

// oldSuffix is what the name of an output's older file ends in.
const oldSuffix = ".old"

// outputLimit is the size in bytes at which an output's file is set aside as
// FILE.old and begun anew, so that two of them are kept at most.
const outputLimit = 512 << 10

// output keeps what the guest's kernel, or the VMM, prints. The guest decides
// how much that is.
type output struct {
	path string

	mu   sync.Mutex // guards what follows
	file *os.File
	size int
	tail []byte // the last lines
}

const tailBytes = 16 << 10

func newOutput(path string) (*output, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &output{path: path, file: f}, nil
}

// begin forgets the last lines.
func (o *output) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tail = nil
}

// pace bounds how often and how much is read of what a guest prints. A guest can print
// byte by byte, and each byte costs us more than the guest. What is not read waits in
// the VMM, and the guest with it.
type pace struct {
	reads, bytes float64 // that may be at once
	at           time.Time
}

const (
	readsBurst, readsPerSec = 500, 50
	bytesBurst, bytesPerSec = 1 << 20, 128 << 10
)

// wait waits until there may be another read, after one of n bytes.
func (p *pace) wait(n int) {
	now := time.Now()
	since := now.Sub(p.at).Seconds()
	p.at = now
	p.reads = min(readsBurst, p.reads+since*readsPerSec) - 1
	p.bytes = min(bytesBurst, p.bytes+since*bytesPerSec) - float64(n)
	if short := max(-p.reads/readsPerSec, -p.bytes/bytesPerSec); short > 0 {
		time.Sleep(time.Duration(short * float64(time.Second)))
	}
}

// copy keeps what comes from r until it ends.
func (o *output) copy(r io.Reader) {
	buf := make([]byte, 16<<10)
	p := pace{reads: readsBurst, bytes: bytesBurst, at: time.Now()}
	for {
		n, err := r.Read(buf)
		o.Write(buf[:n])
		if err != nil {
			return
		}
		p.wait(n)
	}
}

// Write keeps p. It never fails: a full disk must not stop the machine.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// The tail has twice its length at times, so that it is not moved for each byte.
	o.tail = append(o.tail, p...)
	if len(o.tail) > 2*tailBytes {
		o.tail = append(o.tail[:0], o.tail[len(o.tail)-tailBytes:]...)
	}
	if o.size+len(p) > outputLimit {
		if err := o.rotateLocked(); err != nil {
			return len(p), nil
		}
	}
	n, _ := o.file.Write(p)
	o.size += n
	return len(p), nil
}

func (o *output) rotateLocked() error {
	f, err := os.OpenFile(o.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(os.Rename(o.path, o.path+oldSuffix), os.Rename(o.path+".new", o.path))
	o.file.Close()
	o.file, o.size = f, 0
	return err
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.file.Close()
}

// failure matches the first line of what a kernel says when it dies.
var failure = regexp.MustCompile(`Kernel panic|Oops|BUG:|double fault|Unable to mount`)

// panicked reports whether a kernel's panic is among the last lines.
func (o *output) panicked() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Contains(o.tail, []byte("Kernel panic"))
}

// end returns the last lines, or the first lines of the kernel's last words if
// there are such, safe to print.
func (o *output) end(lines int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	tail := o.tail[max(0, len(o.tail)-tailBytes):]
	text := strings.ReplaceAll(string(tail), "\r", "")
	all := strings.Split(strings.TrimSpace(text), "\n")
	if i := slices.IndexFunc(all, failure.MatchString); i >= 0 {
		all = all[i:min(i+lines, len(all))]
	} else if len(all) > lines {
		all = all[len(all)-lines:]
	}
	for i, line := range all {
		all[i] = termsafe.Line(line)
	}
	return strings.Join(all, "\n")
}
