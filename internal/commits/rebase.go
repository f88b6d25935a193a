package commits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
)

// maxRewritten bounds the commits that are made anew, each by a few runs of git.
const maxRewritten = 500

// ConflictError says why commits cannot be made anew on top of the user's.
type ConflictError struct {
	Commit  string
	Subject string
	Paths   []string // that both have changed; none if the commit is of a kind that stays where it is
}

func (e *ConflictError) Error() string {
	if len(e.Paths) == 0 {
		return fmt.Sprintf("commit %s (%s) is a merge or begins another history", e.Commit[:10], e.Subject)
	}
	return fmt.Sprintf("commit %s (%s) changes what the branch here has changed, too: %s", e.Commit[:10], e.Subject, strings.Join(e.Paths, ", "))
}

// Rebase makes the new commits of a branch anew on top of what the user has checked out, in
// the quarantine. Authors, committers and dates stay; signatures, which would be wrong, go.
// If that fails nothing is changed. overlap says that there are files which both the commits
// and the user's have changed: they are then as neither of the two has them.
func (im *Import) Rebase(ctx context.Context, branch string) (overlap bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, im.limits.Time, refused("git was not done with them after %v", im.limits.Time))
	defer cancel()
	head, err := im.repo.head(ctx)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(im.Branches, func(b Branch) bool { return b.Name == branch })
	if i < 0 || head.ID == "" {
		return false, nil
	}
	b := im.Branches[i]
	old, err := im.rewritable(ctx, b.Tip, []string{head.ID})
	if err != nil {
		return false, err
	}
	taken, err := im.taken(ctx, head.ID, b.Tip)
	if err != nil {
		return false, err
	}
	old = slices.DeleteFunc(old, func(c Commit) bool { return taken[c.ID] })
	tree, err := gitrun.Output(ctx, im.cmd("rev-parse", "--verify", head.ID+"^{tree}"), 1000)
	if err != nil {
		return false, err
	}
	b.Tip = head.ID
	for _, c := range old {
		if len(c.Parents) != 1 {
			return false, &ConflictError{Commit: c.ID, Subject: c.Subject}
		}
		text, err := im.raw(ctx, c.ID)
		if err != nil {
			return false, err
		}
		// The same change between its parent and the new one: as a merge of the commit with one
		// that has its parent and the new tree. git 2.39 takes no base for a merge of trees.
		ours, err := im.makeCommit(ctx, rewrite(text, tree, c.Parents))
		if err != nil {
			return false, err
		}
		merged, paths, err := im.merge(ctx, ours, c.ID)
		if err != nil {
			return false, err
		}
		if len(paths) > 0 {
			return false, &ConflictError{Commit: c.ID, Subject: c.Subject, Paths: paths}
		}
		if merged == tree {
			continue // the user has it already
		}
		tree = merged
		if b.Tip, err = im.makeCommit(ctx, rewrite(text, tree, []string{b.Tip})); err != nil {
			return false, err
		}
	}
	theirs, err := im.changed(ctx, b.Base, head.ID)
	if err != nil {
		return false, err
	}
	im.exclude = append(im.exclude, head.ID)
	ids, _, err := im.newCommits(ctx, b.Tip)
	if err != nil {
		return false, err
	}
	b.Base, b.Count = head.ID, len(ids)
	if b.Commits, err = im.describe(ctx, ids[:min(len(ids), maxShown)]); err != nil {
		return false, err
	}
	if b.Paths, err = im.changed(ctx, b.Base, b.Tip); err != nil {
		return false, err
	}
	if im.Branches[i] = b; b.Count == 0 {
		im.Branches = slices.Delete(im.Branches, i, i+1)
	}
	refs := make([]Ref, len(im.Branches))
	for n, b := range im.Branches {
		refs[n] = Ref{Name: branchPrefix + b.Name, ID: b.Tip}
	}
	if err := im.checkConnected(ctx, refs); err != nil {
		return false, err
	}
	changed := make(map[string]bool)
	for _, p := range theirs {
		changed[p.Path] = true
	}
	return slices.ContainsFunc(b.Paths, func(p Path) bool { return changed[p.Path] }), nil
}

// rewritable returns the commits of tip that are not reachable from those of not, oldest first.
func (im *Import) rewritable(ctx context.Context, tip string, not []string) ([]Commit, error) {
	var ids []string
	c := im.cmd("rev-list", "--topo-order", "--reverse", "--stdin")
	c.Stdin = strings.NewReader(tip + "\n^" + strings.Join(not, "\n^") + "\n")
	c.Stdout = &records{end: '\n', each: func(id string) error {
		if ids = append(ids, id); len(ids) > maxRewritten {
			return errors.New("too many")
		}
		return nil
	}}
	err := im.run(ctx, c)
	if len(ids) > maxRewritten {
		err = refused("more than %d commits cannot be made anew", maxRewritten)
	}
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return im.describe(ctx, ids)
}

