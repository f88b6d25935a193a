package ignored

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// A repository above that ignores the whole workspace, such as one of the home directory
// with all but a few files ignored, has no word on what is done there.
func TestMarkIgnoredWorkspace(t *testing.T) {
	home := newRepo(t, t.TempDir(), map[string]string{
		".gitignore": "/*\n!/.profile\n!/sub\n*.log\n", ".profile": "", "code/a/f": "", "sub/.gitignore": "out\n", "sub/f": "",
	}, ".profile", "code/a/f")
	newRepo(t, filepath.Join(home.dir, "code/a/own"), map[string]string{".gitignore": "b\n"})
	for dir, want := range map[string][]string{"code/a": {"own/b"}, "code": nil, "sub": {"out", "x.log"}} {
		r := repo{t, filepath.Join(home.dir, dir)}
		if got := r.ignoredOf("f", "g", "out", "own/b", "own/c", "x.log"); !slices.Equal(got, want) {
			t.Errorf("in %s are ignored %q; want %q", dir, got, want)
		}
	}
}

// Rules that have no end keep nobody from the changes.
func TestMarkEndlessRules(t *testing.T) {
	was := probeTimeout
	probeTimeout = 200 * time.Millisecond
	defer func() { probeTimeout = was }()
	for name, set := range map[string]func(r repo, fifo string) error{
		".gitignore": func(r repo, fifo string) error { return os.Rename(fifo, filepath.Join(r.dir, ".gitignore")) },
		"sub/.gitignore": func(r repo, fifo string) error {
			r.write(map[string]string{"sub/deep/c": ""})
			return os.Rename(fifo, filepath.Join(r.dir, "sub/.gitignore"))
		},
		"excludes file": func(r repo, fifo string) error { r.git("config", "core.excludesFile", fifo); return nil },
		"included file": func(r repo, fifo string) error { r.git("config", "include.path", fifo); return nil },
	} {
		r := newRepo(t, t.TempDir(), map[string]string{"a": ""}, "a")
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := errors.Join(unix.Mkfifo(fifo, 0o600), set(r, fifo)); err != nil {
			t.Fatal(err)
		}
		edits := []workspace.Edit{{Op: workspace.Add, Path: "sub/deep/b", NewKind: workspace.File}}
		begun := time.Now()
		if err := Mark(t.Context(), r.dir, edits); !errors.Is(err, ErrUnknown) || time.Since(begun) > time.Minute {
			t.Errorf("%s that is a FIFO: %v after %v; want %v at once", name, err, time.Since(begun), ErrUnknown)
		}
	}
}

// repo is a repository on the host.
type repo struct {
	t   *testing.T
	dir string
}

// newRepo makes a repository in dir, with files by path and content, of which those in
// tracked are in the index.
func newRepo(t *testing.T, dir string, files map[string]string, tracked ...string) repo {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	r := repo{t, dir}
	r.write(files)
	r.git("init", "-q")
	if len(tracked) > 0 {
		r.git(append([]string{"add", "-f", "--"}, tracked...)...)
	}
	return r
}

