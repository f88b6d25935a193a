package machine

import (
	"os"

	"github.com/mayfly-vm/mayfly/internal/proc"
)

// A VMM is only as strong as the guest's way out of it is long. What it starts
// with, open files and sockets, is all that it ever needs, so the thread that
// starts it gives up the rest first: a program inherits these limits and can
// only tighten them.
//
//   - Landlock: no file but those of Command.Readable and Command.Writable can
//     be opened, nothing can be made, removed or executed beside it, no TCP
//     port can be used, and no process outside can be signalled or traced,
//     userspace-api/landlock.rst.
//   - As root: no capability survives the exec, capabilities(7).
//   - QEMU adds its own seccomp filter (-sandbox), Start the namespaces.

// confineThread limits the calling thread, which must be locked and must end
// with its goroutine, to what c needs.
func confineThread(c Command) error {
	if os.Geteuid() == 0 {
		if err := proc.DropBounding(); err != nil {
			return err
		}
		if err := proc.LockRoot(); err != nil {
			return err
		}
	}
	if err := proc.NoNewPrivileges(); err != nil {
		return err
	}
	return proc.Restrict(fileRules(c))
}

// fileRules returns what c may do with files.
func fileRules(c Command) []proc.Rule {
	var rules []proc.Rule
	for _, path := range append(systemFiles, c.Readable...) {
		rules = append(rules, proc.Rule{Path: path, Access: proc.Run})
	}
	for _, path := range c.Writable {
		rules = append(rules, proc.Rule{Path: path, Access: proc.WriteFiles | proc.Ioctl})
	}
	if os.Geteuid() != 0 {
		// To write the maps of the VMM's user namespace, which is done
		// from this thread; package syscall opens them for both. An
		// ordinary user can change nothing there, and Landlock keeps
		// other processes' memory and environment closed.
		rules = append(rules, proc.Rule{Path: "/proc", Access: proc.WriteFiles})
	}
	return rules
}

// systemFiles is what any program needs to start: its libraries.
var systemFiles = []string{"/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf.d", "/sys/devices/system/cpu"}
