package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// maxGitRefs bounds what is heard of the machine's references.
const maxGitRefs = 25_000

// refsScript prints what the machine's references name, and the last commits: of those the
// user has some, also where all branches went on.
const refsScript = `git for-each-ref --count=20000 --sort=-creatordate --format='%(objectname) %(refname)' refs/mayfly refs/heads refs/remotes &&
git rev-list --all --max-count=2000`

// takeScript has references of the machine say what they are to, once all that they reach is
// there: tips, a line of its own, and what git update-ref reads.
const takeScript = `tips= && while read -r id && [ "$id" ]; do tips="$tips$id
"; done && { [ -z "$tips" ] || printf %s "$tips" | git rev-list --objects --quiet --stdin --not --all; } && git update-ref --no-deref --stdin`

// give sends the commits of the workspace's repository that the machine lacks. Its branches,
// index and files stay as they are. It says why it could not.
func (s *Sync) give(ctx context.Context, c *copied, dry bool) (given []commits.Given, note *workspace.Note, err error) {
	m := s.machine
	if !c.manifest.GitCarried && c.manifest.Find(".git") == nil {
		return nil, nil, nil
	}
	given, err = s.giveTo(ctx, c, dry)
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, &workspace.Note{Path: ".git", Text: "commits were not sent to " + m.Name() + ": " + termsafe.Line(err.Error())}, nil
	}
	return given, nil, nil
}

func (s *Sync) giveTo(ctx context.Context, c *copied, dry bool) ([]commits.Given, error) {
	m := s.machine
	host, err := filepath.EvalSymlinks(c.manifest.Root)
	if err != nil {
		return nil, err
	}
	if !commits.Works(host) {
		return nil, nil
	}
	repo, err := commits.Open(ctx, host, m.m.Dir)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	refs, err := repo.State(ctx)
	if err != nil || refs == s.given {
		return nil, err
	}
	dir := m.p.Workspace.Path
	var out bytes.Buffer
	ask, cancel := context.WithTimeoutCause(ctx, gitTimeout, fmt.Errorf("git in the machine gave no answer in %v", gitTimeout))
	defer cancel()
	if err := m.git(ask, dir, []string{"sh", "-c", refsScript}, nil, &limited{w: &out, left: maxGitState}); err != nil {
		return nil, err
	}
	var has []commits.Ref
	for line := range strings.Lines(out.String()) {
		if id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); len(has) < maxGitRefs {
			has = append(has, commits.Ref{Name: name, ID: id})
		}
	}
	carried, err := c.carriedRefs()
	if err != nil {
		return nil, err
	}
	gift, err := repo.Give(ctx, has, carried)
	if err != nil {
		return nil, err
	}
	if dry {
		return gift.Branches, nil
	}
	if !gift.Empty() {
		err = m.takeGift(ctx, repo, gift, dir)
	}
	if err != nil || !gift.More {
		s.given = refs // also what a machine does not take is not sent again for each edit
	}
	if err != nil {
		return nil, err
	}
	return gift.Branches, nil
}

// carriedRefs returns the references that were carried with the copy of a directory whose
// repository is not in it, nil for one that is. They are those of the image, not of the machine,
// which would name others to get what was kept from it.
func (c *copied) carriedRefs() (map[string]bool, error) {
	if !c.manifest.GitCarried {
		return nil, nil
	}
	refs := make(map[string]bool)
	f, err := c.packed.Open(".git/packed-refs")
	if errors.Is(err, fs.ErrNotExist) {
		return refs, nil
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		_, name, _ := strings.Cut(lines.Text(), " ")
		refs[name] = true
	}
	return refs, lines.Err()
}

// takeGift has the machine take commits: first the objects, then the references.
func (m Machine) takeGift(ctx context.Context, repo *commits.Repository, gift *commits.Gift, dir string) error {
	limits := commits.DefaultLimits()
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Time, fmt.Errorf("git in the machine did not take commits in %v", limits.Time))
	defer cancel()
	tips, pack := gift.Tips()
	if pack {
		r, w := io.Pipe()
		packed := make(chan error, 1)
		go func() {
			err := repo.Pack(ctx, gift, w, limits)
			w.CloseWithError(err)
			packed <- err
		}()
		err := m.git(ctx, dir, []string{"git", "index-pack", "--stdin", "--fix-thin"}, r, io.Discard)
		r.CloseWithError(errors.New("the machine takes no more"))
		if packErr := <-packed; err == nil {
			err = packErr
		}
		if err != nil {
			return err
		}
	}
	// A name that goes may be in the way of one that comes.
	if len(gift.Gone) > 0 {
		in := "\n"
		for _, ref := range gift.Gone {
			in += "delete " + ref + "\n"
		}
		if err := m.git(ctx, dir, []string{"sh", "-c", takeScript}, strings.NewReader(in), io.Discard); err != nil {
			return err
		}
	}
	if len(gift.Branches) == 0 {
		return nil
	}
	in := strings.Join(tips, "\n") + "\n\n"
	for _, b := range gift.Branches {
		in += "update " + b.Ref + " " + b.Tip + "\n"
	}
	return m.git(ctx, dir, []string{"sh", "-c", takeScript}, strings.NewReader(in), io.Discard)
}
