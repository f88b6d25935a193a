// Package clone copies a git repository, which may be anybody's, into a
// directory of this computer.
//
// A Spec goes in: URL and reference, as the user typed them. A directory with a
// working tree comes out, complete or not at all, and what is in it. Nothing of
// the repository runs: there are no hooks, no filters, no submodules and no file
// system monitor, and objects are checked as they arrive.
//
// git runs twice over. What talks to the server has the user's configuration,
// because that is where credential helpers, proxies and a company's mirrors are;
// it writes objects and references only, no file of the repository's. What
// writes the files has no configuration but the clone's, which this package
// wrote, and may not use the network: an attribute "filter=x" names nothing there.
//
// It never asks: git and ssh have no terminal. It does not run anything in the
// clone afterwards, and nor should its callers. How long it takes is bounded by
// the context; how large a repository is, is not bounded.
package clone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
)

// Options say what to clone, and where to.
type Options struct {
	Spec

	Dir   string // which must not exist; its parent must
	Depth int    // how many commits of history, and of Ref only; 0 for all of everything

	// Progress, if not nil, gets what git and the server say, one line at a time:
	// short, and without control characters.
	Progress func(line string)
}

// Result is what was cloned.
type Result struct {
	Commit string   // full name
	Branch string   // "" when Ref was a tag or a commit: there is no branch
	URL    string   // the clone's origin, without user and password
	Notes  []string // what the user should know, one line each
}

