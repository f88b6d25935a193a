package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/proc"
)

// A supervisor parses what a hostile guest sends: frames, TLS, HTTP, messages. Once its
// machine is ready it has started all that it ever starts and has open nearly all that it
// ever opens, so it gives up the rest, on all of its threads. What takes it over then has
// the guest's connections and the machine's files, and not the user's:
//
//   - Landlock: the files of the machine, its audit log and what it keeps, and those by
//     which names are looked up and servers are trusted. No file can be executed.
//   - seccomp: no program, no process, no new code; sockets of the internet's families
//     only; no modes, owners and attributes of files; signals for its children only.
//   - Root becomes a user of its own (user.go), without capabilities but those by which it
//     publishes low ports, and ends servers of shares, which are other users.
//
// What a start does (packing, templates, disks, the VMM itself) is done before that.

// memoryLimit is the size in bytes from which on the garbage collector works harder to
// stay below it. The worst that guests can make a supervisor hold is less.
const memoryLimit = 192 << 20

// limitMemory ends the wastefulness of a start: an idle supervisor is to be small.
func limitMemory() {
	debug.SetGCPercent(idleGCPercent)
	debug.SetMemoryLimit(memoryLimit)
	debug.FreeOSMemory()
}

// confineProcess limits this process to what a machine that is ready needs. A kernel that
// lacks a part of it leaves the others; mayfly doctor says so.
func (s *supervisor) confineProcess(m *running) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	user := s.ownUser()
	err := proc.NoNewPrivilegesProcess()
	if err == nil && user != 0 {
		if given := s.giveFiles(user); given != nil {
			s.log.Warn("the supervisor stays root: its files cannot be another user's", "err", given)
			user = 0
		}
	}
	if err == nil {
		err = proc.RestrictProcess(s.fileRules(user))
	}
	if err == nil {
		err = s.dropPrivileges(user, m)
	}
	if errors.Is(err, unix.ENOTSUP) {
		// A program that is linked with C. The filter below can be had all the same.
		s.log.Warn("not confined: this mayfly was not built with CGO_ENABLED=0", "err", err)
		err = proc.NoNewPrivileges() // which the filter brings to the other threads
	}
	if err != nil {
		return err
	}
	filter := confine.NetworkCalls(os.Getpid(), m.children())
	if filter == nil {
		return nil
	}
	err = filter.InstallOnAllThreads()
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		s.log.Warn("not confined: the kernel filters no system calls", "err", err)
		return nil
	}
	return err
}

// children returns the numbers of the processes that the machine consists of.
func (m *running) children() (children []int) {
	if pid := m.vm.PID(); pid > 0 { // 0 would stand for our own group
		children = append(children, pid)
	}
	for _, sv := range m.vm.shares {
		children = append(children, sv.PID())
	}
	return children
}

// dropPrivileges gives up what root has. user is whom this process becomes, 0 for nobody.
func (s *supervisor) dropPrivileges(user int, m *running) error {
	if user == 0 {
		keep, err := s.neededCapabilities()
		if err != nil {
			return err
		}
		return proc.KeepCapabilities(keep...)
	}
	keep := []uintptr{unix.CAP_NET_BIND_SERVICE}
	if len(m.vm.shares) > 0 {
		keep = append(keep, unix.CAP_KILL) // their servers are other users than the VMM
	}
	return proc.BecomeUser(user, confine.User(os.Getpid()), keep...)
}

// fileRules returns what may be done with files by a supervisor that becomes user, unless
// that is 0.
func (s *supervisor) fileRules(user int) []proc.Rule {
	if user != 0 {
		rules := []proc.Rule{
			{Path: s.machine.Dir, Access: proc.Read | proc.Replace},
			{Path: filepath.Dir(s.machine.AuditFile()), Access: proc.Replace},
		}
		return append(rules, confine.HostFiles(false)...)
	}
	rules := []proc.Rule{
		{Path: s.machine.Dir, Access: proc.Read | proc.Replace | proc.RemoveDirs},
		// To remove that directory, when it is empty.
		{Path: filepath.Dir(s.machine.Dir), Access: proc.RemoveDirs},
		{Path: filepath.Dir(s.machine.AuditFile()), Access: proc.Replace},
	}
	if d, ok := definition.Of(s.plan); ok {
		rules = append(rules, proc.Rule{Path: d.Dir, Access: proc.Replace}) // transcripts
	}
	return append(rules, confine.HostFiles(os.Geteuid() == 0)...)
}

// neededCapabilities returns which capabilities are kept, by those who have them: to kill
// a VMM or a server of shares, which root starts as other users, and to publish ports
// below 1024. Root that works in a directory of another user needs what lets it in.
func (s *supervisor) neededCapabilities() ([]uintptr, error) {
	keep := []uintptr{unix.CAP_KILL, unix.CAP_NET_BIND_SERVICE}
	if os.Geteuid() != 0 {
		return keep, nil
	}
	dirs := []string{s.machine.Dir, filepath.Dir(s.machine.Dir), filepath.Dir(s.machine.AuditFile())}
	if d, ok := definition.Of(s.plan); ok {
		dirs = append(dirs, d.Dir)
	}
	open, err := proc.WritableWithoutCapabilities(dirs)
	if err != nil {
		return nil, fmt.Errorf("find the capabilities that are needed: %w", err)
	}
	if !open {
		keep = append(keep, unix.CAP_DAC_OVERRIDE)
	}
	return keep, nil
}
