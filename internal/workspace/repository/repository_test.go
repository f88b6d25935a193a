package repository

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFind asks of what git itself makes.
func TestFind(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", top)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	git := func(args ...string) {
		t.Helper()
		c := exec.Command("git", append([]string{"-c", "user.name=n", "-c", "user.email=e", "-c", "protocol.file.allow=always"}, args...)...)
		c.Dir = top
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	at := func(path string) string { return filepath.Join(top, path) }

	git("init", "-q", "main")
	git("-C", "main", "commit", "-q", "--allow-empty", "-m", "first")
	git("-C", "main", "worktree", "add", "-q", "../linked")
	git("clone", "-q", "--shared", "main", "shared")
	git("clone", "-q", "main", "whole")
	git("clone", "-q", "--bare", "main", "bare")
	git("-C", "bare", "worktree", "add", "-q", "../of-bare")
	git("init", "-q", "--separate-git-dir", "separate.git", "separate")
	git("init", "-q", "super")
	git("-C", "super", "submodule", "--quiet", "add", "../main", "lib/sub")
	for _, dir := range []string{"main/a/b", "linked/c", "none"} {
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "-q", "link")
	if err := os.Rename(at("link/.git"), at("link.git")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../link.git", at("link/.git")); err != nil {
		t.Fatal(err)
	}
	git("-C", "whole", "worktree", "add", "-q", "inside")

	for dir, want := range map[string]Outside{
		"main":          {},
		"whole":         {},
		"bare":          {},
		"super":         {},
		"none":          {},
		"linked":        {Worktree, at("main")},
		"whole/inside":  {Worktree, at("whole")},
		"of-bare":       {Worktree, at("bare")},
		"super/lib/sub": {Submodule, at("super")},
		"main/a/b":      {Subdirectory, at("main")},
		"linked/c":      {Subdirectory, at("linked")},
		"separate":      {Elsewhere, at("separate.git")},
		"link":          {Elsewhere, at("link.git")},
		"shared":        {Alternates, at("main/.git/objects")},
	} {
		got, ok := Find(at(dir))
		if got != want || ok != (want != Outside{}) {
			t.Errorf("Find(%s) = %v, %t; want %v", dir, got, ok, want)
		}
	}
}

// TestLocate compares with what git says.
func TestLocate(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", top)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	git := func(args ...string) string {
		t.Helper()
		c := exec.Command("git", append([]string{"-c", "user.name=n", "-c", "user.email=e", "-c", "protocol.file.allow=always"}, args...)...)
		c.Dir = top
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "main")
	git("-C", "main", "commit", "-q", "--allow-empty", "-m", "first")
	git("-C", "main", "worktree", "add", "-q", "../linked")
	git("clone", "-q", "--bare", "main", "bare")
	git("-C", "bare", "worktree", "add", "-q", "../of-bare")
	git("init", "-q", "--separate-git-dir", "separate.git", "separate")
	git("init", "-q", "super")
	git("-C", "super", "submodule", "--quiet", "add", "../main", "lib/sub")
	for _, dir := range []string{"main/a/b", "linked/c", "none"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"main", "main/a/b", "linked", "linked/c", "of-bare", "separate", "super", "super/lib/sub"} {
		got, ok := Locate(filepath.Join(top, dir))
		want := strings.Split(git("-C", dir, "rev-parse", "--path-format=absolute", "--show-toplevel", "--git-dir", "--git-common-dir"), "\n")
		if !ok || got != (Place{want[0], want[1], want[2]}) {
			t.Errorf("Locate(%s) = %v, %t; want %v", dir, got, ok, want)
		}
		head, _ := ReadHead(got.Dir)
		if want := git("-C", dir, "symbolic-ref", "HEAD"); strings.TrimSpace(head) != "ref: "+want {
			t.Errorf("ReadHead(%s) = %q; want %s", dir, head, want)
		}
	}
	for _, dir := range []string{"bare", "none", "main/.git"} {
		if got, ok := Locate(filepath.Join(top, dir)); ok {
			t.Errorf("Locate(%s) = %v; want none", dir, got)
		}
	}
}

// TestFindHostile asks of repositories that nobody made in good faith.
func TestFindHostile(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"a FIFO": func(dir string) error { return unix.Mkfifo(filepath.Join(dir, ".git"), 0o600) },
		"a pointer to a FIFO": func(dir string) error {
			if err := unix.Mkfifo(filepath.Join(dir, "commondir"), 0o600); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, ".git"), []byte("gitdir: .\n"), 0o600)
		},
		"an endless file": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, ".git"), []byte("gitdir: "+strings.Repeat("a", 1<<20)), 0o600)
		},
		"a link to itself": func(dir string) error { return os.Symlink(".git", filepath.Join(dir, ".git")) },
		"zero bytes": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, ".git"), []byte("gitdir: /a\x00b\n"), 0o600)
		},
		"no repository": func(dir string) error { return os.Mkdir(filepath.Join(dir, ".git"), 0o700) },
	} {
		dir := t.TempDir()
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if o, ok := Find(dir); ok {
			t.Errorf("%s: %v", name, o)
		}
		if p, ok := Locate(dir); ok {
			t.Errorf("%s: %v", name, p)
		}
	}
}

// What a repository says of itself leads nowhere but to a path that is told.
func FuzzFind(f *testing.F) {
	f.Add("gitdir: ../.git/worktrees/x\n", "../..\n", "/other/objects\n# no\n\n../more")
	f.Add("gitdir: .real", "", "")
	f.Add("gitdir: /a/.git/modules/b", "x\x00y", "\r\n")
	dir := f.TempDir()
	for _, d := range []string{"w/.real/objects/info", "w/.real/refs"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			f.Fatal(err)
		}
	}
	work := filepath.Join(dir, "w")
	f.Fuzz(func(t *testing.T, pointer, common, alternates string) {
		for name, text := range map[string]string{".git": pointer, ".real/HEAD": "x", ".real/commondir": common, ".real/objects/info/alternates": alternates} {
			if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		o, ok := Find(work)
		if ok && (!filepath.IsAbs(o.Path) || filepath.Clean(o.Path) != o.Path || strings.ContainsAny(o.Path, "\x00\n") || o.Kind == "") {
			t.Errorf("Find = %+v", o)
		}
		if ok && o.Kind == Alternates && within(o.Path, work) {
			t.Errorf("%+v is inside", o)
		}
	})
}
