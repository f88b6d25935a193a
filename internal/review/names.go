package review

import (
	"hash/maphash"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// nameRules are about the names of what is new, whatever it holds.
var nameRules = []rule{
	{id: "name-control", class: Suspicious, reason: "name holds control bytes", when: newName(controlName)},
	{id: "name-invisible", class: Suspicious, reason: "name holds invisible or direction characters", when: newName(invisibleName)},
	{id: "name-look-alike", class: Suspicious, reason: "looks like another name beside it", when: lookAlike},
	{id: "name-command", class: Suspicious, reason: "name acts as an option or a command", when: newName(commandName)},
	{
		id: "name-program", class: Suspicious, reason: "may be run instead of the real program",
		kinds: []Kind{Regular, Symlink}, when: programName,
	},
	{
		id: "name-module", class: Suspicious, reason: "Python may load this instead of its own module",
		kinds: []Kind{Regular, Symlink}, when: moduleName,
	},
}

// added reports whether nothing was at the path.
func (s *subject) added() bool { return s.change.Old.Kind == None || s.change.From != "" }

// newNames returns those names of the subject's path that the change set brings, each
// with its directory. A directory that was there is the host's own.
func (s *subject) newNames() [][2]string {
	if !s.added() {
		return nil
	}
	var names [][2]string
	for p := s.change.Path; p != "." && p != "/"; {
		dir, base := path.Split(p)
		dir = path.Clean(dir)
		if p != s.change.Path && slices.Contains(s.set.dir(dir).host, base) {
			break
		}
		names = append(names, [2]string{dir, base})
		p = dir
	}
	return names
}

// newName makes a condition of a predicate of single names.
func newName(is func(string) bool) func(*subject) []Finding {
	return func(s *subject) []Finding {
		if !s.added() || !strings.ContainsFunc(s.change.Path, isOdd) && !edgeNames(s.change.Path) {
			return nil
		}
		for _, n := range s.newNames() {
			if is(n[1]) {
				return []Finding{{}}
			}
		}
		return nil
	}
}

// isOdd is a cheap first look: whether a letter could be one of those that rules of names
// are about.
func isOdd(r rune) bool { return r < ' ' || r >= 0x7f || strings.ContainsRune("`$;|&<>:\\", r) }

// edgeNames is the same for what names begin and end with, or are as a whole.
func edgeNames(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if commandName(part) {
			return true
		}
	}
	return false
}

func controlName(name string) bool {
	return !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl)
}

func invisibleName(name string) bool {
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case r == 0x200d || r == 0x200c: // joins emoji, and letters of some scripts
			if !joins(runes, i) {
				return true
			}
		case invisible(r), r >= 0xfe00 && r <= 0xfe0d:
			return true
		}
	}
	return false
}

// windowsNames are devices on Windows, with every ending.
var windowsNames = []string{
	"con", "prn", "aux", "nul", "conin$", "conout$",
	"com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9",
	"lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
}

func isASCII(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf })
}

func commandName(name string) bool {
	if name == "" {
		return false
	}
	stem, _, _ := strings.Cut(strings.ToLower(name), ".")
	return name[0] == '-' || name[0] == '~' || strings.TrimSpace(name) != name || strings.HasSuffix(name, ".") && strings.Trim(name, ".") != "" ||
		strings.ContainsAny(name, "`;|&<>:\\") || strings.Contains(name, "$(") || slices.Contains(windowsNames, stem)
}

// programs are names that people and other programs call without a directory.
var programs = []string{
	"git", "ssh", "scp", "node", "npm", "npx", "yarn", "pnpm", "bun", "deno", "make", "sh", "bash", "zsh", "fish", "dash", "env", "sudo",
	"docker", "podman", "go", "gofmt", "cargo", "rustc", "gcc", "cc", "clang", "ld", "java", "javac", "mvn", "gradle", "ruby", "gem",
	"bundle", "php", "composer", "perl", "pip", "pip3", "uv", "poetry", "ls", "cd", "cat", "cp", "mv", "rm", "grep", "find", "sed", "awk",
	"curl", "wget", "code", "vim", "vi", "nano", "emacs", "mayfly", "gpg", "open", "xdg-open",
	"kubectl", "terraform", "aws", "gcloud", "gh", "cmd", "powershell", "pwsh",
}

func programName(s *subject) []Finding {
	if !s.added() {
		return nil
	}
	dir, base := path.Split(s.folded)
	switch path.Ext(base) {
	case ".exe", ".scr", ".pif", ".cpl", ".msi":
		return []Finding{{}}
	case ".bat", ".cmd", ".ps1", ".com": // a search path of Windows begins with the directory
		if !slices.Contains(programs, strings.TrimSuffix(base, path.Ext(base))) {
			return nil
		}
	default:
		python := strings.HasPrefix(base, "python") && strings.Trim(base[len("python"):], "0123456789.") == ""
		if !python && !slices.Contains(programs, base) {
			return nil
		}
		if s.change.New.Kind == Regular && s.change.New.Mode&0o111 == 0 {
			return nil
		}
	}
	if dir != "" {
		return nil
	}
	return []Finding{{}}
}

