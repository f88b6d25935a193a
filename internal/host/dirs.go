package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// Dirs are mayfly's directories of this user. They need not exist.
type Dirs struct {
	Config string `json:"config"` // what the user wrote
	Data   string `json:"data"`   // images, a private QEMU
	State  string `json:"state"`  // machines, and what they keep
	Cache  string `json:"cache"`  // what can be made again
}

// XDGDirs returns the directories that the XDG base directory specification
// gives, from the variables that getenv reads. As the specification wants it, a
// relative path in a variable is ignored.
func XDGDirs(getenv func(string) string) (Dirs, error) {
	home := getenv("HOME")
	dir := func(variable, fallback string) string {
		base := getenv(variable)
		if !filepath.IsAbs(base) {
			if !filepath.IsAbs(home) {
				return ""
			}
			base = filepath.Join(home, fallback)
		}
		return filepath.Join(base, "mayfly")
	}
	d := Dirs{
		Config: dir("XDG_CONFIG_HOME", ".config"),
		Data:   dir("XDG_DATA_HOME", ".local/share"),
		State:  dir("XDG_STATE_HOME", ".local/state"),
		Cache:  dir("XDG_CACHE_HOME", ".cache"),
	}
	if d.Config == "" || d.Data == "" || d.State == "" || d.Cache == "" {
		if home == "" {
			return Dirs{}, errors.New("find the user's directories: HOME is not set")
		}
		return Dirs{}, fmt.Errorf("find the user's directories: HOME is %q, not an absolute path", home)
	}
	return d, nil
}

// CheckOwn returns an error if another user of this computer could change one of the
// directories, and with it what is executed or believed: as in one that lies in /tmp, or
// that everybody may write.
func (d Dirs) CheckOwn() error {
	for _, dir := range []string{d.Config, d.Data, d.State, d.Cache} {
		var st unix.Stat_t
		if unix.Stat(dir, &st) != nil {
			continue // what cannot be reached is for who needs it to say, who may do without
		}
		if why := notOwn(st, os.Geteuid()); why != "" {
			return fault.New(fault.DirectoryShared, fault.Args{"path": dir}, "%s %s", dir, why)
		}
	}
	return nil
}

// notOwn says why what st is of is not user's alone. Root is trusted, and may work for a
// user. Users whose umask lets their group write have one of their own, of their number.
func notOwn(st unix.Stat_t, user int) string {
	switch owner := int(st.Uid); {
	case user != 0 && owner != user && owner != 0:
		return fmt.Sprintf("belongs to another user, %d", owner)
	case st.Mode&0o002 != 0:
		return "can be written by everybody"
	case st.Mode&0o020 != 0 && st.Gid != st.Uid:
		return fmt.Sprintf("can be written by the group %d", st.Gid)
	}
	return ""
}
