package agent

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// maxSeeded bounds a file that settings are merged into.
const maxSeeded = 16 << 20

// seed writes settings into files of the user's.
func (a *agent) seed(req *wire.Seed) wire.Seeded {
	m, err := a.configured()
	if err != nil {
		return wire.Seeded{Error: err.Error()}
	}
	var answer wire.Seeded
	a.seeding.Lock()
	defer a.seeding.Unlock()
	err = asUser(m.credential, func() error {
		for _, dir := range req.Dirs {
			if err := makeDir(dir); err != nil {
				return err
			}
		}
		copies := make(map[string]bool)
		for _, f := range req.Files {
			copies[f.Path] = true
		}
		for _, l := range req.Links {
			if err := seedLink(l, m.user.Home, wire.DotfilesDir, copies); err != nil {
				return err
			}
		}
		for _, f := range req.Files {
			aside, err := seedFile(f, m.env)
			if err != nil {
				return err
			}
			if aside != "" {
				answer.Aside = append(answer.Aside, aside)
			}
		}
		answer.Earlier = len(findTranscripts(req.Transcripts, m.env)) > 0
		return nil
	})
	if err != nil {
		answer.Error = err.Error()
	}
	return answer
}

// asUser calls f with the rights that the user c has to files, and no others: what
// the user has put in the way of a name leads only to what is the user's anyway.
// That is so for one thread, which ends with it. A nil c changes nothing.
func asUser(c *syscall.Credential, f func() error) error {
	if c == nil {
		return f()
	}
	done := make(chan error)
	go func() {
		// Never unlocked, so that the thread is not used for anything else;
		// the runtime begins no other thread from a locked one.
		runtime.LockOSThread()
		done <- func() error {
			if err := setFileUser(c); err != nil {
				return fmt.Errorf("become the user: %w", err)
			}
			return f()
		}()
	}()
	return <-done
}

// setFileUser sets the user, the group and the groups with which this thread
// reaches files, and with the first the kernel takes the capabilities to
// override permissions, credentials(7). The functions of package syscall are
// for all threads.
func setFileUser(c *syscall.Credential) error {
	groups := append([]uint32{}, c.Groups...)
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	if !c.NoSetGroups {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); errno != 0 {
			return errno
		}
	}
	for _, set := range []struct{ call, id uintptr }{
		{unix.SYS_SETFSGID, uintptr(c.Gid)}, {unix.SYS_SETFSUID, uintptr(c.Uid)},
	} {
		unix.RawSyscall(set.call, set.id, 0, 0)
		// It tells the old value and not whether it worked: ask once more.
		if now, _, _ := unix.RawSyscall(set.call, ^uintptr(0), 0, 0); uint32(now) != uint32(set.id) {
			return syscall.EPERM
		}
	}
	return nil
}

func makeDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("directory %q is not absolute", dir)
	}
	return os.MkdirAll(dir, 0o700)
}

// seedFile writes one file, with env as the machine's variables. It returns the new name of an old one that could not
// be read.
func seedFile(f wire.SeedFile, env []string) (aside string, err error) {
	if f.Variable != "" {
		value := getenv(env, f.Variable)
		if value == "" {
			return "", nil
		}
		quoted, err := json.Marshal(value)
		if err != nil {
			return "", fmt.Errorf("settings: %w", err)
		}
		f.Text = strings.ReplaceAll(f.Text, wire.SeedValue, string(quoted))
	}
	if f.Block && f.Text == "" {
		if _, err := os.Stat(f.Path); err != nil {
			return "", nil
		}
	}
	if err := makeDir(filepath.Dir(f.Path)); err != nil {
		return "", err
	}
	// A link of the user's stays, and what it leads to is written.
	path, err := filepath.EvalSymlinks(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		path, err = f.Path, nil
	}
	if err != nil {
		return "", fmt.Errorf("settings: %w", err)
	}
	old, err := readSeeded(path)
	if f.Block {
		return "", seedBlock(path, old, f.Text, err)
	}
	perm := os.FileMode(0o600)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", fmt.Errorf("settings in %s: %w", f.Path, err)
	case f.Text != "":
		return "", nil
	default:
		if fi, err := os.Stat(path); err == nil {
			perm = fi.Mode().Perm()
		}
	}
	data := []byte(f.Text)
	if f.Text == "" {
		var items []listItem
		for _, t := range f.Tails {
			if value := getenv(env, t.Variable); value != "" && t.Length > 0 {
				items = append(items, listItem{t.Keys, value[max(len(value)-t.Length, 0):]})
			}
		}
		for _, i := range f.Items {
			var value any
			if err := json.Unmarshal(i.Value, &value); err != nil {
				return "", fmt.Errorf("settings: %w", err)
			}
			items = append(items, listItem{i.Keys, value})
		}
		var changed bool
		data, changed, err = mergeJSON(old, f.Must, f.Default, items)
		if err != nil {
			// What the file is for others need not be lost on us.
			aside = path + ".unreadable-" + rand.Text()[:8]
			if err := os.Rename(path, aside); err != nil {
				return "", fmt.Errorf("settings in %s: %w", f.Path, err)
			}
			data, changed, err = mergeJSON(nil, f.Must, f.Default, items)
		}
		if err != nil {
			return aside, fmt.Errorf("settings in %s: %w", f.Path, err)
		}
		if !changed {
			return aside, nil
		}
	}
	return aside, atomicfile.WriteUnsynced(path, data, perm)
}

// readSeeded reads a regular file, and waits for nothing that is none.
func readSeeded(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSeeded+1))
	if err == nil && len(data) > maxSeeded {
		err = fmt.Errorf("larger than %d MiB", maxSeeded>>20)
	}
	return data, err
}