// raw returns a commit as git stores it.
func (im *Import) raw(ctx context.Context, id string) (string, error) {
	var out bytes.Buffer
	c := im.cmd("cat-file", "commit", id)
	c.Stdout = &limitedBuffer{&out, 16 << 20}
	err := im.run(ctx, c)
	return out.String(), err
}

// limitedBuffer refuses what is too much.
type limitedBuffer struct {
	*bytes.Buffer
	left int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("a commit is too large")
	}
	return b.Buffer.Write(p)
}

// rewrite returns the text of a commit with another tree and other parents.
func rewrite(text, tree string, parents []string) string {
	head, message, _ := strings.Cut(text, "\n\n")
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	for _, id := range parents {
		fmt.Fprintf(&b, "parent %s\n", id)
	}
	keep := false
	for line := range strings.SplitSeq(head, "\n") {
		if !strings.HasPrefix(line, " ") { // which goes on with the line before
			key, _, _ := strings.Cut(line, " ")
			keep = key == "author" || key == "committer" || key == "encoding"
		}
		if keep {
			b.WriteString(line + "\n")
		}
	}
	return b.String() + "\n" + message
}

func (im *Import) makeCommit(ctx context.Context, text string) (string, error) {
	c := im.cmd("hash-object", "-t", "commit", "-w", "--stdin")
	c.Stdin = strings.NewReader(text)
	id, err := gitrun.Output(ctx, c, 1000)
	if err != nil && ctx.Err() == nil {
		err = refused("git hash-object: %s", gitrun.Reason(err))
	}
	return id, err
}

// merge merges two commits, and returns the tree, or the paths that stand against it.
func (im *Import) merge(ctx context.Context, ours, theirs string) (tree string, paths []string, err error) {
	var parts []string
	c := im.cmd("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs)
	c.Stdout = &records{end: 0, each: func(part string) error {
		if len(parts) < 20 {
			parts = append(parts, part)
		}
		return nil
	}}
	err = gitrun.Run(ctx, c)
	switch {
	case err != nil && !gitrun.Failed(err, 1):
		if ctx.Err() == nil {
			err = refused("git merge-tree: %s", gitrun.Reason(err))
		}
		return "", nil, err
	case len(parts) == 0 || !isID(parts[0], im.repo.format):
		return "", nil, refused("git merge-tree gave no tree")
	case err != nil && len(parts) == 1:
		return "", nil, refused("git merge-tree gave no path")
	}
	return parts[0], slices.DeleteFunc(parts[1:], func(p string) bool { return p == "" }), nil
}

// sign makes the new commits anew with signatures, as the user's own git configuration says,
// in the user's repository, where their objects are by now. Of git, this starts what signs
// and nothing else.
func (im *Import) sign(ctx context.Context) error {
	signed := make(map[string]string)
	for i := range im.Branches {
		b := &im.Branches[i]
		list, err := im.rewritable(ctx, b.Tip, im.exclude)
		if err != nil {
			return err
		}
		for _, commit := range list {
			if signed[commit.ID] != "" {
				continue
			}
			if signed[commit.ID], err = im.signed(ctx, commit, signed); err != nil {
				return err
			}
		}
		if id := signed[b.Tip]; id != "" {
			b.Tip = id
		}
	}
	return nil
}

// signed returns a commit like an old one, with a signature.
func (im *Import) signed(ctx context.Context, old Commit, signed map[string]string) (string, error) {
	text, err := im.raw(ctx, old.ID)
	if err != nil {
		return "", err
	}
	head, message, _ := strings.Cut(text, "\n\n")
	c := gitrun.Cmd{
		Dir: im.repo.place.Top, GitDir: im.repo.place.Dir, Keep: gitrun.KeepUser,
		Args: []string{"commit-tree", "-S"}, Stdin: strings.NewReader(message),
	}
	for line := range strings.SplitSeq(head, "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "tree":
			c.Args = append(c.Args, value)
		case "parent":
			if id := signed[value]; id != "" {
				value = id
			}
			c.Args = append(c.Args, "-p", value)
		case "author", "committer":
			name, rest, _ := strings.Cut(value, " <")
			mail, date, _ := strings.Cut(rest, "> ")
			prefix := "GIT_" + strings.ToUpper(key) + "_"
			c.Env = append(c.Env, prefix+"NAME="+name, prefix+"EMAIL="+mail, prefix+"DATE=@"+date)
		case "encoding":
			c.Config = append(c.Config, "i18n.commitEncoding="+value)
		}
	}
	id, err := gitrun.Output(ctx, c, 1000)
	if err != nil && ctx.Err() == nil {
		return "", unfit("sign commit %s: %s", old.ID[:10], gitrun.Reason(err))
	}
	return id, err
}
