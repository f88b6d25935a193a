package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/suggest"
)

// What only a machine with a name of its own has: `mayfly run` ignores it.

// Clone is an element of workspace.clone: a git repository that `mayfly new` clones
// into the workspace.
type Clone struct {
	URL string // "https://example.org/project.git"
	Ref string // a branch, a tag or a commit; "" for what the repository's HEAD is
}

// addClone reads an element of workspace.clone, a URL or a table.
func addClone(c *Config, s setting) *Error {
	var clone Clone
	switch v := s.value.(type) {
	case string:
		clone.URL = v
	case map[string]any:
		for _, key := range sortedKeys(v) {
			at := setting{s.origin, joinKey(s.key, key), v[key]}
			var err *Error
			switch key {
			case "url":
				err = asString(at, &clone.URL)
			case "ref":
				err = asString(at, &clone.Ref)
			default:
				err = at.errorf("unknown key")
				err.Suggestion = suggest.Nearest(key, partsOf("workspace.clone"))
			}
			if err != nil {
				return err
			}
		}
	default:
		return s.errorf("must be a URL or a table such as { url = \"https://example.org/project.git\", ref = \"main\" }, not %s", describe(s.value))
	}
	for _, text := range []string{clone.URL, clone.Ref} {
		if len(text) > maxCommand || strings.ContainsFunc(text, unicode.IsControl) || strings.HasPrefix(text, "-") {
			return s.errorf("%s is neither a repository's URL nor a branch's name", shortQuote(text))
		}
	}
	if clone.URL == "" {
		return s.errorf("has no url")
	}
	c.Workspace.Clone = append(c.Workspace.Clone[:len(c.Workspace.Clone):len(c.Workspace.Clone)], clone)
	return nil
}

// Volume is an element of volume: a disk of the machine's that outlives its stops.
type Volume struct {
	Name    string // "var"
	Mount   string // absolute, or begins with "~/", the home directory in the machine
	SizeMiB int
}

// Limits of volumes. All disks have one virtual size, plan.DiskSize.
const (
	MaxVolumes       = 7
	minVolumeMiB     = 16
	maxVolumeMiB     = 64 << 10
	defaultVolumeMiB = 8 << 10
)

// addVolume reads an element of volume: a table or, as from --volume,
// NAME:MOUNT[:SIZE].
func addVolume(c *Config, s setting) *Error {
	v := Volume{SizeMiB: defaultVolumeMiB}
	table, err := volumeTable(s)
	if err != nil {
		return err
	}
	for _, key := range sortedKeys(table) {
		at := setting{s.origin, joinKey(s.key, key), table[key]}
		switch key {
		case "name":
			err = asString(at, &v.Name)
		case "mount":
			err = asString(at, &v.Mount)
		case "size":
			err = asSize(at, minVolumeMiB, maxVolumeMiB, &v.SizeMiB)
		default:
			err = at.errorf("unknown key")
			err.Suggestion = suggest.Nearest(key, partsOf("volume"))
		}
		if err != nil {
			return err
		}
	}
	if err := v.check(); err != nil {
		return s.place(err)
	}
	for _, other := range c.Volumes {
		switch {
		case other == v:
			return nil // a file and a flag may agree
		case other.Name == v.Name:
			return s.errorf("there is a volume %s already", v.Name)
		case other.Mount == v.Mount:
			return s.errorf("the volume %s is mounted on %s already", other.Name, v.Mount)
		}
	}
	if len(c.Volumes) == MaxVolumes {
		return s.errorf("a machine has at most %d volumes", MaxVolumes)
	}
	c.Volumes = append(c.Volumes[:len(c.Volumes):len(c.Volumes)], v)
	return nil
}

func volumeTable(s setting) (map[string]any, *Error) {
	switch v := s.value.(type) {
	case map[string]any:
		return v, nil
	case string:
		parts := strings.Split(v, ":")
		if len(parts) < 2 || len(parts) > 3 {
			return nil, s.errorf("is %s; must be NAME:MOUNT or NAME:MOUNT:SIZE, as in var:/var:8GiB", shortQuote(v))
		}
		table := map[string]any{"name": parts[0], "mount": parts[1]}
		if len(parts) == 3 {
			table["size"] = parts[2]
		}
		return table, nil
	}
	return nil, s.errorf("must be a table, written [[volume]], not %s", describe(s.value))
}

func (v Volume) check() *Error {
	clean := strings.TrimPrefix(v.Mount, "~")
	switch {
	case !naming.ValidVolume(v.Name):
		return wrong("%s is not a volume's name: lower-case letters, digits and hyphens only, at most 32", shortQuote(v.Name))
	case v.Mount == "":
		return wrong("the volume %s has no mount, the directory where it appears in the machine", v.Name)
	case v.Mount == "~" || !strings.HasPrefix(clean, "/") || path.Clean(clean) != clean || clean == "/",
		len(v.Mount) > 1024, strings.ContainsFunc(v.Mount, unicode.IsControl), strings.ContainsAny(v.Mount, ":,"):
		return wrong("mount is %s; must be a directory such as \"/var\" or \"~/.cache\", written without . and ..", shortQuote(v.Mount))
	}
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run", "/boot", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64"} {
		if v.Mount == dir || strings.HasPrefix(v.Mount, dir+"/") && dir != "/usr" && dir != "/etc" {
			return wrong("mount is %s, which a machine does not start without", shortQuote(v.Mount))
		}
	}
	return nil
}

