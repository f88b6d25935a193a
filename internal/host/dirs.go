package host

import (
	"errors"
	"fmt"
	"path/filepath"
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
