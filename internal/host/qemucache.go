package host

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
)

// Starting QEMU for its version takes longer than all other looks at the host
// together, and every start of a machine looks. So the answer is kept for as
// long as the file is the same. A script is asked each time: what it runs may be
// another program tomorrow.

// knownQEMUFile is where the answer is kept, in the cache directory.
const knownQEMUFile = "qemu.json"

// knownQEMU is what a QEMU said, and which file that was.
type knownQEMU struct {
	QEMU QEMU   `json:"qemu"`
	File fileID `json:"file"`
}

// fileID changes when a file is replaced or written.
type fileID struct {
	Inode uint64 `json:"inode"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"` // ns since 1970
	CTime int64  `json:"ctime"`
}

// inspectQEMU is the function of that name with a memory.
func (o Options) inspectQEMU(ctx context.Context, path string) (QEMU, error) {
	var st syscall.Stat_t
	if o.Fresh || o.Dirs.Cache == "" || !isELF(path) || syscall.Stat(path, &st) != nil {
		return inspectQEMU(ctx, path)
	}
	file := fileID{st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
	name := filepath.Join(o.Dirs.Cache, knownQEMUFile)
	var known knownQEMU
	if data, err := os.ReadFile(name); err == nil && json.Unmarshal(data, &known) == nil {
		// What a private one needs lies beside it, or it does not start.
		needs := append(slices.Clone(known.QEMU.DataDirs), known.QEMU.ModuleDir)
		gone := func(dir string) bool { return dir != "" && !exists(dir) }
		if known.QEMU.Path == path && known.File == file && !slices.ContainsFunc(needs, gone) {
			return known.QEMU, nil
		}
	}
	q, err := inspectQEMU(ctx, path)
	if err != nil {
		return q, err
	}
	if data, err := json.Marshal(knownQEMU{q, file}); err == nil {
		o.remember(name, data)
	}
	return q, nil
}

// remember writes an answer to a file in the cache directory. It is only to save
// time: who cannot write it asks again.
func (o Options) remember(name string, data []byte) {
	if o.Forget {
		return
	}
	if os.MkdirAll(o.Dirs.Cache, 0o700) == nil {
		atomicfile.WriteUnsynced(name, data, 0o600)
	}
}

// isELF reports whether path is a program and no script.
func isELF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:]) == "\x7fELF"
}
