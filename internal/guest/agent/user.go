package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/shellquote"
	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// identify gives the machine its names and its time zone.
func identify(t tree, req *wire.Configure) error {
	if err := unix.Sethostname([]byte(req.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	return writeIdentity(t, req)
}

// writeIdentity writes the files that tell a machine from others.
func writeIdentity(t tree, req *wire.Configure) error {
	files := map[string]string{
		"/etc/hostname":   req.Hostname + "\n",
		"/etc/machine-id": req.MachineID + "\n",
		"/etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\t" + req.Hostname + "\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n",
		"/etc/gitconfig": gitConfig(req.Git),
	}
	for name, content := range files {
		if err := t.writeFile(name, []byte(content), 0o644); err != nil {
			return err
		}
	}
	if len(req.Zoneinfo) > 0 {
		if err := t.writeFile("/etc/localtime", req.Zoneinfo, 0o644); err != nil {
			return err
		}
		if err := t.writeFile("/etc/timezone", []byte(req.Timezone+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// gitConfig returns git's settings for all users of the machine. Those of the user's own
// files, and of a repository, win over them.
func gitConfig(settings map[string]string) string {
	// git compares inode numbers and change times with those of its index, which
	// came from the host. Without these it would read and rewrite everything at the
	// first status.
	text := "[core]\n\tcheckStat = minimal\n\ttrustctime = false\n"
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		section, name, _ := strings.Cut(key, ".")
		text += fmt.Sprintf("[%s]\n\t%s = \"%s\"\n", section, name, escaped(settings[key]))
	}
	return text
}

// escaped returns a value as it stands between quotation marks in a file of git's.
func escaped(value string) string {
	var b strings.Builder
	for i := range len(value) {
		if value[i] == '\\' || value[i] == '"' {
			b.WriteByte('\\')
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

// addTerminfo makes a terminal known that the image does not know.
func addTerminfo(ti *wire.Terminfo) error {
	if ti.Name == "" || ti.Name[0] == '.' || strings.Contains(ti.Name, "/") {
		return fmt.Errorf("bad terminal name %q", ti.Name)
	}
	for _, dir := range []string{"/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"} {
		if _, err := os.Stat(filepath.Join(dir, ti.Name[:1], ti.Name)); err == nil {
			return nil
		}
	}
	return replaceFile(filepath.Join("/etc/terminfo", ti.Name[:1], ti.Name), ti.Data, 0o644)
}

// replaceFile writes a file of its own, whatever stands at its name.
func replaceFile(name string, data []byte, perm os.FileMode) error {
	err := writeNew(name, data, perm)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = os.MkdirAll(filepath.Dir(name), 0o755)
	case errors.Is(err, os.ErrExist):
		err = os.Remove(name)
	default:
		return err
	}
	if err != nil {
		return err
	}
	return writeNew(name, data, perm)
}

// writeNew writes a file at a name that is free. A start writes dozens, and an os.File
// costs five calls more for each, to find out that the kernel cannot wait for it.
func writeNew(name string, data []byte, perm os.FileMode) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, uint32(perm))
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	for len(data) > 0 && err == nil {
		var n int
		if n, err = unix.Write(fd, data); err == nil {
			data = data[n:]
		}
	}
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return &os.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// readPlain is os.ReadFile with fewer calls, as writeNew, of a file that nobody writes to.
func readPlain(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	data := make([]byte, st.Size+1) // the end is found in one call
	n, err := sparse.FD(fd).ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, &os.PathError{Op: "read", Path: name, Err: err}
	}
	return data[:n], nil
}

// defaultPath is Debian's, with the directories of the super-user: the guest's
// user has sudo.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// userPath is PATH for the guest's user: first where pip, npm, go and cargo put what
// their user installs.
func userPath(home string) string {
	return home + "/.local/bin:" + home + "/go/bin:" + home + "/.cargo/bin:" + defaultPath
}

// setUpUser makes the account and the home directory of the guest's user and
// returns the environment of its programs. The user gets the image's groups that it
// is to be in.
func setUpUser(t tree, req *wire.Configure) ([]string, error) {
	groups, err := t.joinedGroups()
	if err != nil {
		return nil, err
	}
	req.User.Groups = append(req.User.Groups, groups...)
	u := req.User
	shell, ok := t.findProgram(u.Shell)
	if !ok {
		shell = "/bin/sh"
	}
	for _, file := range []struct {
		name string
		perm os.FileMode // a minimal image has no shadow(5)
		edit func([]byte) []byte
	}{
		{"/etc/passwd", 0o644, func(b []byte) []byte {
			return setEntry(b, u.Name, fmt.Sprintf("%s:x:%d:%d::%s:%s", u.Name, u.UID, u.GID, u.Home, shell))
		}},
		{"/etc/shadow", 0o600, func(b []byte) []byte {
			return setEntry(b, u.Name, u.Name+":*:20000:0:99999:7:::")
		}},
		{"/etc/group", 0o644, func(b []byte) []byte { return setGroups(b, u) }},
	} {
		if err := t.edit(file.name, file.perm, file.edit); err != nil {
			return nil, err
		}
	}
	if _, _, err := t.stat("/etc/sudoers.d"); err == nil {
		line := u.Name + " ALL=(ALL:ALL) NOPASSWD: ALL\n" +
			"Defaults env_keep += \"GIT_CONFIG_COUNT GIT_CONFIG_KEY_* GIT_CONFIG_VALUE_*\"\n" // as what makes git not sign
		if err := t.writeFile("/etc/sudoers.d/mayfly", []byte(line), 0o440); err != nil {
			return nil, err
		}
	}
	if err := t.makeHome(u); err != nil {
		return nil, fmt.Errorf("make %s: %w", u.Home, err)
	}
	env := []string{
		"PATH=" + userPath(u.Home), "HOME=" + u.Home, "USER=" + u.Name, "LOGNAME=" + u.Name,
		"SHELL=" + shell, "LANG=C.UTF-8", "MAYFLY=1",
		// Its global packages are the user's own. sudo, which leaves this out, has /usr/local.
		"NPM_CONFIG_PREFIX=" + u.Home + "/.local",
	}
	if _, _, err := t.stat("/usr/bin/editor"); err == nil {
		env = append(env, "EDITOR=editor") // of alternatives(7)
	}
	env = mergeEnv(env, req.Env)
	return env, t.setUpTools(u, getenv(env, "PATH"))
}

// pipConfig lets pip install beside Debian's packages: what breaks is thrown away.
const pipConfig = "[global]\nbreak-system-packages = true\n"

// setUpTools writes what tools look for in files, whatever their environment is.
func (t tree) setUpTools(u wire.User, path string) error {
	// Debian's /etc/profile gives every login shell a PATH of its own.
	profile := fmt.Sprintf("# Written by mayfly when the machine starts.\nif [ \"$(id -u)\" = %d ]; then\n\texport PATH=%s\nfi\n", u.UID, shellquote.Quoted(path))
	if err := t.writeFile("/etc/profile.d/mayfly.sh", []byte(profile), 0o644); err != nil {
		return err
	}
	if _, _, err := t.stat("/etc/pip.conf"); errors.Is(err, os.ErrNotExist) {
		if err := t.writeFile("/etc/pip.conf", []byte(pipConfig), 0o644); err != nil {
			return err
		}
	}
	// What containers without root take their users from.
	for _, name := range []string{"/etc/subuid", "/etc/subgid"} {
		err := t.edit(name, 0o644, func(b []byte) []byte { return setEntry(b, u.Name, fmt.Sprintf("%s:%d:65536", u.Name, firstSubID)) })
		if err != nil {
			return err
		}
	}
	return nil
}

// firstSubID is the first of the user ids that the guest's user may give away,
// subuid(5): Debian's for the first user.
const firstSubID = 100000

// setEntry replaces the line of name in a file as passwd(5), or appends it.
func setEntry(file []byte, name, line string) []byte {
	return append(dropEntry(file, name), line+"\n"...)
}

func dropEntry(file []byte, name string) []byte {
	var out []byte
	for line := range bytes.Lines(file) {
		if !bytes.HasPrefix(line, []byte(name+":")) {
			out = append(out, bytes.TrimRight(line, "\n")...)
			out = append(out, '\n')
		}
	}
	return out
}

// joined are the groups that packages make for those who may use what they bring: the
// guest's user, who has sudo anyhow, is in them.
var joined = []string{"docker", "systemd-journal"}

// joinedGroups returns those of joined that there are.
func (t tree) joinedGroups() ([]wire.Group, error) {
	file, err := t.readFile("/etc/group")
	var groups []wire.Group
	for line := range strings.Lines(string(file)) {
		f := strings.SplitN(line, ":", 4)
		if len(f) != 4 || !slices.Contains(joined, f[0]) {
			continue
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil && gid > 0 {
			groups = append(groups, wire.Group{Name: f[0], GID: int(gid)})
		}
	}
	return groups, err
}

// setGroups adds the user to its groups in a file as group(5). A group is its
// number; its name is only kept where it is free.
func setGroups(file []byte, u wire.User) []byte {
	groups := append([]wire.Group{{Name: u.Name, GID: u.GID}}, u.Groups...)
	for _, g := range groups {
		byGID, byName := -1, false
		lines := strings.Split(strings.TrimRight(string(file), "\n"), "\n")
		for i, line := range lines {
			f := strings.SplitN(line, ":", 4)
			if len(f) != 4 {
				continue
			}
			if f[2] == strconv.Itoa(g.GID) {
				byGID = i
			}
			byName = byName || f[0] == g.Name
		}
		switch {
		case byGID >= 0:
			f := strings.SplitN(lines[byGID], ":", 4)
			members := strings.FieldsFunc(f[3], func(r rune) bool { return r == ',' })
			if !slices.Contains(members, u.Name) {
				f[3] = strings.Join(append(members, u.Name), ",")
			}
			lines[byGID] = strings.Join(f, ":")
		case byName:
			lines = append(lines, fmt.Sprintf("host-%d:x:%d:%s", g.GID, g.GID, u.Name))
		default:
			lines = append(lines, fmt.Sprintf("%s:x:%d:%s", g.Name, g.GID, u.Name))
		}
		file = []byte(strings.Join(lines, "\n") + "\n")
	}
	return file
}

// makeRuntimeDir makes /run/user/UID.
func makeRuntimeDir(u wire.User) error {
	runtime := fmt.Sprintf("/run/user/%d", u.UID)
	if err := os.MkdirAll(runtime, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(runtime, 0o700); err != nil {
		return err
	}
	return os.Chown(runtime, u.UID, u.GID)
}
