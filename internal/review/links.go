package review

import (
	"bytes"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
)

// linkRules are about kinds, modes and symbolic links.
var linkRules = []rule{
	{
		id: "becomes-executable", class: Builds, reason: "becomes executable",
		kinds: []Kind{Regular}, when: becomesExecutable,
	},
	{id: "special-mode", class: Suspicious, reason: "runs with its owner's rights, or its group's", when: specialMode},
	{
		id: "binary", class: Suspicious, reason: "a binary that cannot be reviewed",
		kinds: []Kind{Regular}, when: binary,
	},
	{
		id: "leaves-workspace", class: Suspicious, reason: "link leads out of the workspace",
		kinds: []Kind{Symlink}, when: leavesWorkspace,
	},
	{
		id: "link-to-trusted", class: Suspicious, reason: "link leads to what your tools obey by themselves",
		kinds: []Kind{Symlink}, when: linkToTrusted,
	},
	{
		id: "link-replaces", class: Suspicious, reason: "link takes the place of a file or directory",
		kinds: []Kind{Symlink}, when: func(s *subject) []Finding {
			return is(s.change.Old.Kind == Regular || s.change.Old.Kind == Dir)
		},
	},
	{
		id: "trusted-directory-link", class: Suspicious, reason: "a directory that your tools obey becomes a link",
		kinds: []Kind{Symlink}, when: func(s *subject) []Finding {
			return is(slices.Contains(s.set.trustedDirs(), path.Base(s.folded)))
		},
	},
	{
		id: "kind-swap", class: Suspicious, reason: "a file becomes a directory, or the other way round",
		kinds: []Kind{Regular, Dir}, when: func(s *subject) []Finding {
			was, now := s.change.Old.Kind, s.change.New.Kind
			return is(was == Regular && now == Dir || was == Dir && now == Regular)
		},
	},
	{
		id: "generated", class: Builds, reason: "built in the machine; rebuild it here from the lockfile",
		when: func(s *subject) []Finding { return is(s.generated()) },
	},
	{
		id: "large", class: Suspicious, reason: "an unusually large file",
		kinds: []Kind{Regular}, when: func(s *subject) []Finding {
			return is(s.change.New.Size > mostOrdinary && !s.generated() && s.change.Old.Size < mostOrdinary)
		},
	},
}

// mostOrdinary is the size of the largest files that nobody is asked about, in bytes.
const mostOrdinary = 50 << 20

// is makes a finding of a condition.
func is(ok bool) []Finding {
	if !ok {
		return nil
	}
	return []Finding{{}}
}

// scripts are endings of programs that are text.
var scripts = []string{".sh", ".bash", ".zsh", ".fish", ".py", ".pl", ".rb", ".js", ".mjs", ".cjs", ".ts", ".lua", ".tcl", ".awk", ".php", ".r"}

func becomesExecutable(s *subject) []Finding {
	old, node := s.change.Old, s.change.New
	if node.Mode&0o111 == 0 || old.Kind == Regular && old.Mode&0o111 != 0 || s.generated() {
		return nil
	}
	head, err := s.head(&s.change.New)
	switch {
	case err == nil && bytes.HasPrefix(head, []byte("#!")), machineCode(head) != "":
		return []Finding{{}}
	case err == nil && slices.Contains(scripts, path.Ext(s.folded)):
		return []Finding{{}}
	}
	return []Finding{{Class: Suspicious, Reason: "becomes executable although it looks like no program"}}
}

func specialMode(s *subject) []Finding {
	// The group of a directory is inherited where its setgid bit is set: no rights.
	special := s.change.New.Mode & 0o6000
	if s.change.New.Kind != Regular || special&^(s.change.Old.Mode&0o6000) == 0 {
		return nil
	}
	return []Finding{{}}
}

