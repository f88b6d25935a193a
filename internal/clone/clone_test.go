package clone

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// lab is a home and repositories for one test.
type lab struct {
	t    *testing.T
	dir  string
	bare string // of the repository
}

// seed makes two commits on main, a branch and a tag.
const seed = `commit refs/heads/main
mark :1
committer Lab <lab@example> 0 +0000
data 5
first
M 100644 inline README
data 6
hello

commit refs/heads/main
mark :2
committer Lab <lab@example> 0 +0000
data 6
second
from :1
M 100644 inline README
data 6
again

commit refs/heads/feature/x
committer Lab <lab@example> 0 +0000
data 7
feature
from :1
M 100644 inline FEATURE
data 2
x

tag v1
from :1
tagger Lab <lab@example> 0 +0000
data 3
one
`

func newLab(t *testing.T) *lab {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	l := &lab{t: t, dir: t.TempDir()}
	l.bare = filepath.Join(l.dir, "project.git")
	home := filepath.Join(l.dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	l.git("", "init", "--quiet", "--bare", "--template=", "--initial-branch=main", l.bare)
	l.git(seed, "-C", l.bare, "fast-import", "--quiet")
	return l
}

func (l *lab) git(stdin string, args ...string) string {
	l.t.Helper()
	cmd := exec.CommandContext(l.t.Context(), "git", args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(cmd.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

func (l *lab) write(name, text string, mode os.FileMode) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// commit adds a commit with one tree to main. The tree is written as it is,
// whatever git thinks of its names.
func (l *lab) commit(entries ...string) {
	l.t.Helper()
	var tree bytes.Buffer
	for _, e := range entries {
		head, id, _ := strings.Cut(e, "\x00")
		raw, err := hex.DecodeString(id)
		if err != nil {
			l.t.Fatal(err)
		}
		fmt.Fprintf(&tree, "%s\x00%s", head, raw)
	}
	id := l.git(tree.String(), "-C", l.bare, "hash-object", "--literally", "-w", "-t", "tree", "--stdin")
	commit := l.git("", "-C", l.bare, "-c", "user.name=lab", "-c", "user.email=lab@example", "commit-tree", "-m", "evil", id)
	l.git("", "-C", l.bare, "update-ref", "refs/heads/main", commit)
}

// blob returns the entry of a tree for a file with text.
func (l *lab) blob(mode, name, text string) string {
	l.t.Helper()
	return mode + " " + name + "\x00" + l.git(text, "-C", l.bare, "hash-object", "-w", "--stdin")
}

func (l *lab) clone(o Options) (Result, error) {
	l.t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(l.dir, "out", "clone")
		if err := os.MkdirAll(filepath.Dir(o.Dir), 0o755); err != nil {
			l.t.Fatal(err)
		}
	}
	if o.URL == "" {
		o.URL = l.bare
	}
	return Clone(l.t.Context(), o)
}

// nothingLeft checks that a failed clone left nothing.
func (l *lab) nothingLeft() {
	l.t.Helper()
	entries, err := os.ReadDir(filepath.Join(l.dir, "out"))
	if err != nil || len(entries) != 0 {
		l.t.Errorf("after a failed clone there is %v, %v; want nothing", entries, err)
	}
}

func TestClone(t *testing.T) {
	for _, test := range []struct {
		name   string
		ref    string
		depth  int
		branch string
		subj   string
		count  string
	}{
		{"default", "", 0, "main", "second", "2"},
		{"branch", "feature/x", 0, "feature/x", "feature", "2"},
		{"tag", "v1", 0, "", "first", "1"},
		{"shallow", "main", 1, "main", "second", "1"},
		{"shallow tag", "v1", 1, "", "first", "1"},
		{"commit", "COMMIT", 0, "", "first", "1"},
		{"shallow commit", "COMMIT", 1, "", "first", "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			if test.ref == "COMMIT" {
				test.ref = l.git("", "-C", l.bare, "rev-parse", "main~1")
			}
			var lines int
			res, err := l.clone(Options{Spec: Spec{Ref: test.ref}, Depth: test.depth, Progress: func(string) { lines++ }})
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(l.dir, "out", "clone")
			if got := l.git("", "-C", dir, "log", "-1", "--format=%s %H"); got != test.subj+" "+res.Commit {
				t.Errorf("head = %q; want %s %s", got, test.subj, res.Commit)
			}
			if got := l.git("", "-C", dir, "rev-list", "--count", "HEAD"); got != test.count {
				t.Errorf("%s commits; want %s", got, test.count)
			}
			if res.Branch != test.branch {
				t.Errorf("Branch = %q; want %q", res.Branch, test.branch)
			}
			if got := l.git("", "-C", dir, "status", "--porcelain"); got != "" {
				t.Errorf("status = %q; want a clean tree", got)
			}
			if test.branch != "" {
				if got, want := l.git("", "-C", dir, "rev-parse", "--abbrev-ref", "@{u}"), "origin/"+test.branch; got != want {
					t.Errorf("upstream = %q; want %q", got, want)
				}
			}
			if got := l.git("", "-C", dir, "remote", "get-url", "origin"); got != l.bare {
				t.Errorf("origin = %q; want %q", got, l.bare)
			}
			l.git("", "-C", dir, "fetch", "--quiet")
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o700 != 0o700 {
				t.Errorf("mode = %v, %v", info.Mode(), err)
			}
			if lines == 0 {
				t.Error("no progress")
			}
		})
	}
}

func TestCloneErrors(t *testing.T) {
	l := newLab(t)
	for _, test := range []struct {
		spec       Spec
		want       string
		code       fault.Code
		arg, value string
	}{
		{Spec{Ref: "mian"}, `there is no branch, tag or commit "mian"`, fault.ReferenceMissing, "near", "main"},
		{Spec{Ref: strings.Repeat("0", 40)}, "there is no commit 0000", fault.ReferenceMissing, "near", ""},
		{Spec{URL: l.dir + "/nowhere"}, "no such directory", fault.RepositoryDirectoryMissing, "better", ""},
		{Spec{URL: "host.example/a/b"}, "no such directory", fault.RepositoryDirectoryMissing, "better", "https://host.example/a/b"},
		{Spec{URL: l.dir}, "does not appear to be a git repository", "", "", ""},
		{Spec{URL: "--upload-pack=id"}, "begins with -", fault.RepositoryInvalid, "", ""},
	} {
		_, err := l.clone(Options{Spec: test.spec})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Clone(%v) = %v; want %q", test.spec, err, test.want)
		}
		var failed fault.Error
		if f, ok := fault.Of(err); ok {
			failed = *f
		}
		if failed.Code != test.code || failed.Args[test.arg] != test.value {
			t.Errorf("Clone(%v) fails with %q %v; want %q with %s %q", test.spec, failed.Code, failed.Args, test.code, test.arg, test.value)
		}
		l.nothingLeft()
	}

	empty := filepath.Join(l.dir, "empty.git")
	l.git("", "init", "--quiet", "--bare", "--template=", empty)
	if _, err := l.clone(Options{Spec: Spec{URL: empty}}); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("Clone(empty) = %v; want an error that says so", err)
	}
	l.nothingLeft()

	there := l.write("out/clone/mine", "mine", 0o644)
	if _, err := l.clone(Options{}); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("Clone(to a directory that is there) = %v; want an error", err)
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "mine" {
		t.Errorf("the file that was there: %q, %v", b, err)
	}
}

