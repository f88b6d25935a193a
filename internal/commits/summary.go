package commits

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
)

// Branch is a branch of the machine's with commits that the repository lacks. All in it
// is the machine's word: nothing of it may be printed as it is.
type Branch struct {
	Name    string   // in the machine, without refs/heads/; HEAD for commits that are on none
	Tip     string   // the last commit
	Sent    string   // the same as it was in the machine
	Count   int      // of new commits
	Commits []Commit // the last ones, newest first
	Base    string   // the last commit that it has in common with the user's HEAD; "" for none
	Paths   []Path   // that differ between Base and Tip
	// Land is the branch of the user's repository that Land made of it, as mayfly/NAME/BRANCH.
	Land string
}

// Commit is a commit as it describes itself.
type Commit struct {
	ID        string
	Parents   []string
	Author    Person
	Committer Person
	Subject   string // the first line of its message
	Signed    bool   // there is a signature, which nobody checked
	First     bool   // of a repository that has no commits yet
}

// Person is who made a commit.
type Person struct {
	Name, Email string
	Time        time.Time
}

// Path is a path that a branch changes; a mode is 0 where there is none.
type Path struct {
	Path             string
	OldMode, NewMode uint32 // git's: 100644, 100755, 120000, 160000 in octal
	ID               string // of the new content's object; "" for the paths beyond the first ones
}

// Flag is what the user should know of a commit.
type Flag string

// The flags.
const (
	FlagIdentity  Flag = "identity"  // author or committer are not who commits in the machine
	FlagSigned    Flag = "signed"    // a signature, which was not checked
	FlagMerge     Flag = "merge"     // more than one parent
	FlagUnrelated Flag = "unrelated" // no parent: the beginning of another history
	FlagFuture    Flag = "future"    // made tomorrow or later
)

// Identity is who commits in a machine. Where nobody does by name, User is who commits on the
// host: whoever else made commits, that was not the user.
type Identity struct{ Author, Committer, User Person }

// Flags returns the flags of a commit that was looked at at a time.
func (c Commit) Flags(who Identity, now time.Time) []Flag {
	var flags []Flag
	other := func(p, want Person) bool {
		return want.Email != "" && !strings.EqualFold(p.Email, want.Email) || want.Name != "" && p.Name != want.Name
	}
	user := func(p, machine Person) bool {
		return machine == Person{} && who.User.Email != "" && strings.EqualFold(p.Email, who.User.Email)
	}
	if other(c.Author, who.Author) || other(c.Committer, who.Committer) || user(c.Author, who.Author) || user(c.Committer, who.Committer) {
		flags = append(flags, FlagIdentity)
	}
	if c.Signed {
		flags = append(flags, FlagSigned)
	}
	switch {
	case len(c.Parents) > 1:
		flags = append(flags, FlagMerge)
	case len(c.Parents) == 0 && !c.First:
		flags = append(flags, FlagUnrelated)
	}
	if tomorrow := now.Add(24 * time.Hour); c.Author.Time.After(tomorrow) || c.Committer.Time.After(tomorrow) {
		flags = append(flags, FlagFuture)
	}
	return flags
}

// Bounds of a summary, which is in memory. Those of all branches are for them together.
const (
	maxShown     = 200      // commits of a branch that are described
	maxShownAll  = 2000     // of all branches
	maxPaths     = 500_000  // that all branches may change
	maxPathBytes = 64 << 20 // of these
	maxPathIDs   = 10_000   // of a branch, whose contents are named
	maxSubject   = 1000     // bytes of a subject
	maxPerson    = 250      // of a name, of an address
	maxParents   = 20       // of a commit
)

// summarize says what is in the quarantine, which is all that it reads, and on what of the
// user's HEAD it builds.
func (im *Import) summarize(ctx context.Context, head Head, refs []Ref) error {
	tips := make(map[string]bool)
	for _, ref := range refs {
		if ref.Name != headRef {
			tips[ref.ID] = true
		}
	}
	for _, ref := range refs {
		if ref.Name == headRef && tips[ref.ID] {
			continue // on a branch, after all
		}
		b := Branch{Name: strings.TrimPrefix(ref.Name, branchPrefix), Tip: ref.ID, Sent: ref.ID}
		ids, from, err := im.newCommits(ctx, ref.ID)
		if err != nil {
			return err
		}
		if b.Count = len(ids); b.Count == 0 {
			continue
		}
		if head.ID != "" && !from[head.ID] {
			// Where both went on, the user may have taken some by other commits.
			taken, err := im.taken(ctx, head.ID, ref.ID)
			if err != nil {
				return err
			}
			ids = slices.DeleteFunc(ids, func(id string) bool { return taken[id] })
			if b.Count = len(ids); b.Count == 0 {
				continue
			}
		}
		if b.Commits, err = im.describe(ctx, ids[:min(len(ids), maxShown, maxShownAll-im.shown)]); err != nil {
			return err
		}
		im.shown += len(b.Commits)
		for i := range b.Commits {
			b.Commits[i].First = len(im.exclude) == 0 && len(b.Commits[i].Parents) == 0
		}
		switch {
		case from[head.ID]:
			b.Base = head.ID
		case head.ID != "":
			base, err := gitrun.Output(ctx, im.cmd("merge-base", head.ID, b.Tip), 1000)
			if err != nil && !gitrun.Failed(err, 1) {
				return err
			}
			b.Base = base
		}
		if b.Paths, err = im.changed(ctx, b.Base, b.Tip); err != nil {
			return err
		}
		im.Branches = append(im.Branches, b)
	}
	return nil
}

