package agentsettings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/dotfiles"
)

// origin is how a path was come to, which decides whether a link there is followed.
type origin int

const (
	ownPath origin = iota // by the user's own directory: a link is followed once
	linked                // by a link: others may write there, and no link is followed
	stored                // in the store of Nix, which nobody changes
)

// nixStore is where the files of users are that have theirs from Nix.
const nixStore = "/nix/store"

// passed are directories in which nobody keeps settings.
var passed = []string{"node_modules", "__pycache__", "venv"}

// secretNames are names of files that are no settings.
var secretNames = []string{
	"*.key", "*.pem", "*.crt", "*.gpg", "*.age", "*.db", "*.db-*", "*.sqlite*", "*.jsonl", "*.log", "*history",
	"*credentials", "*credentials.*", "auth.*", "oauth*.*", "token", "token.*", "tokens.*", "*.token", "secret", "secret.*",
	"secrets.*", "cookies*",
}

// pictures are what is taken although it is no text.
var pictures = []string{".gif", ".jpeg", ".jpg", ".otf", ".png", ".ttf", ".webp", ".woff", ".woff2"}

// tooMany says that other files were first.
var tooMany = fmt.Sprintf("there are more than %d files", maxFiles)

// entry takes the file or directory at real, whose parents are no links, as name.
func (r *reader) entry(real, name string, depth int, from origin) {
	if depth > maxDepth {
		r.leave(name, fmt.Sprintf("it is more than %d directories deep", maxDepth))
		return
	}
	fi, err := os.Lstat(real)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		r.leave(name, "it cannot be read")
	case r.budget.files >= maxFiles:
		r.leave(name, tooMany)
	case fi.Mode()&fs.ModeSymlink != 0:
		target, next, why := r.follow(real, depth, from)
		if why != "" {
			r.leave(name, why)
			return
		}
		r.entry(target, name, depth, next)
	case fi.IsDir():
		r.directory(real, name, depth, from)
	case fi.Mode().IsRegular():
		r.file(real, name)
	default:
		r.leave(name, "it is no file")
	}
}

// follow returns where a link leads, or why it is not followed. One at depth 1 or 2 is
// "skills" or "skills/x", which the user made; a deeper one may be of who wrote x.
func (r *reader) follow(link string, depth int, from origin) (target string, next origin, why string) {
	target, err := filepath.EvalSymlinks(link)
	switch {
	case err != nil:
		return "", 0, "it is a link that leads nowhere"
	case from == linked:
		return "", 0, "it is a link behind a link"
	case from == stored && !below(target, nixStore):
		return "", 0, "it is a link that leads out of " + nixStore
	}
	if slices.ContainsFunc(r.dirs, func(dir string) bool { return below(dir, target) }) {
		return "", 0, "it is a link that leads to all of an agent's directory"
	}
	if why := r.refused(target); why != "" {
		return "", 0, why
	}
	if below(target, nixStore) {
		return target, stored, ""
	}
	if depth > 2 {
		entry := link
		for range depth - 2 {
			entry = filepath.Dir(entry)
		}
		if !below(target, entry) {
			return "", 0, "it is a link that leads out of its directory"
		}
	}
	return target, linked, ""
}

// hiddenPlaces are hidden directories of a home in which users keep their configuration.
var hiddenPlaces = []string{".dotfiles", ".config/dotfiles", ".local/share/chezmoi"}

// refused says why what a link leads to stays, "" if it does not.
func (r *reader) refused(target string) string {
	if below(target, nixStore) {
		return ""
	}
	if r.dir != "" && target != r.dir && below(target, r.dir) {
		rel := strings.TrimPrefix(target, r.dir+"/")
		if slices.ContainsFunc(strings.Split(rel, "/"), dotfiles.Private) {
			return leadsToPrivate
		}
		return listed(r.own, rel)
	}
	if target == r.home {
		return "it is a link that leads to all of your home directory"
	}
	if !below(target, r.home) {
		return "it is a link that leads out of your home directory"
	}
	rel := strings.TrimPrefix(target, r.home+"/")
	for _, part := range strings.Split(rel, "/") {
		if dotfiles.Private(part) {
			return leadsToPrivate
		}
	}
	if codingagent.IsLogin(rel) {
		return leadsToPrivate
	}
	var elsewhere []string
	for _, a := range codingagent.Agents() {
		own := a.OwnSettings()
		for _, e := range own.More {
			elsewhere = append(elsewhere, e.From)
		}
		if rel != own.Dir && below(rel, own.Dir) {
			return listed(own, strings.TrimPrefix(rel, own.Dir+"/"))
		}
	}
	for _, place := range append(elsewhere, hiddenPlaces...) {
		if below(rel, place) {
			rel = strings.TrimPrefix(strings.TrimPrefix(rel, place), "/")
			break
		}
	}
	// A directory of dotfiles has directories such as those of the home.
	known := []string{".config", ".agents"}
	for _, dir := range codingagent.OwnDirs() {
		known = append(known, path.Base(dir))
	}
	for i, part := range strings.Split(rel, "/") {
		if strings.HasPrefix(part, ".") && (i == 0 || !slices.Contains(known, part)) {
			return "it is a link that leads to a hidden directory"
		}
	}
	return ""
}