// Nothing of the user's configuration that runs something runs, in whatever
// repository mayfly was started.
func TestNothingRuns(t *testing.T) {
	l := newLab(t)
	ran := filepath.Join(l.dir, "ran")
	script := l.write("script", "#!/bin/sh\necho \"$0 $*\" >>"+ran+"\ncat\n", 0o755)
	hooks := []string{"post-checkout", "reference-transaction", "post-index-change", "fsmonitor-watchman", "pre-auto-gc"}
	for _, hook := range hooks {
		l.write("template/hooks/"+hook, "#!/bin/sh\necho "+hook+" >>"+ran+"\n", 0o755)
		l.write("hooks/"+hook, "#!/bin/sh\necho "+hook+" >>"+ran+"\n", 0o755)
		l.write("project.git/hooks/"+hook, "#!/bin/sh\necho "+hook+" >>"+ran+"\n", 0o755)
	}
	l.write("home/.gitconfig", fmt.Sprintf(`[init]
	templateDir = %[1]s/template
[core]
	hooksPath = %[1]s/hooks
	fsmonitor = %[2]s
	pager = %[2]s
	attributesFile = %[1]s/attributes
[filter "evil"]
	smudge = %[2]s
	clean = %[2]s
	process = %[2]s
	required = true
[filter "lfs"]
	smudge = %[2]s
	required = true
[merge "evil"]
	driver = %[2]s
[alias]
	checkout = !%[2]s
	fetch = !%[2]s
[submodule]
	recurse = true
[protocol "ext"]
	allow = always
[remote "origin"]
	url = ext::%[2]s
`, l.dir, script), 0o644)
	l.write("attributes", "* filter=evil\n", 0o644)
	l.write("project.git/config", l.readFile("project.git/config")+"[uploadpack]\n\tpackObjectsHook = "+script+"\n[core]\n\tfsmonitor = "+script+"\n", 0o644)
	l.commit(
		l.blob("100644", ".gitattributes", "* filter=evil diff=evil merge=evil\n*.bin filter=lfs\n"),
		l.blob("100644", ".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = ext::"+script+"\n\tupdate = none\n"),
		l.blob("100644", "a.bin", "version https://git-lfs.github.com/spec/v1\n"),
		"160000 s\x00"+strings.Repeat("12", 20),
	)
	// The repository that we stand in is hostile, too.
	around := filepath.Join(l.dir, "out")
	l.git("", "init", "--quiet", "--template=", around)
	l.write("out/.git/config", "[core]\n\tsshCommand = "+script+"\n\tfsmonitor = "+script+"\n[url \"ext::"+script+" \"]\n\tinsteadOf = "+l.dir+"\n", 0o644)
	t.Chdir(around)
	t.Setenv("GIT_DIR", filepath.Join(around, ".git"))
	t.Setenv("GIT_EXTERNAL_DIFF", script)
	t.Setenv("GIT_TEMPLATE_DIR", filepath.Join(l.dir, "template"))

	os.Remove(ran) // the lab's own git runs the hooks of the server's side
	res, err := l.clone(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(ran); err == nil {
		t.Errorf("these ran:\n%s", b)
	}
	if notes := strings.Join(res.Notes, "\n"); !strings.Contains(notes, "submodules") || !strings.Contains(notes, "LFS") {
		t.Errorf("notes = %q; want submodules and LFS", notes)
	}
	if got := l.readFile("out/clone/a.bin"); !strings.HasPrefix(got, "version") {
		t.Errorf("a.bin = %q; want the pointer as it is", got)
	}
	if _, err := os.Stat(filepath.Join(around, "clone/.git/hooks")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf(".git/hooks: %v; want none", err)
	}
}

func (l *lab) readFile(name string) string {
	l.t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		l.t.Fatal(err)
	}
	return string(b)
}

