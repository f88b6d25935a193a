package engine

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// Committed is what a machine committed in one repository.
type Committed struct {
	Dir string // of its working tree in the workspace; "." for the workspace
	// Err is why its commits cannot be brought back; nothing else is set then.
	Err      error
	Branches []commits.Branch
	// Onto is the branch that is checked out and goes on to the machine's commits; "" if it
	// stays, because of Stay. With Checkout it is the machine's, which is checked out.
	Onto     string
	Checkout bool
	Stay     commits.Stay
	// Differs is how many files of Onto's commits are not as the machine's working tree has
	// them, after a review.
	Differs  int
	Identity commits.Identity // who commits in the machine
	// Worktrees are directories of the machine in which branches are checked out besides
	// that of the workspace, by the branch.
	Worktrees map[string]string

	head    string // the branch that the machine has checked out there
	prefix  string // of Dir in the working tree of the repository, with a slash at its end
	repo    *commits.Repository
	imp     *commits.Import
	forward *commits.Forwarding
	dirty   map[string]bool // paths that are not as the machine's last commit has them
	unsure  bool            // any may be
}

// identity is who commits in the machine.
func (m Machine) identity() commits.Identity {
	git := m.p.Guest.Git
	person := func(role string) commits.Person {
		get := func(part string) string {
			if v := git[role+"."+part]; v != "" {
				return v
			}
			return git["user."+part]
		}
		return commits.Person{Name: get("name"), Email: get("email")}
	}
	return commits.Identity{Author: person("author"), Committer: person("committer")}
}

// leaveGit takes what is git's own out of c.Edits: it never comes back as files. What a
// review says something of, such as a hook, stays, and is withheld. It returns the
// repositories in which something may have been committed.
func (c *Changes) leaveGit() (repositories []string) {
	bare := c.bareRepositories()
	asked := make(map[string]bool)
	ask := func(dir string) {
		if !asked[dir] && len(repositories) < maxRepositories {
			asked[dir] = true
			repositories = append(repositories, dir)
		}
	}
	var others bool // repositories whose files are in that of another
	c.Edits = workspace.Without(c.Edits, func(e *workspace.Edit) bool {
		if !commits.Own(e.Path) && !bare(e.Path) && (e.From == "" || !commits.Own(e.From) && !bare(e.From)) {
			return false
		}
		c.Git++
		carried := c.manifest.GitCarried && (e.Path == ".git" || strings.HasPrefix(e.Path, ".git/"))
		if dir, name, ok := repositoryOf(e.Path); ok && e.Op != workspace.Delete {
			if known := c.manifest.Find(path.Join(dir, ".git")); (known != nil || dir == ".") && movesBranch(name) {
				ask(dir)
			}
			others = others || strings.HasPrefix(name, "modules/") || strings.HasPrefix(name, "worktrees/")
		}
		return carried || e.Op == workspace.Delete || e.Op == workspace.Rename || e.NewKind == workspace.Dir || !isReviewed(e.Path)
	})
	c.plainHooks()
	if others {
		for i := range c.manifest.Entries {
			if e := &c.manifest.Entries[i]; e.Kind == workspace.File && strings.HasSuffix(e.Path, "/.git") {
				ask(strings.TrimSuffix(e.Path, "/.git"))
			}
		}
	}
	return repositories
}

// maxRepositories bounds how many a machine is asked about.
const maxRepositories = 64

// repositoryOf splits a path at .git.
func repositoryOf(p string) (dir, name string, ok bool) {
	if rest, ok := strings.CutPrefix(p, ".git/"); ok {
		return ".", rest, true
	}
	dir, name, ok = strings.Cut(p, "/.git/")
	return dir, name, ok
}

// movesBranch reports whether a file in .git says where a branch is.
func movesBranch(name string) bool {
	return name == "HEAD" || name == "packed-refs" || strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "reftable/")
}

// isReviewed reports whether a review says something of a file of git's own.
func isReviewed(p string) bool {
	name := path.Base(p)
	return path.Base(path.Dir(p)) == "hooks" || path.Base(path.Dir(p)) == "info" || name == "config" || name == "config.worktree"
}