const leadsToPrivate = "it is a link that leads to what looks private"

// listed says why a path below an agent's directory is not taken by a link: the agent's own
// list has to have it.
func listed(own codingagent.OwnSettings, rel string) string {
	first, _, _ := strings.Cut(rel, "/")
	if slices.Contains(own.Texts, first) || slices.Contains(own.Trees, first) {
		return ""
	}
	return leadsToPrivate
}

// below reports whether a path is dir or in it.
func below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// directory takes what is in a directory.
func (r *reader) directory(real, name string, depth int, from origin) {
	if slices.Contains(r.own.Texts, name) {
		r.leave(name, "it is no file")
		return
	}
	f, err := open(real, unix.O_DIRECTORY)
	if err != nil {
		r.leave(name, "it cannot be read")
		return
	}
	defer f.Close()
	entries, err := f.ReadDir(maxEntries - r.entries + 1)
	if err != nil && err != io.EOF {
		r.leave(name, "it cannot be read")
		return
	}
	if r.entries += len(entries); r.entries > maxEntries {
		r.entries = maxEntries
		r.leave(name, fmt.Sprintf("there are more than %d files and directories", maxEntries))
		return
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		full := path.Join(name, e.Name())
		switch {
		case dotfiles.Private(e.Name()):
			r.leave(full, "it looks private")
		case strings.HasPrefix(e.Name(), "."), e.IsDir() && slices.Contains(passed, e.Name()):
			// nobody misses it
		default:
			r.entry(filepath.Join(real, e.Name()), full, depth+1, from)
		}
	}
}

// file takes a file as it is.
func (r *reader) file(real, name string) {
	if _, ok := r.files[name]; ok {
		return
	}
	for taken := range r.files {
		if below(taken, name) || below(name, taken) {
			r.leave(name, "there are a file and a directory of this name")
			return
		}
	}
	for _, n := range []string{path.Base(name), path.Base(real)} {
		if path.Ext(n) != ".md" && slices.ContainsFunc(secretNames, func(p string) bool { ok, _ := path.Match(p, strings.ToLower(n)); return ok }) {
			r.leave(name, "it looks private")
			return
		}
	}
	if codingagent.IsLogin(strings.TrimPrefix(real, r.home+"/")) {
		r.leave(name, "it is a log-in")
		return
	}
	data, exec, why := r.data(real, maxFile)
	if why == "" {
		why = r.judge(name, data)
	}
	if why != "" {
		r.leave(name, why)
		return
	}
	r.take(name, content{data: data, exec: exec})
}

// judge says why a file stays of which data is the text, "" if it does not.
func (r *reader) judge(name string, data []byte) string {
	if bytes.IndexByte(data, 0) >= 0 && !slices.Contains(pictures, strings.ToLower(path.Ext(name))) {
		return "it is no text"
	}
	f, found := dotfiles.ScanFile(name, data)
	switch {
	case found && f.Line > 0:
		return fmt.Sprintf("line %d looks like %s", f.Line, f.Kind)
	case found:
		return "it looks like " + f.Kind
	}
	return ""
}

// take adds a file to those that come along, if there is room.
func (r *reader) take(name string, c content) bool {
	if r.bytes+int64(len(c.data)) > maxBytes {
		r.leave(name, fmt.Sprintf("the files are larger than %d MiB", maxBytes>>20))
		return false
	}
	r.files[name] = c
	r.budget.files++
	r.bytes += int64(len(c.data))
	return true
}

// data reads a file with at most so many bytes.
func (r *reader) data(real string, most int64) (data []byte, exec bool, why string) {
	f, err := open(real, 0)
	if err != nil {
		return nil, false, "it cannot be read"
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return nil, false, "it is no file"
	}
	large := fmt.Sprintf("it is larger than %d MiB", most>>20)
	switch {
	case fi.Size() > most:
		return nil, false, large
	case r.read+fi.Size() > maxRead:
		return nil, false, fmt.Sprintf("more than %d MiB would be read", maxRead>>20)
	}
	if data, err = io.ReadAll(io.LimitReader(f, most+1)); err != nil {
		return nil, false, "it cannot be read"
	}
	if r.read += int64(len(data)); int64(len(data)) > most {
		return nil, false, large
	}
	return data, fi.Mode()&0o100 != 0, ""
}

// open opens a path in which no part is a link, whatever somebody does to it meanwhile, and
// waits for nothing.
func open(name string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC | unix.O_NOFOLLOW | flags,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(unix.AT_FDCWD, name, &how)
		if err == unix.EINTR { // and not on EAGAIN, which a lease on the file is, too
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}
