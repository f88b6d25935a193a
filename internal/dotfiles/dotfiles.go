// Package dotfiles says what of a directory of configuration files becomes the
// home of a machine's user, and looks for secrets in it first.
//
// A directory of the host goes in: the user's own, or a clone of a git
// repository. List gives which file is to appear where in the home. Scan gives
// places that look like secrets, by file, line and kind, and never their text; it
// is best effort, and a directory in which it finds nothing may hold some all the
// same.
//
// Both read only, through descriptors of the directory, follow no symbolic link,
// and stop with an error at a bound. Nothing here copies, shares or runs a file.
package dotfiles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// Bounds of a directory.
const (
	MaxEntries = 10_000
	MaxBytes   = 64 << 20
	maxDepth   = 32

	ignoreFile  = ".mayflyignore"
	maxIgnore   = 64 << 10
	maxPatterns = 1000
)

// Entry is a file or a directory that is taken.
type Entry struct {
	Source string // path in the directory: "zshrc", "config/emacs"
	Target string // path in the home: ".zshrc", ".config/emacs"
	Dir    bool   // with all below, except what Ignored says
}

// skipped is what no home needs.
var skipped = []string{
	"README*", "LICENSE*", "LICENCE*", "COPYING*", "CHANGELOG*", "Makefile", "Dockerfile", "Brewfile",
	"*.md", "*.nix", "*.lock", "*.sh", "install*", "setup*", "bootstrap*",
}

// private is what nobody means to share, and what belongs to the directory's repository.
var private = []string{
	".git", ".github", ".gitlab-ci.yml", ".gitignore", ".gitattributes", ".gitmodules", ".editorconfig", ".pre-commit-config.yaml",
	".DS_Store", ignoreFile,
	".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".netrc", ".git-credentials", ".pgpass", ".password-store",
	".env", ".env.*", "*.pem", "id_rsa*", "id_ed25519*", "id_ecdsa*", "id_dsa*", ".*history",
}

// merged are directories whose parts are taken one by one, beside what a machine
// has there: source, target, and how many names below make one part.
var merged = []struct {
	source, target string
	names          int
}{
	{"config", ".config", 1},
	{".config", ".config", 1},
	{".local", ".local", 2}, // .local/share/NAME
	{"local", ".local", 2},
}

// Ignore are the patterns of what is not taken.
type Ignore struct{ patterns []string }