// bareRepositories returns a function that says whether a path is in a directory that git
// takes for a repository, whatever its name is.
func (c *Changes) bareRepositories() func(string) bool {
	heads := make(map[string]int)
	const head, objects, refs = 1, 2, 4
	look := func(p string, dir bool) {
		switch path.Base(p) {
		case "HEAD":
			heads[path.Dir(p)] |= head
		case "objects":
			if dir {
				heads[path.Dir(p)] |= objects
			}
		case "refs":
			if dir {
				heads[path.Dir(p)] |= refs
			}
		}
	}
	for i := range c.manifest.Entries {
		look(c.manifest.Entries[i].Path, c.manifest.Entries[i].Kind == workspace.Dir)
	}
	for i := range c.Edits {
		if e := &c.Edits[i]; e.Op != workspace.Delete {
			look(e.Path, e.NewKind == workspace.Dir)
		}
	}
	bare := make(map[string]bool)
	for dir, has := range heads {
		if has == head|objects|refs {
			bare[dir] = true
		}
	}
	return func(p string) bool {
		if len(bare) == 0 {
			return false
		}
		for ; p != "."; p = path.Dir(p) {
			if bare[p] {
				return true
			}
		}
		return bare["."]
	}
}

// findCommits looks at what was committed in repositories.
func (c *Changes) findCommits(ctx context.Context, repositories []string) error {
	who := c.machine.identity()
	if who == (commits.Identity{}) && len(repositories) > 0 {
		if facts, err := gitFacts(ctx, c.manifest.Root); err == nil {
			name, mail, _ := strings.Cut(facts.Identity, " <")
			who.User = commits.Person{Name: name, Email: strings.TrimSuffix(mail, ">")}
		}
	}
	for _, dir := range repositories {
		r := &Committed{Dir: dir, Identity: who}
		err := c.look(ctx, r)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			r.close()
			*r = Committed{Dir: dir, Err: err}
		}
		if r.Err != nil || len(r.Branches) > 0 {
			c.Committed = append(c.Committed, r)
		}
	}
	return nil
}

// look imports the commits of one repository.
func (c *Changes) look(ctx context.Context, r *Committed) error {
	m := c.machine
	in := path.Join(m.p.Workspace.Path, r.Dir)
	now, err := m.gitState(ctx, in)
	if err != nil {
		return err
	}
	host, err := filepath.EvalSymlinks(filepath.Join(c.manifest.Root, r.Dir))
	if err != nil {
		return err
	}
	if r.repo, err = commits.Open(ctx, host, m.m.Dir); err != nil {
		return err
	}
	if r.Dir == "." {
		r.prefix = c.manifest.GitPrefix
	}
	if filepath.Join(r.repo.Top(), r.prefix) != host {
		return fmt.Errorf("%w: it is no repository any more", commits.ErrRepository)
	}
	again, landed := m.e.again(c.manifest.Root, r.Dir)
	tips, err := r.repo.Tips(ctx, landed)
	if err != nil {
		return err
	}
	lacks, err := r.repo.Lacks(ctx, now.refs, again, tips)
	if err != nil || len(lacks) == 0 {
		return err
	}
	limits := commits.DefaultLimits()
	bundle, err := m.bundle(ctx, in, lacks, tips, limits)
	if err != nil {
		return err
	}
	defer bundle.Close()
	if r.imp, err = r.repo.Import(ctx, bundle, tips, limits); err != nil {
		return err
	}
	r.Branches, r.Worktrees, r.head, r.dirty = r.imp.Branches, now.worktrees, now.branch, now.dirty
	r.unsure = now.unsure
	r.forward, r.Stay, err = r.imp.Forward(ctx, now.branch, r.prefix)
	if r.forward != nil {
		r.Onto = now.branch
	}
	return err
}

// file returns the path in the workspace of one of the repository, "" if it is not there.
func (r *Committed) file(p string) string {
	rest, ok := strings.CutPrefix(p, r.prefix)
	if !ok {
		return ""
	}
	return path.Join(r.Dir, rest)
}

func (r *Committed) close() error {
	if r.repo == nil {
		return nil
	}
	return r.repo.Close()
}

// BranchOnly makes the checked-out branches stay where they are.
func (c *Changes) BranchOnly() {
	for _, r := range c.Committed {
		if r.forward != nil {
			r.forward, r.Onto, r.Stay = nil, "", commits.StayUnwanted
		}
	}
	c.leaveToBranches()
}