// Clone clones. After an error or the end of ctx nothing is left of it.
func Clone(ctx context.Context, o Options) (_ Result, err error) {
	from, err := o.Spec.resolve()
	if err != nil {
		return Result{}, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return Result{}, err
	}
	if _, err := tool.Find("git"); err != nil {
		return Result{}, fault.New(fault.GitMissing, nil, "clone %s: %w", redact(o.URL), err)
	}
	if o.kind() == byPath {
		if err := checkPath(o.URL); err != nil {
			return Result{}, err
		}
	}
	if _, err := os.Lstat(dir); err == nil {
		return Result{}, fault.New(fault.CloneTargetExists, fault.Args{"url": redact(o.URL), "dir": dir}, "clone %s: %s is there already", redact(o.URL), dir)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".mayfly-clone-")
	if err != nil {
		return Result{}, fmt.Errorf("clone %s: %w", redact(o.URL), err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()

	// A directory in the temporary one, since that is for this user alone.
	g := git{from: from, dir: filepath.Join(temp, "clone"), progress: o.Progress}
	res, err := g.clone(ctx, o)
	if ctx.Err() != nil {
		return Result{}, fmt.Errorf("clone %s: %w", redact(o.URL), context.Cause(ctx))
	}
	if err != nil {
		return Result{}, err
	}
	if err := place(g.dir, dir); err != nil {
		return Result{}, fmt.Errorf("clone %s: %w", redact(o.URL), err)
	}
	return res, nil
}

// checkPath says what is wrong with a repository of this computer.
func checkPath(path string) error {
	if strings.HasPrefix(path, "file://") {
		return nil // git unescapes it
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		args := fault.Args{"path": path}
		if host, rest, ok := strings.Cut(path, "/"); ok && strings.Contains(host, ".") && host[0] != '.' {
			args["better"] = "https://" + host + "/" + rest
		}
		return fault.New(fault.RepositoryDirectoryMissing, args, "clone %s: there is no such directory", clip(path))
	case err != nil:
		return fmt.Errorf("clone %s: %w", clip(path), err)
	case !info.IsDir():
		return fmt.Errorf("clone %s: not a directory", clip(path))
	}
	return nil
}

// place renames a directory, and replaces nothing.
func place(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // not on this file system
		return os.Rename(from, to) // which replaces an empty directory at most
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// clone makes the clone in g.dir.
func (g *git) clone(ctx context.Context, o Options) (Result, error) {
	if err := g.init(ctx, "sha1"); err != nil {
		return Result{}, err
	}
	var have refs
	if err := g.online(ctx, &have, "ls-remote", "--quiet", "--symref", "--", g.from.fetch); err != nil {
		return Result{}, g.explain(o.URL, err)
	}
	want, ok := have.find(o.Ref)
	if !ok {
		return Result{}, missing(o.Spec, &have)
	}
	if have.sha256() {
		if err := os.RemoveAll(g.dir); err != nil {
			return Result{}, err
		}
		if err := g.init(ctx, "sha256"); err != nil {
			return Result{}, err
		}
	}
	if err := g.fetch(ctx, o, want); err != nil {
		return Result{}, err
	}
	remote := []string{"remote", "add"}
	if o.Depth > 0 && want.branch != "" {
		remote = append(remote, "-t", want.branch)
	}
	if err := g.offline(ctx, nil, append(remote, "origin", g.from.stored)...); err != nil {
		return Result{}, g.explain(o.URL, err)
	}
	res := Result{Branch: want.branch, URL: g.from.stored}
	var commit strings.Builder
	if err := g.offline(ctx, &commit, "rev-parse", "--verify", "--quiet", "--end-of-options", want.local()+"^{commit}"); err != nil {
		return Result{}, fmt.Errorf("clone %s: %s is no commit", redact(o.URL), clip(want.ref))
	}
	res.Commit = strings.TrimSpace(commit.String())
	checkout := []string{"checkout", "--quiet", "--no-recurse-submodules"}
	if want.branch != "" {
		checkout = append(checkout, "-B", want.branch, "--track", want.local())
	} else {
		checkout = append(checkout, "--detach", res.Commit)
	}
	if err := g.offline(ctx, nil, checkout...); err != nil {
		return Result{}, g.explain(o.URL, err)
	}
	var err error
	res.Notes, err = g.notes()
	return res, err
}

// fetch gets the objects.
func (g *git) fetch(ctx context.Context, o Options, want target) error {
	args := []string{"fetch", "--progress", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"}
	all := []string{"+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"}
	isCommit := commitID.MatchString(want.ref)
	if o.Depth > 0 {
		args = append(args, "--depth="+strconv.Itoa(o.Depth))
		all = []string{"+" + want.ref + ":" + want.local()}
		if isCommit {
			all = []string{want.ref}
		}
	}
	args = append(args, "--", g.from.fetch)
	if err := g.online(ctx, nil, append(args, all...)...); err != nil {
		return g.explain(o.URL, err)
	}
	if !isCommit || o.Depth > 0 || g.offline(ctx, nil, "cat-file", "-e", want.ref+"^{commit}") == nil {
		return nil
	}
	// It is on no branch: a pull request's, or one that was replaced.
	if err := g.online(ctx, nil, append(args, want.ref)...); err != nil {
		return fault.New(fault.ReferenceMissing, fault.Args{"url": redact(o.URL), "ref": want.ref}, "clone %s: there is no commit %s", redact(o.URL), want.ref)
	}
	return nil
}

// local is what the clone calls it.
func (t target) local() string {
	if t.branch != "" {
		return "refs/remotes/origin/" + t.branch
	}
	return t.ref
}

// missing is the error for a reference that is not there.
func missing(s Spec, have *refs) error {
	if len(have.names) == 0 && have.head == "" {
		return fault.New(fault.RepositoryEmpty, fault.Args{"url": redact(s.URL)}, "clone %s: the repository is empty", redact(s.URL))
	}
	what := fmt.Sprintf("there is no branch, tag or commit %q", clip(s.Ref))
	if s.Ref == "" || s.Ref == "HEAD" {
		what = "it has no default branch"
	}
	args := fault.Args{"url": redact(s.URL), "ref": s.Ref}
	if near := have.near(s.Ref); len(near) > 0 {
		for i, name := range near {
			near[i] = clip(name)
		}
		args["near"] = strings.Join(near, ", ")
	}
	return fault.New(fault.ReferenceMissing, args, "clone %s: %s", redact(s.URL), what)
}

// notes says what a user would miss in the clone.
func (g *git) notes() ([]string, error) {
	root, err := os.OpenRoot(g.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// git has refused every other entry of this name.
	if info, err := root.Lstat(".git"); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("clone: .git is not a directory (%v)", err)
	}
	var notes []string
	if g.from.secret {
		notes = append(notes, "the user and the password of the URL are not kept in the clone")
	}
	if g.from.plain {
		notes = append(notes, "the repository came unencrypted: anybody on the way could have changed it")
	}
	if info, err := root.Lstat(".gitmodules"); err == nil && info.Mode().IsRegular() {
		notes = append(notes, "its submodules were not cloned: git submodule update --init in the machine")
	}
	if text := beginning(root, ".gitattributes"); strings.Contains(text, "filter=lfs") {
		notes = append(notes, "its large files (Git LFS) were not fetched: git lfs pull in the machine")
	}
	return notes, nil
}

// beginning returns the first bytes of a regular file, or "".
func beginning(root *os.Root, name string) string {
	const most = 64 << 10
	if info, err := root.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, most)
	n, _ := f.Read(b)
	return string(b[:n])
}
