package commits

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
)

// Head is what is checked out.
type Head struct {
	Branch string // without refs/heads/; "" for a commit that is on none
	ID     string // "" before the first commit
}

func (r *Repository) head(ctx context.Context) (Head, error) {
	var h Head
	if err := r.copyHead(); err != nil {
		return h, err
	}
	ref, err := gitrun.Output(ctx, r.cmd("symbolic-ref", "--quiet", "HEAD"), 4096)
	if err != nil && !gitrun.Failed(err, 1) {
		return h, err
	}
	h.Branch = strings.TrimPrefix(ref, branchPrefix)
	if h.ID, err = gitrun.Output(ctx, r.cmd("rev-parse", "--quiet", "--verify", "HEAD^{commit}"), 1000); gitrun.Failed(err, 1) {
		err = nil
	}
	return h, err
}

// Stay is the reason why the branch that is checked out does not go on to the machine's
// commits by itself.
type Stay string

// The reasons; "" is none.
const (
	StayOther    Stay = "other"    // the machine's commits are on another branch
	StayMoved    Stay = "moved"    // the branch has other commits, or was rewritten
	StayIndex    Stay = "index"    // something that the commits change is staged
	StayBusy     Stay = "busy"     // a merge, a rebase or the like is not done, or another git runs
	StayOutside  Stay = "outside"  // the commits change files outside of the workspace
	StaySparse   Stay = "sparse"   // the index is one that mayfly leaves alone
	StayFiles    Stay = "files"    // not all of their files were applied
	StayUnwanted Stay = "unwanted" // the user wants it so
	StayMerged   Stay = "merged"   // a rebase merged files that both sides changed
)

// Forwarding is what would move the branch that is checked out.
type Forwarding struct {
	Branch *Branch // of the machine's
	head   Head
	im     *Import

	checkout bool   // HEAD goes to the machine's branch, and the one that was checked out stays
	text     string // of HEAD
}

// Forward says whether the branch that is checked out can go on to the commits that the
// machine has on its branch of this name, and if not, why. The files of the working tree
// are as they will be when all that Branch.Paths names were applied to the working tree;
// those must be below prefix, a path relative to it that ends in a slash, or "".
func (im *Import) Forward(ctx context.Context, machineHead, prefix string) (*Forwarding, Stay, error) {
	return im.forward(ctx, machineHead, prefix, false)
}

// Checkout is Forward for commits that are checked out as the branch that Land makes of them:
// whatever is checked out before stays as it is, and need not be the branch of their name.
func (im *Import) Checkout(ctx context.Context, machineHead, prefix string) (*Forwarding, Stay, error) {
	return im.forward(ctx, machineHead, prefix, true)
}

func (im *Import) forward(ctx context.Context, machineHead, prefix string, checkout bool) (*Forwarding, Stay, error) {
	r := im.repo
	head, err := r.head(ctx)
	if err != nil {
		return nil, "", err
	}
	i := slices.IndexFunc(im.Branches, func(b Branch) bool { return b.Name == machineHead })
	if i < 0 || !checkout && (head.Branch == "" || head.Branch != machineHead) || checkout && head.ID == "" {
		return nil, StayOther, nil
	}
	b := &im.Branches[i]
	text, err := r.headText()
	if err != nil {
		return nil, "", err
	}
	f := &Forwarding{Branch: b, head: head, im: im, checkout: checkout, text: text}
	// All commits build on a branch that has none yet.
	if head.ID != "" {
		if ok, err := im.isAncestor(ctx, head.ID, b.Tip); err != nil || !ok {
			return nil, StayMoved, err
		}
	}
	if slices.ContainsFunc(b.Paths, func(p Path) bool { return !strings.HasPrefix(p.Path, prefix) }) {
		return nil, StayOutside, nil
	}
	for _, name := range []string{
		"MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "sequencer", "BISECT_LOG", "index.lock", "HEAD.lock",
	} {
		if _, err := os.Lstat(filepath.Join(r.place.Dir, name)); err == nil {
			return nil, StayBusy, nil
		}
	}
	shared, _ := filepath.Glob(filepath.Join(globQuote(r.place.Dir), "sharedindex.*"))
	if isTrue(r.settings["core.sparsecheckout"]) || len(shared) > 0 || r.settings["extensions.refstorage"] == "reftable" {
		return nil, StaySparse, nil
	}
	// What the index would be is found out on a copy of it.
	copied := filepath.Join(r.dir, "index")
	defer os.Remove(copied)
	index, err := os.ReadFile(filepath.Join(r.place.Dir, "index"))
	switch {
	case head.ID == "" && errors.Is(err, os.ErrNotExist): // nothing was staged yet
	case err != nil:
		return nil, StaySparse, nil
	default:
		if err := os.WriteFile(copied, index, 0o600); err != nil {
			return nil, "", err
		}
	}
	c := im.cmd("read-tree", "-i", "-m", r.tree(head.ID), b.Tip)
	c.Env = append(c.Env, "GIT_INDEX_FILE="+copied)
	if err := gitrun.Run(ctx, c); err != nil {
		if ctx.Err() != nil {
			return nil, "", err
		}
		return nil, StayIndex, nil
	}
	return f, "", nil
}