// List returns what of dir is taken, by target:
//
//	zshrc, .zshrc            ~/.zshrc
//	config/NAME, .config/…   ~/.config/NAME
//	.local/share/NAME        ~/.local/share/NAME
//	.NAME (a directory)      ~/.NAME
//
// Other directories are not taken, nor what a list of names or the file
// .mayflyignore says.
func List(dir string) ([]Entry, error) {
	root, err := userfile.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("read the dotfiles: %w", err)
	}
	defer root.Close()
	ignore, err := readIgnore(root)
	if err != nil {
		return nil, err
	}
	l := lister{root: root, ignore: ignore}
	if err := l.top(); err != nil {
		return nil, fmt.Errorf("read the dotfiles: %w", err)
	}
	slices.SortFunc(l.entries, func(a, b Entry) int { return strings.Compare(a.Target, b.Target) })
	for i, e := range l.entries {
		for _, other := range l.entries[:i] {
			if e.Target == other.Target {
				args := fault.Args{"target": e.Target, "first": other.Source, "second": e.Source}
				err = errors.Join(err, fault.New(fault.DotfilesClash, args, "dotfiles: %q and %q are both for ~/%s", other.Source, e.Source, e.Target))
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return l.entries, nil
}

// lister collects entries.
type lister struct {
	root    *os.Root
	ignore  Ignore
	entries []Entry
	count   int
	bytes   int64
}

func (l *lister) top() error {
	names, err := l.read(".")
	if err != nil {
		return err
	}
next:
	for _, d := range names {
		name := d.Name()
		if l.ignore.Match(name) {
			continue
		}
		for _, m := range merged {
			if name == m.source && d.IsDir() {
				if err := l.parts(name, m.target, m.names); err != nil {
					return err
				}
				continue next
			}
		}
		dotted := strings.HasPrefix(name, ".")
		if d.IsDir() && !dotted {
			continue
		}
		if err := l.take(name, "."+strings.TrimPrefix(name, "."), d); err != nil {
			return err
		}
	}
	return nil
}

// parts takes what is below source, names deep, one by one.
func (l *lister) parts(source, target string, names int) error {
	entries, err := l.read(source)
	if err != nil {
		return err
	}
	for _, d := range entries {
		from, to := path.Join(source, d.Name()), path.Join(target, d.Name())
		switch {
		case l.ignore.Match(from):
		case names > 1 && d.IsDir():
			err = l.parts(from, to, names-1)
		default:
			err = l.take(from, to, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take adds an entry, after it has counted what is in it. A symbolic link is
// not taken here, since what it leads to may be anything of the host's; below a
// directory it stays what it is.
func (l *lister) take(source, target string, d fs.DirEntry) error {
	switch {
	case d.IsDir():
		if err := l.measure(source, 1); err != nil {
			return err
		}
	case d.Type().IsRegular():
		if err := l.add(d); err != nil {
			return err
		}
	default:
		return nil
	}
	l.entries = append(l.entries, Entry{source, target, d.IsDir()})
	return nil
}

// measure counts what is below a directory.
func (l *lister) measure(dir string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%q is more than %d directories deep", dir, maxDepth)
	}
	entries, err := l.read(dir)
	if err != nil {
		return err
	}
	for _, d := range entries {
		name := path.Join(dir, d.Name())
		switch {
		case l.ignore.Match(name):
		case d.IsDir():
			err = l.measure(name, depth+1)
		case d.Type().IsRegular():
			err = l.add(d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) add(d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	if l.bytes += info.Size(); l.bytes > MaxBytes {
		return fault.New(fault.DotfilesTooLarge, fault.Args{"limit": strconv.Itoa(MaxBytes)}, "they are larger than %d MiB", MaxBytes>>20)
	}
	return nil
}

// read lists a directory in the order of its names.
func (l *lister) read(dir string) ([]fs.DirEntry, error) {
	entries, err := readDir(l.root, dir, MaxEntries-l.count)
	l.count += len(entries)
	return entries, err
}

// readDir lists a directory with at most some entries.
func readDir(root *os.Root, dir string, most int) ([]fs.DirEntry, error) {
	f, err := root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(most + 1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(entries) > most {
		return nil, fault.New(fault.DotfilesTooMany, fault.Args{"limit": strconv.Itoa(MaxEntries)},
			"there are more than %d files and directories", MaxEntries)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// Private reports whether the path below a home is that of what nobody means to share.
func Private(name string) bool {
	return codingagent.IsLogin(name) || slices.ContainsFunc(private, matches(path.Base(name)))
}

// Match reports whether the path of the directory, none of whose parents
// matched, is not taken.
func (ig Ignore) Match(name string) bool {
	base := path.Base(name)
	if Private(name) || codingagent.IsLogin("."+name) { // "local/share/…"
		return true
	}
	// What agents are told by their user is in files such as AGENTS.md.
	if !codingagent.Keeps(name) && !codingagent.Keeps("."+name) && slices.ContainsFunc(skipped, matches(base)) {
		return true
	}
	for _, p := range ig.patterns {
		subject := base
		if strings.Contains(p, "/") {
			subject = name
		}
		if ok, _ := path.Match(strings.TrimPrefix(p, "/"), subject); ok {
			return true
		}
	}
	return false
}

func matches(base string) func(pattern string) bool {
	return func(pattern string) bool {
		ok, _ := path.Match(pattern, base)
		return ok
	}
}

// ReadIgnore returns what of dir is not taken: the built-in names, and those of
// its file .mayflyignore.
func ReadIgnore(dir string) (Ignore, error) {
	root, err := userfile.OpenRoot(dir)
	if err != nil {
		return Ignore{}, fmt.Errorf("read the dotfiles: %w", err)
	}
	defer root.Close()
	return readIgnore(root)
}

func readIgnore(root *os.Root) (Ignore, error) {
	data, err := readFile(root, ignoreFile, maxIgnore+1)
	if errors.Is(err, fs.ErrNotExist) {
		return Ignore{}, nil
	}
	if err == nil && len(data) > maxIgnore {
		err = fmt.Errorf("it is larger than %d KiB", maxIgnore>>10)
	}
	if err != nil {
		return Ignore{}, fmt.Errorf("read %s: %w", ignoreFile, err)
	}
	return parseIgnore(string(data))
}

// parseIgnore parses one pattern a line, as path.Match has them. One with a slash
// is for the path from the top, another for names at any depth.
func parseIgnore(text string) (Ignore, error) {
	var ig Ignore
	n := 0
	for line := range strings.Lines(text) {
		n++
		p := strings.TrimSuffix(strings.TrimSpace(line), "/")
		if p == "" || strings.HasPrefix(p, "#") {
			continue
		}
		if _, err := path.Match(p, ""); err != nil || strings.HasPrefix(p, "!") || strings.Contains(p, "**") {
			return Ignore{}, fault.New(fault.IgnorePatternInvalid, fault.Args{"file": ignoreFile, "line": strconv.Itoa(n)},
				"%s:%d: not a pattern", ignoreFile, n)
		}
		if ig.patterns = append(ig.patterns, p); len(ig.patterns) > maxPatterns {
			return Ignore{}, fmt.Errorf("%s has more than %d patterns", ignoreFile, maxPatterns)
		}
	}
	return ig, nil
}

// readFile returns the beginning of a regular file.
func readFile(root *os.Root, name string, most int64) ([]byte, error) {
	// A pipe would hold us, and a link lead out.
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file (%w)", name, errors.Join(err, fs.ErrInvalid))
	}
	return io.ReadAll(io.LimitReader(f, most))
}