// newCommits returns the new commits of a tip, newest first, and the commits of the user's
// that they build on.
func (im *Import) newCommits(ctx context.Context, tip string) (ids []string, from map[string]bool, err error) {
	from = make(map[string]bool)
	c := im.cmd("rev-list", "--topo-order", "--boundary", "--stdin")
	c.Stdin = strings.NewReader(im.revisions(tip))
	c.Stdout = &records{end: '\n', each: func(id string) error {
		if old, ok := strings.CutPrefix(id, "-"); ok {
			from[old] = true
		} else {
			ids = append(ids, id)
		}
		if len(ids) > im.limits.Commits || len(from) > im.limits.Commits {
			return errors.New("too many")
		}
		return nil
	}}
	err = im.run(ctx, c)
	if len(ids) > im.limits.Commits {
		err = refused("more than %d commits", im.limits.Commits)
	}
	return ids, from, err
}

// describe reads commits.
func (im *Import) describe(ctx context.Context, ids []string) ([]Commit, error) {
	r, w := io.Pipe()
	defer r.Close()
	c := im.cmd("cat-file", "--batch", "--buffer")
	c.Stdin, c.Stdout = strings.NewReader(strings.Join(ids, "\n")+"\n"), w
	done := make(chan error, 1)
	go func() {
		err := im.run(ctx, c)
		w.CloseWithError(err)
		done <- err
	}()
	var commits []Commit
	in := bufio.NewReader(r)
	for _, id := range ids {
		text, err := nextObject(in, id)
		if err != nil {
			r.Close()
			<-done
			return nil, refused("commit %s: %w", id, err)
		}
		commits = append(commits, parseCommit(id, text))
	}
	r.Close()
	<-done // git may not like that nobody reads on
	return commits, nil
}

// maxCommit is how much of a commit is looked at.
const maxCommit = 64 << 10

// nextObject returns the beginning of the next object that git cat-file --batch prints.
func nextObject(in *bufio.Reader, id string) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	size, err := strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(line, id+" commit ")), 10, 64)
	if err != nil || size < 0 {
		return "", errors.New("git did not print it")
	}
	text := make([]byte, min(size, maxCommit))
	if _, err := io.ReadFull(in, text); err != nil {
		return "", err
	}
	_, err = io.CopyN(io.Discard, in, size-int64(len(text))+1) // and the line's end
	return string(text), err
}

// parseCommit reads a commit object. What it does not understand it leaves out: git has
// checked the object.
func parseCommit(id, text string) Commit {
	c := Commit{ID: id}
	head, message, _ := strings.Cut(text, "\n\n")
	for line := range strings.SplitSeq(head, "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "parent":
			if len(c.Parents) < maxParents {
				c.Parents = append(c.Parents, strings.Clone(value))
			}
		case "author":
			c.Author = parsePerson(value)
		case "committer":
			c.Committer = parsePerson(value)
		case "gpgsig", "gpgsig-sha256":
			c.Signed = true
		}
	}
	subject, _, _ := strings.Cut(strings.TrimLeft(message, "\n"), "\n")
	c.Subject = clip(subject, maxSubject)
	return c
}

// clip returns the beginning of s without keeping the rest in memory.
func clip(s string, most int) string { return strings.Clone(s[:min(len(s), most)]) }

func parsePerson(text string) Person {
	var p Person
	name, rest, _ := strings.Cut(text, "<")
	mail, when, _ := strings.Cut(rest, ">")
	p.Name, p.Email = clip(strings.TrimSpace(name), maxPerson), clip(strings.TrimSpace(mail), maxPerson)
	if seconds, err := strconv.ParseInt(strings.Split(strings.TrimSpace(when), " ")[0], 10, 64); err == nil {
		p.Time = time.Unix(seconds, 0)
	}
	return p
}

// emptyTree is the name of a tree without entries.
var emptyTree = map[string]string{
	"sha1":   "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
	"sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}

// changed returns what differs between two commits; the first may be "".
func (im *Import) changed(ctx context.Context, base, tip string) ([]Path, error) {
	var paths []Path
	var meta string
	c := im.cmd("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-ext-diff", "--no-textconv", im.repo.tree(base), tip)
	c.Stdout = &records{end: 0, each: func(part string) error {
		if meta == "" {
			meta = part
			return nil
		}
		p := Path{Path: part}
		var old string
		if _, err := fmt.Sscanf(meta, ":%o %o %s %s", &p.OldMode, &p.NewMode, &old, &p.ID); err != nil {
			return err
		}
		if len(paths) >= maxPathIDs {
			p.ID = ""
		}
		meta = ""
		paths = append(paths, p)
		im.paths++
		if im.pathBytes += len(part); im.paths > maxPaths || im.pathBytes > maxPathBytes {
			return errors.New("too many paths")
		}
		if len(part) > 4095 || slices.ContainsFunc(strings.Split(part, "/"), func(name string) bool { return len(name) > 255 }) {
			return errors.New("a path that no file can have")
		}
		return nil
	}}
	err := im.run(ctx, c)
	return paths, err
}
