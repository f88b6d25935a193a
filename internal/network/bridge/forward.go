package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/filelock"
)

// forwarding is the setting by which the host passes packets on at all.
const forwarding = "net/ipv4/ip_forward"

// recordFile is the name of a record below Config.Dir.
const recordFile = "net.json"

// record is what was changed of the host and is to be put back. Who has it open has
// the directory locked.
type record struct {
	Version int `json:"version"`
	// Settings are values of sysctls from before, by their paths below
	// /proc/sys; none if forwarding was on already.
	Settings map[string]string `json:"settings,omitempty"`

	path   string
	dir    *os.Root
	lock   *os.File
	exists bool
}

// openRecord makes the directory of the record and reads it, if there is one.
func openRecord(path string, undo *undoList) (*record, error) {
	if err := os.Mkdir(path, 0o700); err == nil {
		undo.add(func() { os.Remove(path) })
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the directory of what was changed: %w", err)
	}
	r, err := readRecord(path)
	if err == nil && r == nil {
		err = fmt.Errorf("read what was changed: %s is gone", path)
	}
	return r, err
}

// readRecord locks the directory and reads the record, if there is one. Both are nil
// if there is no directory.
func readRecord(path string) (*record, error) {
	lock, err := filelock.Try(path, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, filelock.ErrLocked) {
		return nil, errors.New("another mayfly changes the network of this computer right now")
	}
	if err != nil {
		return nil, err
	}
	r := &record{Version: 1, path: path, lock: lock}
	if r.dir, err = os.OpenRoot(path); err == nil {
		err = r.read()
	}
	if err != nil {
		r.close()
		return nil, fmt.Errorf("read what was changed: %w", err)
	}
	return r, nil
}

func (r *record) read() error {
	fi, err := r.dir.Stat(".")
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(r.lock.Fd()), &st); err != nil {
		return err
	}
	// What it says is written to /proc/sys.
	if st.Uid != 0 || fi.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others than root can write %s", r.path)
	}
	data, err := r.dir.ReadFile(recordFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, r); err != nil {
		return fmt.Errorf("%s/%s: %w", r.path, recordFile, err)
	}
	if r.Version != 1 {
		args := fault.Args{"file": r.path + "/" + recordFile, "version": strconv.Itoa(r.Version)}
		return fault.New(fault.BridgeRecordVersion, args, "%s/%s is of version %d", r.path, recordFile, r.Version)
	}
	r.exists = true
	return nil
}

func (r *record) write() error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = atomicfile.WriteIn(r.dir, recordFile, append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember what will be changed: %w", err)
	}
	r.exists = true
	return nil
}

// remove removes the record, and the directory unless something else is in it.
func (r *record) remove() error {
	if err := r.dir.Remove(recordFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget what was changed: %w", err)
	}
	if err := os.Remove(r.path); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget what was changed: %w", err)
	}
	return nil
}

func (r *record) close() {
	if r.dir != nil {
		r.dir.Close()
	}
	r.lock.Close()
}

// upForwarding has the host pass packets on, and remembers the settings from before.
func upForwarding(r *record, undo *undoList) error {
	old, err := readSysctl(forwarding)
	if err != nil {
		return err
	}
	if !r.exists {
		if old == "0" {
			if r.Settings, err = forwardingSettings(); err != nil {
				return err
			}
		}
		// First: a crash in between is to leave too much of it.
		if err := r.write(); err != nil {
			return err
		}
		undo.add(func() { r.dir.Remove(recordFile) })
	}
	if old == "1" {
		return nil
	}
	undo.add(func() { r.putBack() })
	return writeSysctl(forwarding, "1")
}

// forwardingSettings returns what the kernel changes by itself when forwarding is
// switched on or off: inet_forward_change in net/ipv4/devinet.c.
func forwardingSettings() (map[string]string, error) {
	paths, err := filepath.Glob("/proc/sys/net/ipv4/conf/*/forwarding")
	if err != nil {
		return nil, err
	}
	settings := make(map[string]string)
	for _, path := range append(paths, "/proc/sys/net/ipv4/conf/all/accept_redirects") {
		name := strings.TrimPrefix(path, "/proc/sys/")
		value, err := readSysctl(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // an interface that went away
		}
		if err != nil {
			return nil, err
		}
		settings[name] = value
	}
	return settings, nil
}

// downForwarding puts the settings back, if it was us who changed them and nobody has
// begun to count on it.
func downForwarding(r *record) (left string, err error) {
	if r == nil || len(r.Settings) == 0 {
		return "", nil
	}
	if now, err := readSysctl(forwarding); err != nil || now != "1" {
		return "", err // somebody has put it back already
	}
	other, err := otherForwarder()
	if err != nil {
		return "", err
	}
	if other != "" {
		return fmt.Sprintf("forwarding of packets stays on, since %s needs it; sysctl net.ipv4.ip_forward=0 ends it", other), nil
	}
	return "", r.putBack()
}

// putBack switches forwarding off, and then on again where it was on.
func (r *record) putBack() error {
	err := writeSysctl(forwarding, "0")
	for name, value := range r.Settings {
		now, readErr := readSysctl(name)
		if errors.Is(readErr, fs.ErrNotExist) || now == value {
			continue
		}
		err = errors.Join(err, readErr, writeSysctl(name, value))
	}
	return err
}

// readSysctl returns a setting of the network namespace of this thread.
func readSysctl(name string) (string, error) {
	data, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return "", fmt.Errorf("read the setting %s: %w", strings.ReplaceAll(name, "/", "."), err)
	}
	return strings.TrimSpace(string(data)), nil
}

func writeSysctl(name, value string) error {
	f, err := os.OpenFile("/proc/sys/"+name, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(value)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("set %s to %s: %w", strings.ReplaceAll(name, "/", "."), value, err)
	}
	return nil
}
