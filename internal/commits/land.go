package commits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
	"github.com/mayfly-vm/mayfly/internal/workspace/repository"
)

// Land puts the commits into the user's repository, as branches below mayfly/NAME, where
// name is the machine's; what they are is in Branches afterwards. All of them are made,
// or none. A branch of an earlier time goes on if the new commits build on it; else
// another name is taken: nothing is forced.
func (im *Import) Land(ctx context.Context, name string) error {
	if len(im.Branches) == 0 {
		return nil
	}
	if err := im.bring(ctx); err != nil {
		return err
	}
	if im.Sign {
		if err := im.sign(ctx); err != nil {
			return err
		}
	}
	// Another git may take a name meanwhile: then the transaction fails as a whole.
	for attempt := 0; ; attempt++ {
		changes, err := im.place(ctx, name)
		if err != nil {
			return err
		}
		if err = im.repo.update(ctx, "mayfly: from machine "+name, changes); err == nil || attempt == 2 || ctx.Err() != nil {
			return err
		}
	}
}

// change is one of a reference. An empty old value is that of a new one, an empty new
// value that of one that goes.
type change struct{ ref, new, old string }

// update carries out changes, all or none.
func (r *Repository) update(ctx context.Context, why string, changes []change) error {
	var in strings.Builder
	for _, c := range changes {
		switch {
		case c.new == "":
			fmt.Fprintf(&in, "delete %s\x00%s\x00", c.ref, c.old)
		case c.old == "":
			fmt.Fprintf(&in, "create %s\x00%s\x00", c.ref, c.new)
		default:
			fmt.Fprintf(&in, "update %s\x00%s\x00%s\x00", c.ref, c.new, c.old)
		}
	}
	if in.Len() == 0 {
		return nil
	}
	if r.Record != nil {
		moves := make([]Moved, len(changes))
		for i, c := range changes {
			moves[i] = Moved{Ref: c.ref, Old: c.old, New: c.new}
		}
		if err := r.Record(moves); err != nil {
			return err
		}
	}
	if err := r.makeLogs(); err != nil {
		return err
	}
	cmd := r.cmd("update-ref", "--no-deref", "-m", why, "--stdin", "-z")
	cmd.Stdin = strings.NewReader(in.String())
	if err := gitrun.Run(ctx, cmd); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return unfit("make branches: %s", gitrun.Reason(err))
	}
	return nil
}

// makeLogs makes the directory of reflogs, which git cannot make through a link.
func (r *Repository) makeLogs() error {
	err := os.Mkdir(filepath.Join(r.place.Common, "logs"), 0o777)
	if err == nil || errors.Is(err, os.ErrExist) {
		err = os.Mkdir(filepath.Join(r.place.Common, "logs/refs"), 0o777)
	}
	if err == nil || errors.Is(err, os.ErrExist) {
		err = os.Mkdir(filepath.Join(r.place.Dir, "logs"), 0o777)
	}
	if err == nil || errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// bring copies the new objects into the repository, in a pack that git makes anew: what
// the machine packed stays in the quarantine, where all of it was checked. Until it is
// whole the pack has a name that git gc clears away. After that a gc leaves it for two
// weeks, as all that is new, although no reference leads to it yet.
func (im *Import) bring(ctx context.Context) error {
	list, err := os.Open(im.list)
	if err != nil {
		return err
	}
	defer list.Close()
	c := im.repo.cmd("pack-objects", "--quiet", "--delta-base-offset", filepath.Join(im.repo.view, "objects/pack/pack"))
	c.Limits = im.limits.tool()
	c.Env = append(slices.Clone(c.Env), "GIT_ALTERNATE_OBJECT_DIRECTORIES="+quoted(filepath.Join(im.dir, "objects")))
	c.Stdin = list
	if err := gitrun.Run(ctx, c); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return unfit("git pack-objects: %s", gitrun.Reason(err))
	}
	return nil
}

// OfMachine reports whether a reference is a branch of the kind that Land makes.
func OfMachine(ref string) bool {
	return strings.HasPrefix(ref, branchPrefix+top+"/") || strings.HasPrefix(ref, branchPrefix+otherTop+"/")
}