// magics are beginnings of formats that machines run, with their names.
var magics = []struct{ begins, name string }{
	{"\x7fELF", "ELF"},
	{"\xfe\xed\xfa\xce", "Mach-O"}, {"\xfe\xed\xfa\xcf", "Mach-O"}, {"\xce\xfa\xed\xfe", "Mach-O"}, {"\xcf\xfa\xed\xfe", "Mach-O"},
	{"\xca\xfe\xba\xbe", "Mach-O or Java class"},
	{"\x00asm", "WebAssembly"},
	{"!<arch>\n", "static library"},
	{"dex\n", "Android"},
	{"BC\xc0\xde", "LLVM bitcode"},
}

// machineCode returns the name of the format of a file that begins so, if machines run it.
func machineCode(head []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.begins)) {
			return m.name
		}
	}
	// "MZ" alone begins texts, too.
	if bytes.HasPrefix(head, []byte("MZ")) && bytes.IndexByte(head, 0) >= 0 {
		return "Windows program"
	}
	return ""
}

// archives are beginnings of what holds other files.
var archives = []struct{ begins, name string }{
	{"PK\x03\x04", "zip"}, {"PK\x05\x06", "zip"}, {"\x1f\x8b", "gzip"}, {"BZh", "bzip2"}, {"\xfd7zXZ\x00", "xz"},
	{"\x28\xb5\x2f\xfd", "zstd"}, {"7z\xbc\xaf\x27\x1c", "7z"}, {"Rar!\x1a\x07", "rar"}, {"\xed\xab\xee\xdb", "rpm"},
}

// loaded are endings of binaries that are loaded into other programs, or are run by one.
var loaded = []string{".jar", ".war", ".ear", ".aar", ".class", ".wasm", ".so", ".dylib", ".dll", ".node", ".pyd", ".a", ".o", ".ko", ".exe", ".whl", ".egg",
	".gem", ".nupkg", ".crate", ".vsix", ".xpi", ".crx", ".deb", ".rpm", ".apk", ".dmg", ".pkg", ".appimage", ".snap.bin"}

// documents are endings of formats that are an archive inside, or binaries with a viewer.
var documents = []string{".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".epub", ".svgz", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".ico", ".pdf",
	".woff", ".woff2", ".ttf", ".otf", ".eot", ".mp3", ".mp4", ".webm", ".ogg", ".wav", ".avif", ".heic", ".bmp", ".tiff", ".mov", ".flac", ".sketch", ".fig"}

// lfsPointer begins the text that stands for a file which git-lfs keeps elsewhere.
const lfsPointer = "version https://git-lfs"

func binary(s *subject) []Finding {
	if s.generated() {
		return nil
	}
	ext := path.Ext(s.folded)
	head, err := s.head(&s.change.New)
	if name := machineCode(head); name != "" {
		return []Finding{{Detail: name}}
	}
	if slices.Contains(loaded, ext) || strings.Contains(path.Base(s.folded), ".so.") {
		text := err == nil && len(head) > 0 && !bytes.Contains(head, []byte{0})
		return is(!text)
	}
	if slices.Contains(documents, ext) || err != nil || len(head) == 0 {
		return nil
	}
	for _, a := range archives {
		if bytes.HasPrefix(head, []byte(a.begins)) {
			if s.fixture() || strings.HasPrefix(a.name, "zip") && ext == ".npz" {
				return nil
			}
			return []Finding{{Detail: a.name, Reason: "an archive that cannot be reviewed", Class: Suspicious}}
		}
	}
	if was, err := s.head(&s.change.Old); err == nil && len(was) > 0 && !bytes.HasPrefix(was, []byte(lfsPointer)) &&
		bytes.IndexByte(was, 0) < 0 && bytes.IndexByte(head, 0) >= 0 {
		return []Finding{{Reason: "a text becomes a binary that cannot be reviewed", Class: Suspicious}}
	}
	return nil
}

// headSize is how much of a file says what it is, in bytes.
const headSize = 8 << 10

