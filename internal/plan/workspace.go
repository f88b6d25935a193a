package plan

import (
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// WorkspacePath returns the path of the workspace as the user gave it: that of
// the configuration, else the current directory.
func WorkspacePath(cfg config.Config, home, cwd string) string {
	if cfg.Workspace.Path == "" {
		return filepath.Clean(cwd)
	}
	return expandHome(cfg.Workspace.Path, home)
}

// protected returns what nothing may be given to a machine of.
func (b *builder) protected(in Input) Protected {
	d := b.facts.Dirs
	return Protected{
		Homes:   []string{b.facts.User.Home, in.Home},
		Own:     []string{d.Config, d.Data, d.State, d.Cache},
		Sockets: in.Sockets,
	}
}

func (b *builder) workspace(in Input) {
	if in.Workspace == "" {
		return
	}
	if err := CheckWorkspace(in.Workspace, b.protected(in)); err != nil {
		b.fail(err)
	}
	if b.cfg.Workspace.Mode != ModeShare { // as a share it is told with the others
		b.logins(filepath.Clean(in.Workspace), b.protected(in))
	}
	b.plan.Workspace = Workspace{
		Path:    filepath.Clean(in.Workspace),
		Mode:    b.cfg.Workspace.Mode,
		Exclude: slices.Clone(b.cfg.Workspace.Exclude),
	}
	if b.plan.Workspace.Copied() {
		b.plan.Workspace.Exclude = append(b.plan.Workspace.Exclude, b.cfg.Workspace.Hide...)
		if len(b.cfg.Workspace.Protect) > 0 {
			b.note("workspace.protect has no effect: the workspace is a copy, and you review its changes")
		}
	}
	if path := b.plan.Workspace.Path; linkable(in.Typed, path) {
		b.plan.Workspace.Link = filepath.Clean(in.Typed)
	}
}

// maxLink bounds the length of a path that becomes a link.
const maxLink = 1024

// linkable reports whether a link at typed can lead to the directory dir in the guest. The
// environment says what was typed, and so perhaps somebody else.
func linkable(typed, dir string) bool {
	if !filepath.IsAbs(typed) || len(typed) > maxLink || !textual(typed) {
		return false
	}
	typed = filepath.Clean(typed)
	return systemDir(typed) == "" && !within(typed, dir) && !within(dir, typed)
}

// Protected are the directories of this user that no workspace may hold. Empty
// paths are ignored.
type Protected struct {
	Homes []string // the home directory, by all its names
	Own   []string // mayfly's
	// Sockets are paths of sockets by which programs act for others: of the
	// SSH agent, of Docker. No live directory may hold one.
	Sockets []string
}

// secretDirs are directories in a home whose whole content no agent must have,
// not even a copy: keys, tokens, sessions, mail.
var secretDirs = []string{
	".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".password-store", ".mozilla", ".thunderbird",
	".config/gcloud", ".config/gh", ".config/chromium", ".config/google-chrome", ".local/share/keyrings",
}

// CheckWorkspace reports whether the directory dir may be given to a machine:
// never the whole system, never the user's whole home, never where secrets are
// kept, never mayfly's own files. It judges by name, so dir is a real path.
func CheckWorkspace(dir string, p Protected) error {
	if why := refuse(dir, p); why != "" {
		return fault.New(fault.WorkspaceRefused, fault.Args{"dir": dir}, "workspace %s: %s", termsafe.Quote(dir), why)
	}
	return nil
}

// refuse returns what is wrong with dir as a workspace, or "".
func refuse(dir string, p Protected) string {
	switch {
	case !filepath.IsAbs(dir):
		return "is not an absolute path"
	case !textual(dir):
		return "its path holds bytes that are not printable UTF-8"
	}
	if dir = filepath.Clean(dir); dir == "/" {
		return "is the whole file system"
	}
	for _, home := range p.Homes {
		if home == "" || home == "/" {
			continue
		}
		if why := refuseInHome(dir, filepath.Clean(home)); why != "" {
			return why
		}
	}
	if why := systemDir(dir); why != "" {
		return why
	}
	for _, own := range p.Own {
		if own == "" {
			continue
		}
		if within(own, dir) {
			return "holds mayfly's own files (" + termsafe.Quote(own) + ")"
		}
		if within(dir, filepath.Clean(own)) {
			return "is mayfly's own (" + termsafe.Quote(own) + ")"
		}
	}
	return ""
}

func refuseInHome(dir, home string) string {
	switch {
	case dir == home:
		return "is your home directory, with everything in it"
	case within(home, dir):
		return "holds your home directory"
	}
	for _, secret := range secretDirs {
		if within(dir, filepath.Join(home, secret)) {
			return "is where secrets are kept"
		}
	}
	for _, shared := range []string{".config", ".local", ".local/share", ".cache"} {
		if dir == filepath.Join(home, shared) {
			return "holds the files of all your programs"
		}
	}
	return ""
}

// topDirs are the directories of the Filesystem Hierarchy Standard that are
// the system's as a whole, though projects may lie in them.
var topDirs = []string{
	"/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root",
	"/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/include", "/usr/lib", "/usr/lib64", "/usr/libexec",
	"/usr/local", "/usr/sbin", "/usr/share", "/usr/src", "/var", "/var/cache", "/var/lib", "/var/log", "/var/tmp",
}

// deepDirs are those in which no project lies. In the guest they are its own.
var deepDirs = []string{"/boot", "/dev", "/etc", "/proc", "/sys"}

// systemDir returns what is wrong with a path as a workspace or home, or "".
func systemDir(dir string) string {
	if dir == "/" || slices.Contains(topDirs, dir) {
		return "is a directory of the system"
	}
	for _, d := range deepDirs {
		if within(dir, d) {
			return "is in " + d + ", a directory of the system"
		}
	}
	return ""
}

// within reports whether the clean path dir is parent or lies in it.
func within(dir, parent string) bool {
	rest, ok := strings.CutPrefix(dir, parent)
	return ok && (rest == "" || rest[0] == '/' || parent == "/")
}

// textual reports whether a path survives JSON and /proc/mounts.
func textual(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