func (r repo) write(files map[string]string) {
	r.t.Helper()
	for name, content := range files {
		name = filepath.Join(r.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r repo) git(args ...string) {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("git %s: %v\n%s", args, err, out)
	}
}

// ignoredOf returns the paths of new files that are ignored; one with a slash at its end is
// a new directory.
func (r repo) ignoredOf(paths ...string) []string {
	r.t.Helper()
	var edits []workspace.Edit
	for _, p := range paths {
		e := workspace.Edit{Op: workspace.Add, Path: strings.TrimSuffix(p, "/"), NewKind: workspace.File}
		if e.Path != p {
			e.NewKind = workspace.Dir
		}
		edits = append(edits, e)
	}
	return r.mark(edits)
}

func (r repo) mark(edits []workspace.Edit) (ignored []string) {
	r.t.Helper()
	if err := Mark(r.t.Context(), r.dir, edits); err != nil {
		r.t.Fatal(err)
	}
	for _, e := range edits {
		if e.Ignored {
			ignored = append(ignored, e.Path)
		}
	}
	return ignored
}

// home gives git a configuration of the user's.
func home(t *testing.T, config string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_CONFIG_GLOBAL", file)
}

func TestMark(t *testing.T) {
	all := filepath.Join(t.TempDir(), "all")
	if err := os.WriteFile(all, []byte("*.swp\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	home(t, "[core]\n\texcludesFile = "+all+"\n")
	r := newRepo(t, t.TempDir(), map[string]string{
		".gitignore":         ".venv\nnode_modules/\ntarget/\n*.o\n!keep.o\n/only\n*.log\nx/*\n!x/y\n",
		"sub/.gitignore":     "*.gen\n",
		"self/.gitignore":    "*\n",
		"forced.o":           "",
		"target/tracked":     "",
		".git/info/exclude":  "private\n",
		"linked/.gitignore":  "*\n",
		".venv/lib/a.py":     "",
		"node_modules/n/a.j": "",
	}, "forced.o", "target/tracked")
	if err := os.Symlink("/usr", filepath.Join(r.dir, "link.log")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr", filepath.Join(r.dir, "link")); err != nil {
		t.Fatal(err)
	}
	paths := []string{
		".venv/lib/a.py", ".venv/lib/new/b.py", "node_modules/", "node_modules/n/deep/er/x", "new/node_modules/", "new/node_modules/y",
		"target/a", "a.o", "keep.o", "only", "sub/only", "b/c/a.o", "sub/a.gen", "a.gen", "self/x", "a.swp", "private/x", "x/y", "x/z",
		// As files of these names git does not ignore them.
		"other/target",
		// What the index has.
		"forced.o", "target/tracked",
		// Not beyond a link, which is judged itself.
		"link.log/x", "link/x.o",
		// Never what belongs to a repository.
		".git/hooks/a.o", ".git/x.swp",
		// Names that are something else to git.
		":(glob)*.o", ":/a.o", "-z", "a\nb.o", "a\x01.o", "*.o", "\xff.o",
	}
	want := []string{
		".venv/lib/a.py", ".venv/lib/new/b.py", "node_modules", "node_modules/n/deep/er/x", "new/node_modules", "new/node_modules/y",
		"target/a", "a.o", "only", "b/c/a.o", "sub/a.gen", "self/x", "a.swp", "private/x", "x/z",
		"link.log/x",
		":(glob)*.o", ":/a.o", "a\nb.o", "a\x01.o", "*.o", "\xff.o",
	}
	if got := r.ignoredOf(paths...); !slices.Equal(got, want) {
		t.Errorf("ignored are %q\nwant %q", got, want)
	}
}

// What the guest says does not count, and what it moves stays what it was.
func TestMarkIsTheHosts(t *testing.T) {
	home(t, "")
	r := newRepo(t, t.TempDir(), map[string]string{".gitignore": "out/\n", "Makefile": "", "out/kept": "", "src/a.c": ""}, "Makefile", "out/kept", "src/a.c")
	edits := []workspace.Edit{
		{Op: workspace.Add, Path: ".git/hooks/post-checkout", NewKind: workspace.File},
		{Op: workspace.Modify, Path: ".git/info/exclude", OldKind: workspace.File, NewKind: workspace.File},
		{Op: workspace.Modify, Path: ".gitignore", OldKind: workspace.File, NewKind: workspace.File},
		{Op: workspace.Add, Path: "a", NewKind: workspace.Dir},
		{Op: workspace.Add, Path: "a/.gitignore", NewKind: workspace.File},
		{Op: workspace.Add, Path: "a/.envrc", NewKind: workspace.File},
		{Op: workspace.Modify, Path: "Makefile", OldKind: workspace.File, NewKind: workspace.File},
		{Op: workspace.Rename, From: "out", Path: "out2", OldKind: workspace.Dir, NewKind: workspace.Dir},
		{Op: workspace.Rename, From: "src", Path: "out/src", OldKind: workspace.Dir, NewKind: workspace.Dir},
		{Op: workspace.Modify, From: "src/a.c", Path: "out/src/a.c", OldKind: workspace.File, NewKind: workspace.File},
		{Op: workspace.Modify, Path: "out/kept", OldKind: workspace.File, NewKind: workspace.File},
	}
	if got := r.mark(edits); len(got) > 0 {
		t.Errorf("ignored are %q; want none", got)
	}
}

// Each repository in a workspace judges its own files.
func TestMarkNested(t *testing.T) {
	home(t, "")
	top := t.TempDir()
	r := newRepo(t, top, map[string]string{".gitignore": "*.o\nvendor/\nlib/a/*.x\n"})
	newRepo(t, filepath.Join(top, "module"), map[string]string{".gitignore": "*.m\n", "t.m": ""}, "t.m").
		git("commit", "-q", "-m", "x")
	newRepo(t, filepath.Join(top, "vendor/v"), map[string]string{"f": ""}, "f")
	newRepo(t, filepath.Join(top, "own"), map[string]string{".gitignore": "*.w\n"})
	newRepo(t, filepath.Join(top, "bare"), map[string]string{"f": ""}, "f").git("commit", "-q", "-m", "x")
	r.git("add", "module", "bare")
	// As after a clone without its submodules.
	if err := os.RemoveAll(filepath.Join(top, "bare", ".git")); err != nil {
		t.Fatal(err)
	}
	got := r.ignoredOf(
		"a.o", "module/a.o", "module/a.m", "module/t.m", "module/.git/config", "module/new/b.m",
		"vendor/v/f", "vendor/v/.git/config", "own/a.w", "own/a.o", "own/.git/a.w", "bare/x.o", "bare/.git/x.o")
	want := []string{"a.o", "module/a.m", "module/new/b.m", "vendor/v/f", "vendor/v/.git/config", "own/a.w"}
	if !slices.Equal(got, want) {
		t.Errorf("ignored are %q\nwant %q", got, want)
	}
	// A workspace that is only a part of a repository, and one that only holds some.
	if err := os.MkdirAll(filepath.Join(top, "lib/a"), 0o755); err != nil {
		t.Fatal(err)
	}
	part := repo{t, filepath.Join(top, "lib")}
	if got := part.ignoredOf("a/b.x", "b.x", "c.o"); !slices.Equal(got, []string{"a/b.x", "c.o"}) {
		t.Errorf("in a part of a repository ignored are %q", got)
	}
	if err := os.RemoveAll(filepath.Join(top, ".git")); err != nil {
		t.Fatal(err)
	}
	if got := r.ignoredOf("a.o", "module/a.m", "own/a.w", "vendor/x"); !slices.Equal(got, []string{"module/a.m", "own/a.w"}) {
		t.Errorf("without a repository around them ignored are %q", got)
	}
}

// A configuration that runs programs runs none, and no variable leads git elsewhere.
func TestMarkRunsNothing(t *testing.T) {
	home(t, "")
	ran := filepath.Join(t.TempDir(), "ran")
	r := newRepo(t, t.TempDir(), map[string]string{".gitignore": "*.o\n", "f": "x"}, "f")
	script := filepath.Join(r.dir, ".git", "run")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$0 $*\" >>"+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"core.fsmonitor", "core.sshCommand", "core.pager", "pager.ls-files", "pager.check-ignore", "core.editor", "core.gitProxy",
		"filter.x.clean", "filter.x.smudge", "filter.x.process", "diff.external", "alias.ls-files", "alias.check-ignore",
		"core.alternateRefsCommand", "credential.helper", "uploadpack.packObjectsHook", "remote.x.uploadpack",
	} {
		r.git("config", key, script)
	}
	r.git("config", "extensions.partialClone", "x")
	r.git("config", "remote.x.url", "ext::"+script)
	r.git("config", "core.hooksPath", filepath.Dir(script))
	if err := os.Symlink("run", filepath.Join(r.dir, ".git", "post-index-change")); err != nil {
		t.Fatal(err)
	}
	r.write(map[string]string{".gitattributes": "* filter=x\n"})
	t.Setenv("GIT_INDEX_FILE", "/nowhere")
	t.Setenv("GIT_DIR", "/nowhere")
	t.Setenv("GIT_TRACE", ran)
	if got := r.ignoredOf("a.o", "f"); !slices.Equal(got, []string{"a.o"}) {
		t.Errorf("ignored are %q; want a.o", got)
	}
	if text, err := os.ReadFile(ran); err == nil {
		t.Errorf("ran: %s", text)
	}
}

func TestMarkUnknown(t *testing.T) {
	home(t, "")
	r := newRepo(t, t.TempDir(), map[string]string{".gitignore": "*.o\n", ".git/x": ""})
	edits := []workspace.Edit{{Op: workspace.Add, Path: "a.o", NewKind: workspace.File}}
	if err := os.WriteFile(filepath.Join(r.dir, ".git", "index"), []byte("no index"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Mark(t.Context(), r.dir, edits); !errors.Is(err, ErrUnknown) || strings.Contains(err.Error(), "\n") {
		t.Errorf("Mark with a broken index = %v; want ErrUnknown on one line", err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := Mark(t.Context(), r.dir, edits); !errors.Is(err, ErrUnknown) || edits[0].Ignored {
		t.Errorf("Mark without git = %v; want ErrUnknown", err)
	}
	if err := Mark(t.Context(), t.TempDir(), edits); err != nil || edits[0].Ignored {
		t.Errorf("Mark without a repository = %v; want nothing to be asked", err)
	}
}

// Of new directories only those are whole that git ignores with all that they may have in
// them, and that the host has not. Where rules are about what is in one, others may say
// something else of it, and it is not taken as a whole.
func TestDirs(t *testing.T) {
	home(t, "")
	r := newRepo(t, t.TempDir(), map[string]string{
		".gitignore": "node_modules/\nout\n/kept/*\nback/*\n!back/in\n", "there/node_modules/x": "", "gone/node_modules/tracked": "", "file": "", "out": "",
	}, "gone/node_modules/tracked")
	if err := os.RemoveAll(filepath.Join(r.dir, "gone")); err != nil {
		t.Fatal(err)
	}
	newRepo(t, filepath.Join(r.dir, "inner"), map[string]string{".gitignore": "built/\n"})
	dirs := []string{
		"back", "back/in", "back/other", "deep", "deep/er", "deep/er/node_modules", "deep/er/node_modules/p", "file", "gone", "gone/node_modules",
		"inner/built", "inner/node_modules", "kept", "kept/x", "node_modules", "node_modules/a", "out", "plain", "there/node_modules", "there/node_modules/new",
		".git/hooks/out",
	}
	got, err := Dirs(t.Context(), r.dir, dirs)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"deep/er/node_modules", "deep/er/node_modules/p", "inner/built", "node_modules", "node_modules/a", "there/node_modules/new",
	}
	if got := slices.Sorted(maps.Keys(got)); !slices.Equal(got, want) {
		t.Errorf("whole are %q; want %q", got, want)
	}
	if got, err := Dirs(t.Context(), t.TempDir(), dirs); err != nil || len(got) > 0 {
		t.Errorf("without a repository whole are %v, %v", got, err)
	}
	t.Setenv("PATH", t.TempDir())
	if got, err := Dirs(t.Context(), r.dir, dirs); err != nil || len(got) > 0 {
		t.Errorf("without git whole are %v, %v", got, err)
	}
}