// The directories of branches that Land makes: the other one where a branch has the first
// name, as nothing can be below a branch.
const top, otherTop = "mayfly", "mayfly-machines"

// place chooses names and returns the changes that give them to the tips.
func (im *Import) place(ctx context.Context, name string) ([]change, error) {
	out, err := im.repo.git(ctx, "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads")
	if err != nil {
		return nil, err
	}
	have := newBranches()
	for line := range strings.Lines(out) {
		id, branch, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		have.add(branch, id)
	}
	used := im.repo.checkedOut()
	above := top
	if have.folded[above] {
		above = otherTop
	}
next:
	for n := 1; n < 1000; n++ {
		root := above + "/" + name
		if n > 1 {
			root += "-" + strconv.Itoa(n)
		}
		wanted := newBranches()
		var changes []change
		for i := range im.Branches {
			b := &im.Branches[i]
			branch := wanted.free(root, ownName(b.Name))
			wanted.add(branch, b.Tip)
			old, exists := have.id[branch]
			switch {
			case exists && old == b.Tip:
			case exists && !used[branch]:
				if ok, err := im.isAncestor(ctx, old, b.Tip); err != nil {
					return nil, err
				} else if !ok {
					continue next
				}
				changes = append(changes, change{branchPrefix + branch, b.Tip, old})
			case have.taken(branch):
				continue next
			default:
				changes = append(changes, change{branchPrefix + branch, b.Tip, ""})
			}
			b.Land = branch
		}
		return changes, nil
	}
	return nil, unfit("there are too many branches of %s", name)
}

func (im *Import) isAncestor(ctx context.Context, old, new string) (bool, error) {
	err := gitrun.Run(ctx, im.cmd("merge-base", "--is-ancestor", old, new))
	if gitrun.Failed(err, 1) {
		return false, nil
	}
	return err == nil, err
}

// checkedOut returns the branches that some working tree has: if one of them changed, all
// of that tree's files would seem to be.
func (r *Repository) checkedOut() map[string]bool {
	used := make(map[string]bool)
	heads, _ := filepath.Glob(filepath.Join(globQuote(r.place.Common), "worktrees/*"))
	for _, dir := range append(heads, r.place.Common) {
		text, _ := repository.ReadHead(dir)
		if branch, ok := strings.CutPrefix(strings.TrimSpace(text), "ref: "+branchPrefix); ok {
			used[branch] = true
		}
	}
	return used
}

func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// ownName makes a branch's name of a machine's: of letters, digits and few signs, so that
// it is one word of a shell and of a CI's script, and can be a file's on any system.
func ownName(branch string) string {
	if branch == headRef {
		return "detached"
	}
	name := strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/+=-", r) {
			return r
		}
		return '-'
	}, branch)
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		part = strings.Trim(part, ".-")
		if strings.HasSuffix(part, ".lock") || part == "" {
			part += "-"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "/")
}

// branches are names of branches, as a file system sees them that knows no case.
type branches struct {
	id     map[string]string // by the name
	folded map[string]bool
	above  map[string]bool // directories
}

func newBranches() branches {
	return branches{make(map[string]string), make(map[string]bool), make(map[string]bool)}
}

func (b branches) add(name, id string) {
	b.id[name] = id
	name = strings.ToLower(name)
	b.folded[name] = true
	for i, r := range name {
		if r == '/' {
			b.above[name[:i]] = true
		}
	}
}

// taken reports whether there is something by this name, or a branch where it needs a
// directory.
func (b branches) taken(name string) bool {
	name = strings.ToLower(name)
	if b.folded[name] || b.above[name] {
		return true
	}
	for i, r := range name {
		if r == '/' && b.folded[name[:i]] {
			return true
		}
	}
	return false
}

// free returns root/name, or one like it that is not taken.
func (b branches) free(root, name string) string {
	free := root + "/" + name
	for n := 2; b.taken(free); n++ {
		free = root + "/" + strings.ReplaceAll(name, "/", "-") + "-" + strconv.Itoa(n)
	}
	return free
}
