package machine

// Memory is where the memory of a guest lies. A nil Memory is the VMM's own and
// nobody else's, for a machine that boots and is never saved.
//
// The kinds are types so that the compiler keeps apart what must not meet: a
// server of shared files (vhost-user) maps the guest's memory by its file, which
// for PrivateMemory is not what the guest sees, and would write into the file
// that all machines begin from. So it takes a SharedMemory.
type Memory interface {
	// File is the file that the memory is mapped from, as long as the
	// memory is large.
	File() string
	isMemory()
}

// SharedMemory is a file of this guest alone: what the guest writes is in it.
type SharedMemory struct{ Path string }

// PrivateMemory is the saved memory of another guest, which is read from the
// file at Path until this guest writes: the file never changes.
type PrivateMemory struct{ Path string }

func (m SharedMemory) File() string  { return m.Path }
func (m PrivateMemory) File() string { return m.Path }

func (SharedMemory) isMemory()  {}
func (PrivateMemory) isMemory() {}