// modules are Python's own modules that most programs load.
var modules = strings.Fields(`abc argparse array ast asyncio base64 bisect calendar cmath codecs collections configparser contextlib
	copy copyreg csv ctypes dataclasses datetime decimal difflib dis email enum errno fnmatch fractions functools getpass gettext glob
	gzip hashlib heapq hmac html http importlib inspect io ipaddress itertools json keyword linecache locale logging math mimetypes
	multiprocessing ntpath numbers operator os pathlib pickle pkgutil platform posixpath pprint queue random re reprlib secrets select
	selectors shlex shutil signal site socket socketserver sqlite3 ssl stat statistics string struct subprocess symtable sys sysconfig
	tarfile tempfile textwrap threading time token tokenize traceback types typing unicodedata unittest urllib uuid warnings weakref
	xml zipfile zlib`)

// entryPoints are files that make Python look for modules in their directory first.
var entryPoints = []string{"main.py", "__main__.py", "app.py", "manage.py", "run.py", "setup.py", "wsgi.py", "cli.py", "server.py"}

// moduleName is about a module where programs start: in a package its name is free.
func moduleName(s *subject) []Finding {
	dir, base := path.Split(s.folded)
	name, isPython := strings.CutSuffix(base, ".py")
	if !s.added() || !isPython || !slices.Contains(modules, name) {
		return nil
	}
	beside := s.set.dir(path.Dir(s.change.Path)).all
	if slices.Contains(beside, "__init__.py") {
		return nil
	}
	if dir != "" && !slices.ContainsFunc(beside, func(n string) bool { return slices.Contains(entryPoints, n) }) {
		return nil
	}
	return []Finding{{}}
}

// directory is what is in a directory of the workspace, with the changes.
type directory struct {
	host  []string            // before
	all   []string            // after
	alike map[uint64][2]int32 // the first names of all, counted from 1, by what they look like
}

// dir returns the names in a directory.
func (t *set) dir(name string) *directory {
	if d := t.dirs[name]; d != nil {
		return d
	}
	d := &directory{}
	if t.in.Host.Names != nil {
		d.host = t.in.Host.Names(name)
	}
	gone := map[string]bool{}
	for base, c := range t.changed()[name] {
		if c.New.Kind == None {
			gone[base] = true
		} else {
			d.all = append(d.all, base)
		}
	}
	for base := range t.gone[name] {
		gone[base] = true
	}
	for _, base := range d.host {
		if !gone[base] && t.byDir[name][base] == nil {
			d.all = append(d.all, base)
		}
	}
	slices.Sort(d.all)
	d.alike = make(map[uint64][2]int32, len(d.all))
	for i, base := range d.all {
		for _, key := range appearances(base) {
			h := maphash.String(t.seed, key)
			switch is := d.alike[h]; {
			case is[0] == 0:
				d.alike[h] = [2]int32{int32(i) + 1}
			case is[1] == 0:
				d.alike[h] = [2]int32{is[0], int32(i) + 1}
			}
		}
	}
	if t.dirs == nil {
		t.dirs = map[string]*directory{}
	}
	t.dirs[name] = d
	return d
}

// changed returns the changes by directory and name. Directories that only have changes
// below them have none of their own.
func (t *set) changed() map[string]map[string]*Change {
	if t.byDir != nil {
		return t.byDir
	}
	t.byDir, t.gone = map[string]map[string]*Change{}, map[string]map[string]bool{}
	for i := range t.in.Changes {
		c := &t.in.Changes[i]
		p := c.Path
		for first := true; p != "." && p != "/" && p != ""; first = false {
			dir, base := path.Split(p)
			dir = path.Clean(dir)
			if t.byDir[dir] == nil {
				t.byDir[dir] = map[string]*Change{}
			}
			have := t.byDir[dir][base]
			switch {
			case first:
				t.byDir[dir][base] = c
			case have == nil && c.New.Kind != None:
				t.byDir[dir][base] = &Change{Path: p, New: Node{Kind: Dir}, implied: true}
			case have != nil:
				p = "."
				continue
			}
			p = dir
		}
		if c.From != "" {
			dir, base := path.Split(c.From)
			dir = path.Clean(dir)
			if t.gone[dir] == nil {
				t.gone[dir] = map[string]bool{}
			}
			t.gone[dir][base] = true
		}
	}
	return t.byDir
}

// find returns the change at a path, nil if there is none.
func (t *set) find(p string) *Change {
	dir, base := path.Split(p)
	if c := t.changed()[path.Clean(dir)][base]; c != nil && !c.implied {
		return c
	}
	return nil
}

func lookAlike(s *subject) []Finding {
	for _, n := range s.newNames() {
		d := s.set.dir(n[0])
		for _, key := range appearances(n[1]) {
			for _, i := range d.alike[maphash.String(s.set.seed, key)] {
				if i > 0 && d.all[i-1] != n[1] {
					return []Finding{{Detail: d.all[i-1]}}
				}
			}
		}
	}
	return nil
}

// appearances returns what a name looks like, to file systems and to people.
func appearances(name string) []string {
	folded := fold(name)
	keys := []string{"f" + folded}
	// Numbers and single letters look alike often enough, and nobody takes one for the other.
	if stem, _, _ := strings.Cut(folded, "."); len(stem) < 4 && isASCII(folded) && len(stem) > 0 && isASCII(name) {
		if strings.Trim(stem, "0123456789") != stem || len(stem) == 1 {
			return keys
		}
	}
	return append(keys, "s"+skeleton(name))
}