// head returns the beginning of the new content, or of the old one.
func (s *subject) head(n *Node) ([]byte, error) {
	if n.Kind == Regular && n.Size <= MostContent {
		content := s.old
		if n == &s.change.New {
			content = s.new
		}
		if data, err := content(); err == nil {
			return data[:min(len(data), headSize)], nil
		}
	}
	return s.set.head(n)
}

func (t *set) head(n *Node) ([]byte, error) {
	switch {
	case n.Kind != Regular:
		return nil, nil
	case n.Open == nil:
		return nil, errors.New("content is not at hand")
	}
	f, err := n.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, min(n.Size, headSize)))
}

// mostLinks is how many links are followed, as by kernels.
const mostLinks = 40

// leavesWorkspace follows the link through links that the change set itself makes.
func leavesWorkspace(s *subject) []Finding {
	target := s.change.New.Target
	// The interpreter of a virtual environment is such a link, and stays where it was made.
	if _, inside := s.set.resolve(path.Dir(s.change.Path), target, mostLinks); inside || s.generated() {
		return nil
	}
	return []Finding{{Detail: bounded(target)}}
}

// resolve returns the path that a link in a directory leads to, false if that is not in
// the workspace.
func (t *set) resolve(dir, target string, links int) (string, bool) {
	if strings.HasPrefix(target, "/") || strings.HasPrefix(target, "~") || target == "" || links == 0 || windowsRooted(target) {
		return "", false
	}
	at := dir
	for part := range strings.SplitSeq(strings.ReplaceAll(target, `\`, "/"), "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "." {
				return "", false
			}
			at = path.Dir(at)
			continue
		}
		at = path.Join(at, part)
		if c := t.find(at); c != nil && c.New.Kind == Symlink {
			real, inside := t.resolve(path.Dir(at), c.New.Target, links-1)
			if !inside {
				return "", false
			}
			at = real
		}
	}
	return at, true
}

// windowsRooted reports whether Windows takes a path for one of a drive or a share.
func windowsRooted(p string) bool {
	return strings.HasPrefix(p, `\`) || len(p) > 1 && p[1] == ':'
}

func linkToTrusted(s *subject) []Finding {
	to, inside := s.set.resolve(path.Dir(s.change.Path), s.change.New.Target, mostLinks)
	if !inside {
		return nil
	}
	// What is obeyed may be a file, or be all that is below.
	for _, p := range []string{to, to + "/x"} {
		probe := s.set.subject(&Change{Path: p, New: Node{Kind: Regular}})
		if probe.inGitDir() || s.set.obeyed(probe) {
			return []Finding{{Detail: bounded(to)}}
		}
	}
	return nil
}

// obeyed reports whether a rule of paths says that a file of this path runs by itself.
func (t *set) obeyed(s *subject) bool {
	return slices.ContainsFunc(s.about(), func(i int) bool {
		return t.table[i].class == Runs && t.table[i].takes(s.change.New.Kind)
	})
}

// trustedDirs returns the names of directories whose files are obeyed by themselves.
func (t *set) trustedDirs() []string {
	if t.trusted != nil {
		return t.trusted
	}
	t.trusted = []string{".git"}
	for _, r := range t.table {
		if r.class != Runs {
			continue
		}
		for _, p := range r.paths {
			first, _, deeper := strings.Cut(strings.TrimPrefix(p, "/"), "/")
			if deeper && strings.HasPrefix(first, ".") && !slices.Contains(t.trusted, first) {
				t.trusted = append(t.trusted, first)
			}
		}
	}
	return t.trusted
}

// mostDetail bounds what a finding says of the guest's texts, in bytes.
const mostDetail = 120

// bounded cuts a text for a finding's detail.
func bounded(text string) string {
	if len(text) <= mostDetail {
		return text
	}
	return strings.ToValidUTF8(text[:mostDetail], "") + "…"
}