// Trees that write to .git or outside of the clone are refused, and nothing is
// left of them.
func TestHostileTrees(t *testing.T) {
	config := "[core]\n\tfsmonitor = id\n"
	for _, test := range []struct {
		name    string
		entries func(l *lab) []string
	}{
		{"dot git", func(l *lab) []string { return []string{l.blob("100644", ".git", "gitdir: /tmp")} }},
		{"dot git in capitals", func(l *lab) []string { return []string{l.blob("100644", ".GIT", "gitdir: /tmp")} }},
		{"dot git of HFS+", func(l *lab) []string { return []string{l.blob("100644", ".g\u200cit", "gitdir: /tmp")} }},
		{"dot git of NTFS", func(l *lab) []string { return []string{l.blob("100644", "git~1", config)} }},
		{"symbolic link", func(l *lab) []string { return []string{l.blob("120000", ".git", "/tmp")} }},
		{"up", func(l *lab) []string { return []string{l.blob("100644", "..", "x")} }},
		{"slash", func(l *lab) []string { return []string{l.blob("100644", "../x", "x")} }},
		{"gitmodules that is a link", func(l *lab) []string { return []string{l.blob("120000", ".gitmodules", "/etc/passwd")} }},
		{"option as submodule", func(l *lab) []string {
			return []string{l.blob("100644", ".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = --upload-pack=id\n")}
		}},
		{"twice", func(l *lab) []string {
			return []string{l.blob("120000", "a", "/tmp"), l.blob("100644", "a", "x")}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			l.commit(test.entries(l)...)
			res, err := l.clone(Options{})
			if err == nil {
				t.Errorf("Clone() = %+v; want an error", res)
			} else if strings.Contains(err.Error(), "\n") {
				t.Errorf("Clone() = %q; want one line", err)
			}
			l.nothingLeft()
		})
	}
}

