package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/confine"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// A supervisor that root has started becomes a user of its own once its machine is ready,
// which nobody else is:
//
//   - It reaches its directories by descriptors (held): those above are root's alone.
//   - The machine's directory stays root's. The supervisor may make files in it, and replace
//     and remove its own only (the sticky bit): the plan, the image, the token, the lock and
//     what was packed, which later commands of root's believe, it can neither change nor
//     replace. What has its owner is its word alone (state.Machine.Status).
//   - Its audit log is its own. Of what a named machine keeps nothing is: transcripts are
//     put into the machine's directory, for who removes that.
//   - Its effective user is its VMM's, and all its others are its own: so it can signal the
//     VMM, by which a machine ends also when its supervisor is killed, and the VMM cannot
//     signal or trace it.
//
// It cannot remove its machine's directory. Root does, who waits for its end.

// held are directories that stay usable when their paths are closed to this process, by
// their paths. All are added before a VMM runs.
type held map[string]*os.File

// add holds the directory dir.
func (h held) add(dir string) error {
	if h[dir] != nil {
		return nil
	}
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	h[dir] = f
	return nil
}

// path returns a path of what is at path, which may be a directory that is held or a file in
// one, that goes by the descriptor.
func (h held) path(path string) string {
	if f := h[path]; f != nil {
		return fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	}
	if f := h[filepath.Dir(path)]; f != nil {
		return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), filepath.Base(path))
	}
	return path
}

// machine returns m by the descriptor of its directory.
func (h held) machine(m state.Machine) state.Machine {
	m.Dir = h.path(m.Dir)
	return m
}

// named returns err with the paths that users know in its text.
func (h held) named(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for dir := range h {
		fd := h.path(dir)
		text = strings.ReplaceAll(text, fd+"/", dir+"/")
		text = strings.ReplaceAll(text, fd+":", dir+":")
	}
	if text == err.Error() {
		return err
	}
	return &namedError{err, text}
}

type namedError struct {
	error
	text string
}

func (e *namedError) Error() string { return e.text }
func (e *namedError) Unwrap() error { return e.error }

// close closes the descriptors.
func (h held) close() {
	for _, f := range h {
		f.Close()
	}
}

// ownUser returns the user that this supervisor becomes; 0 for one that stays who it is: a
// normal user, or the root of a container that has no such users, or whose VMM is root.
func (s *supervisor) ownUser() int {
	if !s.plan.Machine.Engine.Isolate || machine.OwnUser() == 0 {
		return 0
	}
	return confine.SupervisorUser(os.Getpid())
}

// ownFiles are the files of a machine's directory that its supervisor goes on writing, and
// large ones, which it removes at its end.
func (s *supervisor) ownFiles() []string {
	logs := []string{state.ConsoleFile, state.VMMLogFile}
	for _, sh := range s.plan.Shares {
		logs = append(logs, state.ShareLogFile(sh.Tag))
	}
	files := append([]string{state.StatusFile, state.ScratchFile, state.MemoryFile}, logs...)
	for _, name := range logs {
		files = append(files, name+oldSuffix)
	}
	return files
}

// giveFiles gives user what it needs to go on when it is this process's.
func (s *supervisor) giveFiles(user int) error {
	dir, err := os.Open(s.held.path(s.machine.Dir))
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, name := range s.ownFiles() {
		if err := give(dir, name, user); err != nil {
			return err
		}
	}
	if err := errors.Join(dir.Chown(-1, user), dir.Chmod(0o770|fs.ModeSticky)); err != nil {
		return err
	}
	audits, err := os.Open(s.held.path(filepath.Dir(s.machine.AuditFile())))
	if err != nil {
		return err
	}
	defer audits.Close()
	names, err := audits.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := give(audits, name, user); err != nil {
			return err
		}
	}
	return errors.Join(audits.Chown(user, user), audits.Chmod(0o700))
}

// give makes the regular file name in dir that of user. What was there before this start, an
// earlier supervisor may have put there: a link leads nowhere.
func give(dir *os.File, name string, user int) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
			return nil
		}
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		return err
	}
	if err := unix.Fchown(fd, user, user); err != nil {
		return fmt.Errorf("give %s away: %w", name, err)
	}
	return nil
}

// transcriptsFile returns where the transcripts of the machine d are put.
func (s *supervisor) transcriptsFile(d definition.Definition) string {
	if isForeign(s.held.machine(s.machine)) {
		return s.held.path(s.machine.File(state.TranscriptsFile))
	}
	return s.held.path(d.File(definition.TranscriptsFile))
}

// removeOwn removes what of the machine's directory is large, and this process's. The rest,
// and the directory, are for who finds the machine dead.
func removeOwn(m state.Machine) {
	for _, name := range []string{state.ScratchFile, state.MemoryFile} {
		os.Remove(m.File(name))
	}
}

// isForeign reports whether m's directory is of a user who is not this process's.
func isForeign(m state.Machine) bool {
	fi, err := os.Stat(m.Dir)
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) != os.Getuid()
}
