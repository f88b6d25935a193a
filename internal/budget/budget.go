// Package budget counts the memory that a guest makes its supervisor hold.
//
// Each machine has one Budget. Who is about to hold something for the guest takes
// what that costs in the worst case, and refuses the guest where there is too little
// left; it never waits. The sum of all that a guest can cause is bounded then,
// whatever it combines.
package budget

import (
	"fmt"
	"sync"
)

// Default is the budget of a machine in bytes. The threat model has the table of what
// is taken from it, and of what has a bound of its own.
const Default = 144 << 20

// Reserve is what only the host's own conversations with the guest may take: a guest
// that floods its network does not shut its user out.
const Reserve = 16 << 20

// Budget is a number of bytes that is shared out. Its methods may be called from
// several goroutines.
type Budget struct {
	max int64

	mu    sync.Mutex // guards what follows
	used  int64
	loose func() int64
}

// New returns a budget of max bytes.
func New(max int64) *Budget { return &Budget{max: max} }

// Loose has Take leave alone also what loose returns: bytes that are held though they were
// given back. loose uses no Budget. A later one takes its place.
func (b *Budget) Loose(loose func() int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loose = loose
}

// Take takes n bytes, if at least spare bytes are left then, and reports whether it
// did. Who can do with less asks for much only while there is plenty.
func (b *Budget) Take(n, spare int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.max - b.used - n
	if b.loose != nil {
		left -= b.loose()
	}
	if left < spare {
		return false
	}
	b.used += n
	return true
}

// Give gives back what was taken.
func (b *Budget) Give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used -= n; b.used < 0 {
		panic(fmt.Sprintf("budget: %d bytes more were given back than taken", -b.used))
	}
}

// Used returns how many bytes are taken.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