// Move moves the branch and the index, once Land has brought the commits and the files of
// the working tree are there. The branch that Land made goes, since this one has its
// commits; with Checkout it is checked out. If anything is not as it was, nothing happens.
func (f *Forwarding) Move(ctx context.Context, name string) (Stay, error) {
	r, from, to := f.im.repo, f.head.ID, f.Branch.Tip
	now, err := r.head(ctx)
	if err != nil || now != f.head {
		return StayMoved, err
	}
	if err := r.readTree(ctx, from, to); err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		return StayIndex, nil
	}
	if f.checkout {
		why := "checkout: moving from " + strings.TrimPrefix(f.text, "ref: "+branchPrefix) + " to " + f.Branch.Land
		if err := r.setHead(ctx, why, f.text, "ref: "+branchPrefix+f.Branch.Land); err != nil {
			r.readTree(context.WithoutCancel(ctx), to, from)
			if errors.Is(err, errMoved) {
				err = nil
			}
			return StayBusy, err
		}
		r.refresh(ctx)
		return "", nil
	}
	changes := []change{{branchPrefix + f.head.Branch, to, from}}
	if f.Branch.Land != "" {
		changes = append(changes, change{branchPrefix + f.Branch.Land, "", to})
	}
	if err := r.update(ctx, "mayfly: fast-forward to machine "+name, changes); err != nil {
		// The index says what it said before, whatever became of ctx.
		r.readTree(context.WithoutCancel(ctx), to, from)
		return StayBusy, err
	}
	f.Branch.Land = ""
	r.refresh(ctx)
	return "", nil
}

// refresh spares git a look into files that are as the index has them. What differs stays so.
func (r *Repository) refresh(ctx context.Context) {
	refresh := r.cmd("update-index", "-q", "--ignore-submodules", "--refresh")
	refresh.Env = append(r.index(), "GIT_WORK_TREE="+r.place.Top)
	refresh.Dir = r.place.Top
	gitrun.Run(ctx, refresh)
}

// readTree makes the index go from one commit to another; "" is the time before the first.
// What is staged besides stays.
func (r *Repository) readTree(ctx context.Context, from, to string) error {
	if to == "" {
		// The index will name the empty tree. git knows what is in it without a file, and fsck
		// misses the file.
		if _, err := r.git(ctx, "hash-object", "-w", "-t", "tree", "--stdin"); err != nil {
			return err
		}
	}
	c := r.cmd("read-tree", "-i", "-m", r.tree(from), r.tree(to))
	c.Env = r.index()
	return gitrun.Run(ctx, c)
}

// tree returns what has the tree of a commit, where "" is none.
func (r *Repository) tree(commit string) string {
	if commit == "" {
		return emptyTree[r.format]
	}
	return commit
}

func (r *Repository) index() []string {
	return append(slices.Clone(committer), "GIT_INDEX_FILE="+filepath.Join(r.place.Dir, "index"))
}