// Checkout has the branches that are made of the commits checked out, and those that are stay.
func (c *Changes) Checkout(ctx context.Context) (err error) {
	for _, r := range c.Committed {
		if r.Err != nil {
			continue
		}
		r.Onto = ""
		if r.forward, r.Stay, err = r.imp.Checkout(ctx, r.head, r.prefix); err != nil {
			return err
		}
		if r.forward != nil {
			r.Onto, r.Checkout = r.head, true
		}
	}
	c.leaveToBranches()
	return nil
}

// Rebase makes commits anew on top of the checked-out branch where that has others, so that
// it can go on to them. If that is not possible for one of them nothing is changed.
func (c *Changes) Rebase(ctx context.Context) error {
	for _, r := range c.Committed {
		if r.Err != nil || r.Stay != commits.StayMoved {
			continue
		}
		merged, err := r.imp.Rebase(ctx, r.head)
		if conflict, ok := errors.AsType[*commits.ConflictError](err); ok {
			return fault.New(fault.RebaseConflict, args{"name": c.machine.Name(), "commit": conflict.Commit}, "nothing was applied: %s", termsafe.Line(conflict.Error()))
		}
		if err != nil {
			return err
		}
		if r.Branches, r.Stay = r.imp.Branches, commits.StayMerged; !merged {
			if r.forward, r.Stay, err = r.imp.Forward(ctx, r.head, r.prefix); err != nil {
				return err
			}
		}
		if r.forward != nil {
			r.Onto = r.head
		}
	}
	c.leaveToBranches()
	return nil
}

// leaveToBranches takes the edits out of c.Edits that come with branches.
func (c *Changes) leaveToBranches() {
	c.Edits = c.all
	for _, r := range c.Committed {
		c.leaveToBranch(r)
	}
}

// leaveToBranch takes the edits out of c.Edits that are in the commits of the branch that
// the machine has checked out, where that becomes a branch of the user's: to merge it,
// git wants files that are as before. What the machine did not commit stays.
func (c *Changes) leaveToBranch(r *Committed) {
	if r.Err != nil || r.forward != nil {
		return
	}
	committed := make(map[string]bool)
	for _, b := range r.Branches {
		if b.Name == r.head {
			for _, p := range b.Paths {
				if !r.unsure && !r.dirty[p.Path] {
					committed[r.file(p.Path)] = true
				}
			}
		}
	}
	c.Edits = workspace.Without(c.Edits, func(e *workspace.Edit) bool {
		return committed[e.Path] || e.Op == workspace.Rename && anyBelow(committed, e.Path)
	})
}

func anyBelow(paths map[string]bool, dir string) bool {
	for p := range paths {
		if strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

// landCommits makes branches of all commits.
func (c *Changes) landCommits(ctx context.Context) error {
	for _, r := range c.Committed {
		if r.Err == nil {
			r.imp.Sign = c.Sign
			if err := r.imp.Land(ctx, c.machine.Name()); err != nil {
				return err
			}
			r.Branches = r.imp.Branches
		}
	}
	return nil
}

// moveBranches lets the checked-out branches go on whose files are all there now.
func (c *Changes) moveBranches(ctx context.Context, applied []*workspace.Edit, conflicts []workspace.Conflict) error {
	if !slices.ContainsFunc(c.Committed, func(r *Committed) bool { return r.forward != nil }) {
		return nil
	}
	there := make(map[string]bool)
	for _, e := range applied {
		there[e.Path] = !e.Partial
	}
	for _, conflict := range conflicts {
		there[conflict.Path] = false
	}
	for _, r := range c.Committed {
		if r.forward == nil {
			continue
		}
		paths := make(map[string]bool)
		for _, p := range r.forward.Branch.Paths {
			paths[r.file(p.Path)] = true
		}
		stay := commits.Stay("")
		for p := range paths {
			if c.Left.Has(p) {
				stay = commits.StayFiles
			}
		}
		for i := range c.Edits {
			if e := &c.Edits[i]; paths[e.Path] && !there[e.Path] || e.Op == workspace.Rename && !there[e.Path] && anyBelow(paths, e.Path) {
				stay = commits.StayFiles
			}
		}
		if stay == "" {
			var err error
			if stay, err = r.forward.Move(ctx, c.machine.Name()); err != nil {
				return err
			}
		}
		if r.Branches = r.imp.Branches; stay != "" {
			r.Onto, r.Stay = "", stay
		}
	}
	return nil
}
