package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/naming"
)

// Dir is the directory of a service manager's units.
type Dir struct {
	Path  string
	Scope Scope
}

// UserDir returns the directory of a user's units; getenv reads the environment.
func UserDir(getenv func(string) string) (Dir, error) {
	config := getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		home := getenv("HOME")
		if !filepath.IsAbs(home) {
			return Dir{}, fmt.Errorf("find the directory of units: HOME is %q, not an absolute path", home)
		}
		config = filepath.Join(home, ".config")
	}
	return Dir{filepath.Join(config, "systemd/user"), User}, nil
}

// SystemDir returns the directory of the system's units that the administrator
// makes.
func SystemDir() Dir { return Dir{"/etc/systemd/system", System} }

// File is one file of units.
type File struct {
	Path string // below the directory
	Text string
}

// Machine is what a machine's units are made of.
type Machine struct {
	Name   string
	Exe    string
	Limits Limits
	Owner  Owner
}

// Files returns the files for m: the template and its drop-ins.
func (m Machine) Files(scope Scope) ([]File, error) {
	if !naming.Valid(m.Name) {
		return nil, fmt.Errorf("machine name %.80q cannot be that of a unit", m.Name)
	}
	unit, err := Template{Exe: m.Exe, Scope: scope}.Unit()
	if err != nil {
		return nil, err
	}
	owner, err := m.Owner.DropIn()
	if err != nil {
		return nil, err
	}
	files := []File{
		{TemplateFile, unit},
		{filepath.Join(DropInDir(m.Name), LimitsFile), m.Limits.DropIn()},
	}
	if owner != "" {
		files = append(files, File{filepath.Join(DropInDir(m.Name), AccountFile), owner})
	}
	return files, nil
}

// Files returns the files of the timer.
func (u Update) Files() ([]File, error) {
	service, timer, err := u.Units()
	if err != nil {
		return nil, err
	}
	return []File{{UpdateService, service}, {UpdateTimer, timer}}, nil
}

// ErrForeign is wrapped by the error for a file that mayfly did not write.
var ErrForeign = errors.New("mayfly did not write it")

// Write writes files, and returns the paths of those that are new or other than
// before. It replaces no file of somebody else's, and then changes none at all.
func (d Dir) Write(files []File) ([]string, error) {
	var changed []File
	for _, f := range files {
		old, err := d.ours(f.Path)
		if err != nil {
			return nil, err
		}
		if old != f.Text {
			changed = append(changed, f)
		}
	}
	var written []string
	for _, f := range changed {
		name := filepath.Join(d.Path, f.Path)
		if err := write(name, f.Text); err != nil {
			return written, fmt.Errorf("write %s: %w", name, err)
		}
		written = append(written, name)
	}
	return written, nil
}

// ours returns the text of a file of ours, "" for one that is not there.
func (d Dir) ours(file string) (string, error) {
	name := filepath.Join(d.Path, file)
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	// A link, to /dev/null for one that is masked, is its user's will.
	if !info.Mode().IsRegular() || info.Size() > 64<<10 {
		return "", fmt.Errorf("%s: %w", name, ErrForeign)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(string(data), header) {
		return "", fmt.Errorf("%s: %w", name, ErrForeign)
	}
	return string(data), nil
}

// write replaces a file as a whole: a manager may read it at any time.
func write(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(name, []byte(text), 0o644)
}

// wants returns the link by which a target wants a unit.
func (d Dir) wants(unit string) string {
	target := "default.target"
	switch {
	case strings.HasSuffix(unit, ".timer"):
		target = "timers.target"
	case d.Scope == System:
		target = "multi-user.target"
	}
	return filepath.Join(d.Path, target+".wants", unit)
}

// Enable makes the manager start a unit by itself, as systemctl enable does, and
// which works where no manager runs, too. It returns the link that it made, "" if
// that was there.
func (d Dir) Enable(unit string) (string, error) {
	file := unit
	if at := strings.IndexByte(unit, '@'); at >= 0 {
		file = TemplateFile
	}
	link, to := d.wants(unit), filepath.Join(d.Path, file)
	if old, err := os.Readlink(link); err == nil && old == to {
		return "", nil
	}
	err := os.MkdirAll(filepath.Dir(link), 0o755)
	if err == nil {
		err = os.Symlink(to, link)
	}
	if err != nil {
		return "", fmt.Errorf("enable %s: %w", unit, err)
	}
	return link, nil
}

// Disable undoes Enable. It returns the link that it removed, "" if there was none.
func (d Dir) Disable(unit string) (string, error) {
	link := d.wants(unit)
	err := os.Remove(link)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("disable %s: %w", unit, err)
	}
	os.Remove(filepath.Dir(link)) // if it is empty
	return link, nil
}

// RemoveMachine removes the drop-ins of a machine and, with those of the last, the
// template. It returns what it removed, and leaves what others wrote.
func (d Dir) RemoveMachine(name string) ([]string, error) {
	if !naming.Valid(name) {
		return nil, fmt.Errorf("machine name %.80q cannot be that of a unit", name)
	}
	var removed []string
	if link, err := d.Disable(Service(name)); err != nil {
		return nil, err
	} else if link != "" {
		removed = append(removed, link)
	}
	dir := DropInDir(name)
	more, err := d.remove(filepath.Join(dir, LimitsFile), filepath.Join(dir, AccountFile))
	removed = append(removed, more...)
	if err != nil {
		return removed, err
	}
	os.Remove(filepath.Join(d.Path, dir)) // if it is empty
	others, err := filepath.Glob(filepath.Join(d.Path, "mayfly@*.service.d", LimitsFile))
	if err != nil || len(others) > 0 {
		return removed, err
	}
	more, err = d.remove(TemplateFile)
	return append(removed, more...), err
}

// RemoveUpdate removes the timer and its service.
func (d Dir) RemoveUpdate() ([]string, error) {
	var removed []string
	if link, err := d.Disable(UpdateTimer); err != nil {
		return nil, err
	} else if link != "" {
		removed = append(removed, link)
	}
	more, err := d.remove(UpdateTimer, UpdateService)
	return append(removed, more...), err
}

// remove removes files of ours.
func (d Dir) remove(files ...string) ([]string, error) {
	var removed []string
	for _, file := range files {
		text, err := d.ours(file)
		if errors.Is(err, ErrForeign) {
			continue
		}
		if err == nil && text != "" {
			name := filepath.Join(d.Path, file)
			if err = os.Remove(name); err == nil {
				removed = append(removed, name)
			}
		}
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}
