package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/proc"
)

// A VMM is only as strong as the guest's way out of it is long. What it starts
// with, open files and sockets, is all that it ever needs. So it is not our process
// that becomes the VMM, but a mayfly of its own that gives up the rest first (Main),
// and a program can only tighten what it inherits:
//
//   - namespaces: it sees no other process and no network, and its root has only the
//     system's libraries and the files of Command.Readable and Command.Writable. That
//     has no /proc either, by which one could open a file anew for writing.
//   - A user of its own, where root starts it, and no capability.
//   - Landlock: the same files again, no TCP port, and no process outside can be
//     signalled or traced, userspace-api/landlock.rst. It is what keeps files closed
//     where the host allows no namespaces.
//   - seccomp: the calls that a VMM needs, filter. QEMU adds its own (-sandbox).

// Word is the hidden word of the command line that becomes a VMM.
const Word = "become-vmm"

// maxFiles bounds the files that a VMM has open.
const maxFiles = 4096

// order is what the process that becomes a VMM is told.
type order struct {
	Path string   `json:"path"`
	Args []string `json:"args"`
	Env  []string `json:"env"`
	// Ready is the descriptor of a pipe, written: why it did not become a VMM.
	Ready    int      `json:"ready"`
	Isolate  bool     `json:"isolate"`
	User     int      `json:"user,omitempty"` // to become; 0 to stay who it is
	Readable []string `json:"readable"`
	Writable []string `json:"writable,omitempty"`
}

// Spawned reports whether this process was started by Start with arg.
func Spawned(arg string) bool {
	var o order
	var st unix.Stat_t
	return json.Unmarshal([]byte(arg), &o) == nil && o.Ready >= FirstFile &&
		unix.Fstat(o.Ready, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// Main is the body of the hidden command: it limits this process to what arg, an
// order, needs and becomes the VMM. It returns only after an error, which Start
// returns in the other process.
func Main(arg string) {
	var o order
	if err := json.Unmarshal([]byte(arg), &o); err != nil {
		return // Spawned has seen it
	}
	ready := os.NewFile(uintptr(o.Ready), "ready")
	unix.CloseOnExec(o.Ready)
	fmt.Fprint(ready, become(o))
}

func become(o order) error {
	// Limits, users and the death signal are the thread's.
	runtime.LockOSThread()
	program, err := o.program()
	if err != nil {
		return err
	}
	if o.Isolate {
		if err := o.root(program).Enter(); err != nil {
			return err
		}
	}
	if err := confine.LimitFiles(maxFiles); err != nil {
		return err
	}
	if err := o.dropPrivileges(); err != nil {
		return err
	}
	// After the change of user, which forgets it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the supervisor: %w", err)
	}
	if orphaned(o.Ready) {
		return errors.New("the supervisor has ended")
	}
	if err := proc.NoNewPrivileges(); err != nil {
		return err
	}
	if err := proc.Restrict(o.rules(program)); err != nil {
		return err
	}
	// The command line lets nothing that it was started with go on to others.
	for fd := FirstFile; fd < o.Ready; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("hand over descriptor %d: %w", fd, err)
		}
	}
	pid := uint32(os.Getpid())
	err = filter(pid, confine.Once()).InstallOnce()
	if errors.Is(err, unix.EBUSY) {
		// Who runs us looks at our calls in the same way, as some containers do:
		// there is one such place. Then QEMU itself forbids it (-sandbox).
		err = filter(pid, confine.Allow()).Install()
	}
	if err != nil {
		return err
	}
	err = syscall.Exec(program, append([]string{program}, o.Args...), o.Env)
	return fmt.Errorf("start %s: %w", program, err)
}

// program returns the real path of the VMM: in its root there are no others. What
// Nix and Guix call by the name is a program that executes another one, which a VMM
// may not.
func (o order) program() (string, error) {
	program, err := filepath.EvalSymlinks(o.Path)
	if err != nil {
		return "", err
	}
	wrapped := filepath.Join(filepath.Dir(program), "."+filepath.Base(program)+"-wrapped")
	if fi, err := os.Stat(wrapped); err == nil && fi.Mode().IsRegular() {
		return wrapped, nil
	}
	return program, nil
}

// systemFiles is what any program needs to start: its libraries.
var systemFiles = []string{"/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf.d", "/nix/store", "/gnu/store", "/sys/devices/system/cpu"}

// device reports whether path is a device's.
func device(path string) bool { return filepath.Dir(path) == "/dev" }

// root returns the root of the VMM.
func (o order) root(program string) confine.Root {
	var r confine.Root
	add := func(attr uint64, paths ...string) {
		r.Entries = append(r.Entries, confine.Entries(attr, paths...)...)
	}
	add(confine.ReadOnly, append(systemFiles, program)...)
	const noExec = unix.MOUNT_ATTR_NOEXEC
	for _, path := range o.Readable {
		switch {
		case path == o.Path:
		case device(path):
			add(unix.MOUNT_ATTR_NOSUID|noExec, path)
		default: // modules are libraries
			add(confine.ReadOnly, path)
		}
	}
	for _, path := range o.Writable {
		switch {
		case device(path) && o.User != 0:
			r.Nodes = append(r.Nodes, path)
		case device(path):
			add(unix.MOUNT_ATTR_NOSUID|noExec, path)
		default:
			add(unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|noExec, path)
		}
	}
	return r
}

// rules returns what the VMM may do with files.
func (o order) rules(program string) []proc.Rule {
	var rules []proc.Rule
	for _, path := range append(systemFiles, program) {
		rules = append(rules, proc.Rule{Path: path, Access: proc.Run})
	}
	for _, path := range o.Readable {
		rules = append(rules, proc.Rule{Path: path, Access: proc.Read})
	}
	for _, path := range o.Writable {
		rules = append(rules, proc.Rule{Path: path, Access: proc.WriteFiles | proc.Ioctl})
	}
	return rules
}

// dropPrivileges gives up all capabilities for ever, and root's number where there is
// another to take.
func (o order) dropPrivileges() error {
	if os.Geteuid() == 0 {
		if err := proc.DropBounding(); err != nil {
			return err
		}
		if err := proc.LockRoot(); err != nil {
			return err
		}
	}
	if o.User != 0 {
		groups := []uint32{confine.Group}
		if err := setUser(o.User, groups); err != nil {
			return fmt.Errorf("become user %d: %w", o.User, err)
		}
	}
	return confine.DropCapabilities()
}

// setUser changes the user and the group of this thread, which is the one that
// executes the VMM, and its further groups. Package syscall would change those of
// all threads, which takes a signal to each.
func setUser(id int, groups []uint32) error {
	u := uintptr(id)
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESGID, u, u, u)
	}
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, u, u, u)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// orphaned reports whether the other end of the pipe fd is closed: who started us has
// ended before it was to end us.
func orphaned(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLERR != 0
}