// notPortable returns what is wrong with the settings of a portable file: commands for
// this computer, and secrets of another file's that are sent elsewhere.
func notPortable(settings []setting) []*Error {
	var errs []*Error
	own := make(map[string]bool)  // secrets that the file itself says where to get
	sent := make(map[string]bool) // and those that it says where to send
	for _, s := range settings {
		if s.key == "network.proxy" && s.value != "none" {
			errs = append(errs, s.errorf("is a place in your own network, which a machine's file cannot know; put it into config.toml"))
		}
		name, sub, ok := cutSecret(s.key)
		if ok && sub == "hosts" {
			sent[name] = true
		}
		if !ok || sub != "from" {
			continue
		}
		own[name] = true
		if from, isText := s.value.(string); isText && strings.HasPrefix(from, "cmd:") {
			errs = append(errs, s.errorf("is a command for this computer, which a machine's file cannot carry; put it into config.toml"))
		}
	}
	for _, s := range settings {
		name, sub, ok := cutSecret(s.key)
		switch {
		case !ok:
		case !own[name]:
			errs = append(errs, s.errorf("changes a secret that another file has; a machine's file says from and hosts of its own"))
		case sub == "from" && !sent[name]:
			errs = append(errs, s.errorf("has no hosts beside it, and would go where another file sends a secret of that name; a machine's file says from and hosts of its own"))
		}
	}
	return errs
}

// The tables of what is the user's alone.
const (
	reviewSection = "review"
	attachSection = "attach"
)

// notOwn returns what is wrong with the settings of a file that is not the user's alone. One
// that came with a repository would judge what comes out of it.
func notOwn(settings []setting) []*Error {
	var errs []*Error
	for _, s := range settings {
		if strings.HasPrefix(s.key, reviewSection+".") {
			errs = append(errs, s.errorf("says how changes are judged, which only config.toml can"))
		}
		if strings.HasPrefix(s.key, attachSection+".") {
			errs = append(errs, s.errorf("says what goes from your terminal into a machine, which only config.toml can"))
		}
	}
	return errs
}

// notOfProject returns what is wrong with the settings of a project's own file: whoever wrote
// that does not lend its reader's log-ins, or let a machine choose ports of the host.
func notOfProject(settings []setting) []*Error {
	var errs []*Error
	for _, s := range settings {
		if what := lends(s); what != "" {
			errs = append(errs, s.errorf("lends %s, which only config.toml, a machine's file or a flag can", what))
		}
		if slices.ContainsFunc(s.elements(), forwards) {
			errs = append(errs, s.errorf("%q forwards whatever listens in the machine, which only config.toml, a machine's file or a flag can", autoPorts))
		}
	}
	return errs
}

// ofUser reports whether a setting is none that a project may have.
func ofUser(s setting) bool { return lends(s) != "" || forwards(s) }

// forwards reports whether an element of a setting lets the machine choose ports of the host.
func forwards(s setting) bool { return s.key == "network.ports" && s.value == autoPorts }

// lends says what of the user's a setting lends: the log-ins that the host keeps, or the
// settings of coding agents; "" for nothing.
func lends(s setting) string {
	switch {
	case s.value == false:
	case s.key == "agent.login":
		return "your log-ins"
	case s.key == "agent.settings":
		return "your settings of coding agents"
	}
	return ""
}

// shellInitLimit bounds home.shell_init, of all sources together.
const shellInitLimit = 32 << 10

// appendShellInit appends to the text that shells begin with.
func appendShellInit(c *Config, s setting) *Error {
	var text string
	if err := asString(s, &text); err != nil {
		return err
	}
	switch {
	case strings.ContainsRune(text, 0):
		return s.errorf("holds a zero byte")
	case len(c.Home.ShellInit)+len(text) > shellInitLimit:
		return s.errorf("is too long: at most %d KiB", shellInitLimit>>10)
	}
	if c.Home.ShellInit != "" && !strings.HasSuffix(c.Home.ShellInit, "\n") {
		c.Home.ShellInit += "\n"
	}
	c.Home.ShellInit += text
	return nil
}

// checkDotfiles judges the form only: what is there is looked at when it is used.
func checkDotfiles(text string) (msg, suggestion string) {
	switch {
	case text == "" || len(text) > maxCommand || strings.ContainsFunc(text, unicode.IsControl) || strings.HasPrefix(text, "-"):
		return fmt.Sprintf("%s is neither a directory nor a repository's URL", shortQuote(text)), ""
	case strings.HasPrefix(text, "~/"), strings.HasPrefix(text, "/"), strings.Contains(text, "://"), strings.Contains(text, "@"):
		return "", ""
	}
	return fmt.Sprintf("%s must be a directory, absolute or beginning with ~/, or a git URL", shortQuote(text)), ""
}
