package commits_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/commits"
)

// pair is a repository of a user's and a machine's copy of it.
type pair struct {
	t           *testing.T
	dir         string
	host, guest string
}

func newPair(t *testing.T, initArgs ...string) *pair {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", filepath.Join(dir, "home"))
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	for _, name := range []string{"home", "state"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p := &pair{t, dir, filepath.Join(dir, "host"), filepath.Join(dir, "guest")}
	p.write(dir, map[string]string{"home/.gitconfig": `[user]
	name = Ada
	email = ada@example.org
[init]
	defaultBranch = main
[protocol "file"]
	allow = always
`})
	p.git(dir, append([]string{"init", "-q", p.host}, initArgs...)...)
	p.write(p.host, map[string]string{"a": "1", "dir/b": "1"})
	p.git(p.host, "add", "-A")
	p.git(p.host, "commit", "-q", "-m", "host 1")
	p.write(p.host, map[string]string{"a": "2"})
	p.git(p.host, "commit", "-q", "-a", "-m", "host 2")
	return p
}

func (p *pair) git(dir string, args ...string) string {
	p.t.Helper()
	out, err := p.try(dir, args...)
	if err != nil {
		p.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (p *pair) try(dir string, args ...string) (string, error) {
	c := exec.Command("git", args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (p *pair) write(dir string, files map[string]string) {
	p.t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			p.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *pair) commit(dir string, files map[string]string, message string) string {
	p.t.Helper()
	p.write(dir, files)
	p.git(dir, "add", "-A")
	p.git(dir, "commit", "-q", "-m", message)
	return p.git(dir, "rev-parse", "HEAD")
}

// copy makes the machine's copy.
func (p *pair) copy() {
	p.t.Helper()
	if out, err := exec.Command("cp", "-a", p.host, p.guest).CombinedOutput(); err != nil {
		p.t.Fatalf("%v\n%s", err, out)
	}
}

// bundle makes what a machine sends: refs, without what the user has.
func (p *pair) bundle(refs []string, not []string) *os.File {
	p.t.Helper()
	f, err := os.Create(filepath.Join(p.dir, "bundle"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { f.Close() })
	c := exec.Command("git", "bundle", "create", "-q", "-", "--ignore-missing", "--stdin")
	c.Dir, c.Stdout, c.Stderr = p.guest, f, os.Stderr
	c.Env = append(os.Environ(), "GIT_WORK_TREE=.") // else git 2.39 takes - for a file where the working tree begins above
	in := strings.Join(refs, "\n") + "\n"
	for _, id := range not {
		in += "^" + id + "\n"
	}
	c.Stdin = strings.NewReader(in)
	if err := c.Run(); err != nil {
		p.t.Fatal(err)
	}
	return f
}

func (p *pair) open() *commits.Repository {
	p.t.Helper()
	r, err := commits.Open(p.t.Context(), p.host, filepath.Join(p.dir, "state"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := r.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return r
}

// take imports the refs of the machine.
func (p *pair) take(r *commits.Repository, refs ...string) *commits.Import {
	p.t.Helper()
	im, err := p.tryTake(r, refs...)
	if err != nil {
		p.t.Fatal(err)
	}
	return im
}

func (p *pair) tryTake(r *commits.Repository, refs ...string) (*commits.Import, error) {
	tips, err := r.Tips(p.t.Context(), nil)
	if err != nil {
		return nil, err
	}
	return r.Import(p.t.Context(), p.bundle(refs, tips), tips, commits.DefaultLimits())
}

func (p *pair) land(im *commits.Import, name string) {
	p.t.Helper()
	if err := im.Land(p.t.Context(), name); err != nil {
		p.t.Fatal(err)
	}
}

// sound finds out whether git likes the user's repository as it is.
func (p *pair) sound() {
	p.t.Helper()
	if out := p.git(p.host, "fsck", "--strict", "--no-dangling"); strings.Contains(out, "error") || strings.Contains(out, "missing") {
		p.t.Errorf("git fsck:\n%s", out)
	}
	for _, pattern := range []string{"objects/pack/*.keep", "objects/pack/tmp_*", "objects/tmp_*", "*.lock", "refs/heads/*.lock"} {
		if left, _ := filepath.Glob(filepath.Join(p.host, ".git", pattern)); len(left) > 0 {
			p.t.Errorf("%q is left", left)
		}
	}
}

func (p *pair) is(got, want string) {
	p.t.Helper()
	if got != want {
		p.t.Errorf("got %q; want %q", got, want)
	}
}