// A file behind a symbolic link of the same tree is not written through it.
func TestLinkIsNotFollowed(t *testing.T) {
	l := newLab(t)
	outside := filepath.Join(l.dir, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	sub := l.blob("100644", "file", "evil")
	_, id, _ := strings.Cut(sub, "\x00")
	raw, _ := hex.DecodeString(id)
	tree := l.git("100644 file\x00"+string(raw), "-C", l.bare, "hash-object", "--literally", "-w", "-t", "tree", "--stdin")
	l.commit(l.blob("120000", "A", outside), "40000 a\x00"+tree)
	if _, err := l.clone(Options{}); err != nil {
		t.Logf("refused: %v", err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside of the clone there is %v, %v", entries, err)
	}
}

func TestCloneIsCancelled(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel() // the answer never comes
		<-r.Context().Done()
	}))
	defer server.Close()
	dir := filepath.Join(l.dir, "out")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Clone(ctx, Options{Spec: Spec{URL: server.URL + "/project.git"}, Dir: filepath.Join(dir, "clone")})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Clone() = %v; want context.Canceled", err)
	}
	l.nothingLeft()
}

// The user's ssh is asked, without a terminal to ask on, and its words are in the
// error.
func TestSSH(t *testing.T) {
	l := newLab(t)
	ssh := l.write("ssh", "#!/bin/sh\necho \"$@\" >>"+l.dir+"/args\n"+
		"if (: </dev/tty) 2>/dev/null; then echo a terminal >>"+l.dir+"/args; fi\n"+
		"for command; do :; done\ncd "+l.dir+" && eval \"$command\"\n", 0o755)
	t.Setenv("GIT_SSH", ssh)
	t.Setenv("GIT_SSH_VARIANT", "simple")
	spec, err := ParseSpec("git@host.example:project.git@v1")
	if err != nil {
		t.Fatal(err)
	}
	res, err := l.clone(Options{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	if res.URL != "git@host.example:project.git" || res.Branch != "" {
		t.Errorf("Clone() = %+v; want the URL without the tag, and no branch", res)
	}
	if got := l.readFile("args"); strings.Contains(got, "a terminal") || !strings.HasPrefix(got, "git@host.example git-upload-pack 'project.git'\n") {
		t.Errorf("ssh got %q", got)
	}
	for _, test := range []struct{ says, want string }{
		{"git@host.example: Permission denied (publickey).", "does not take your ssh key"},
		{"ssh: connect to host host.example port 22: Connection refused", "port 22: Connection refused"},
		{"Host key verification failed.", "does not know the host"},
		{"\033[2Jevil", "?[2Jevil"},
	} {
		l.write("ssh", "#!/bin/sh\nprintf '%b\\n' '"+test.says+"' >&2\nexit 255\n", 0o755)
		_, err := l.clone(Options{Spec: spec, Dir: filepath.Join(l.dir, "out/again")})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("Clone(ssh says %q) = %q; want %q", test.says, err, test.want)
		}
	}
}

// backend serves the repository as https does, for who has the password.
func (l *lab) backend(password string) (url string, agents func() []string) {
	l.t.Helper()
	var mu sync.Mutex
	var seen []string
	handler := &cgi.Handler{
		Path:       "/bin/sh",
		Args:       []string{"-c", "exec git http-backend"}, // which is not in PATH
		Env:        []string{"GIT_PROJECT_ROOT=" + l.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"},
		InheritEnv: []string{"PATH"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pass, _ := r.BasicAuth()
		mu.Lock()
		seen = append(seen, user+":"+pass)
		mu.Unlock()
		if password != "" && user+":"+pass != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	l.t.Cleanup(server.Close)
	return server.URL, func() []string { mu.Lock(); defer mu.Unlock(); return seen }
}

// The password of a URL is used, and kept nowhere.
func TestPassword(t *testing.T) {
	l := newLab(t)
	url, seen := l.backend("alice:hunter2x")
	with := strings.Replace(url, "http://", "http://alice:hunter2x@", 1) + "/project.git"
	res, err := l.clone(Options{Spec: Spec{URL: with}})
	if err != nil {
		t.Fatalf("%v (server saw %q)", err, seen())
	}
	if res.URL != url+"/project.git" {
		t.Errorf("URL = %q; want no password", res.URL)
	}
	if notes := strings.Join(res.Notes, "\n"); !strings.Contains(notes, "password") || !strings.Contains(notes, "unencrypted") {
		t.Errorf("notes = %q; want the password and http", notes)
	}
	err = filepath.WalkDir(filepath.Join(l.dir, "out"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte("hunter2x")) {
				t.Errorf("%s holds the password (%v)", path, err)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// The user's credential helper is asked; without one the error is one line and
// nobody waits for an answer.
func TestUsersCredentials(t *testing.T) {
	l := newLab(t)
	url, seen := l.backend("alice:hunter2x")
	_, err := l.clone(Options{Spec: Spec{URL: url + "/project.git"}})
	if err == nil || !strings.Contains(err.Error(), "wants a user and a password") || fault.CodeOf(err) != fault.RepositoryLoginRefused {
		t.Errorf("Clone(without a password) = %v, %q; want an error that says so", err, fault.CodeOf(err))
	}
	l.nothingLeft()
	_, err = l.clone(Options{Spec: Spec{URL: strings.Replace(url, "http://", "http://alice:wrongpass@", 1) + "/project.git"}})
	if err == nil || !strings.Contains(err.Error(), "is wrong") || strings.Contains(err.Error(), "wrongpass") {
		t.Errorf("Clone(wrong password) = %v; want an error that says so, without it", err)
	}
	l.nothingLeft()
	l.write("home/.gitconfig", `[credential]
	helper = "!f() { test \"$1\" = get && echo username=alice && echo password=hunter2x; }; f"
[url "`+url+`/"]
	insteadOf = https://company.example/
`, 0o644)
	if _, err := l.clone(Options{Spec: Spec{URL: url + "/project.git"}, Dir: filepath.Join(l.dir, "out/one")}); err != nil {
		t.Errorf("Clone(with a helper): %v (server saw %q)", err, seen())
	}
	// A user's name alone goes with the user's own helper.
	if _, err := l.clone(Options{Spec: Spec{URL: strings.Replace(url, "http://", "http://alice@", 1) + "/project.git"}, Dir: filepath.Join(l.dir, "out/two")}); err != nil {
		t.Errorf("Clone(user and a helper): %v (server saw %q)", err, seen())
	}
	// What the user wrote is https: plain http is no replacement for it.
	if _, err := l.clone(Options{Spec: Spec{URL: "https://company.example/project.git"}, Dir: filepath.Join(l.dir, "out/three")}); err == nil ||
		!strings.Contains(err.Error(), "another kind") {
		t.Errorf("Clone(insteadOf https is http) = %v; want it refused", err)
	}
}
