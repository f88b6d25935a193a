package commits

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
)

// Carried is what a copy got to know of a repository that is not in it.
type Carried struct {
	// Prefix is the path of the directory in the working tree of the repository, with a
	// slash at its end; "" for all of it.
	Prefix string
	// Cut is the number of the last commits that the copy has; 0 for all of them.
	Cut int
}

// CarryLimits bound what a copy gets of a repository.
type CarryLimits struct {
	Packed int64 // bytes of the packs of a repository whose whole history is carried
	Cut    int   // the last commits that are carried of a larger one
}

// DefaultCarryLimits are for a machine whose user waits for its start.
func DefaultCarryLimits() CarryLimits { return CarryLimits{Packed: 1 << 30, Cut: 1000} }

// Carry makes the new directory to a repository for a copy of the directory dir, which is
// in a working tree whose repository lies elsewhere or borrows objects. It is to be .git
// in the copy, at its top. It has HEAD, the branches and tags that HEAD reaches, the index,
// what is ignored, remotes without passwords, and no more of the configuration than says
// what files are like. There are no hooks. Of a repository with its own directory in dir,
// which only borrows objects, all branches and tags are carried.
//
// In the copy of a sub-directory, the working tree begins above the copy, and all that is
// not in the copy is outside of a sparse checkout. So commits keep the rest of the tree.
func Carry(ctx context.Context, dir, to, temp string, limits CarryLimits) (_ Carried, err error) {
	r, err := Open(ctx, dir, temp)
	if err != nil {
		return Carried{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	c := carrier{r: r, to: to, limits: limits}
	if dir != r.place.Top {
		rel, err := filepath.Rel(r.place.Top, dir)
		if err != nil {
			return Carried{}, err
		}
		c.Prefix = rel + "/"
	}
	if strings.ContainsFunc(c.Prefix, unicode.IsControl) {
		return Carried{}, unfit("its path has a control character")
	}
	c.borrows = filepath.Join(dir, ".git") == r.place.Dir
	return c.Carried, c.carry(ctx)
}

type carrier struct {
	Carried
	r       *Repository
	to      string
	limits  CarryLimits
	borrows bool // it is in the workspace, but for objects
}

func (c *carrier) cmd(args ...string) gitrun.Cmd {
	return gitrun.Cmd{Dir: c.r.dir, GitDir: c.to, Args: args}
}

func (c *carrier) run(ctx context.Context, cmd gitrun.Cmd) error {
	err := gitrun.Run(ctx, cmd)
	if err != nil && ctx.Err() == nil {
		return unfit("git %s: %s", cmd.Args[0], gitrun.Reason(err))
	}
	return err
}

func (c *carrier) carry(ctx context.Context) error {
	init := gitrun.Cmd{Dir: c.r.dir, Args: []string{"init", "--quiet", "--bare", "--template=", "--object-format=" + c.r.format, c.to}}
	if err := c.run(ctx, init); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.to, "info"), 0o755); err != nil {
		return err
	}
	for _, from := range []struct {
		dir, name string
		most      int64
	}{
		{c.r.place.Common, "info/exclude", 1 << 20}, {c.r.place.Common, "info/attributes", 1 << 20}, {c.r.place.Common, "shallow", 16 << 20},
		{c.r.place.Dir, "info/sparse-checkout", 1 << 20}, {c.r.place.Dir, "index", 1 << 30},
	} {
		if err := copyPlain(filepath.Join(from.dir, from.name), filepath.Join(c.to, from.name), from.most); err != nil {
			return err
		}
	}
	head, err := c.r.head(ctx)
	if err != nil {
		return err
	}
	at := head.ID
	if head.Branch != "" {
		at = "ref: " + branchPrefix + head.Branch
	}
	if err := os.WriteFile(filepath.Join(c.to, "HEAD"), []byte(at+"\n"), 0o644); err != nil {
		return err
	}
	if err := c.cut(ctx, head); err != nil {
		return err
	}
	refs, err := c.references(ctx, head)
	if err != nil {
		return err
	}
	if err := c.pack(ctx, head, refs); err != nil {
		return err
	}
	if err := c.index(ctx, head); err != nil {
		return err
	}
	// Last: the working tree is another one here.
	return os.WriteFile(filepath.Join(c.to, "config"), []byte(c.config(head)), 0o644)
}

// copyPlain copies a regular file that is not too large. What is none is left out.
func copyPlain(from, to string, most int64) error {
	f, err := os.OpenFile(from, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() > most {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(f)
	return errors.Join(err, out.Close())
}

// cut bounds the history of a repository with large packs: what the last commits that are
// carried build on is not.
func (c *carrier) cut(ctx context.Context, head Head) error {
	var packed int64
	for _, dir := range c.r.objects() {
		packs, err := filepath.Glob(filepath.Join(globQuote(dir), "pack/*.pack"))
		if err != nil {
			return err
		}
		for _, path := range packs {
			if fi, err := os.Stat(path); err == nil {
				packed += fi.Size()
			}
		}
	}
	if packed <= c.limits.Packed || head.ID == "" {
		return nil
	}
	carried := make(map[string]bool)
	var lines []string
	cmd := c.r.cmd("rev-list", "--parents", fmt.Sprintf("--max-count=%d", c.limits.Cut), head.ID)
	cmd.Stdout = &records{end: '\n', each: func(line string) error {
		lines = append(lines, line)
		id, _, _ := strings.Cut(line, " ")
		carried[id] = true
		return nil
	}}
	if err := c.run(ctx, cmd); err != nil {
		return err
	}
	shallow, err := os.ReadFile(filepath.Join(c.to, "shallow"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ends := strings.Fields(string(shallow))
	for _, line := range lines {
		ids := strings.Fields(line)
		if slices.ContainsFunc(ids[1:], func(id string) bool { return !carried[id] }) {
			ends = append(ends, ids[0])
			c.Cut = len(lines)
		}
	}
	if c.Cut == 0 {
		return nil
	}
	ends = slices.DeleteFunc(ends, func(id string) bool { return !carried[id] })
	slices.Sort(ends)
	return os.WriteFile(filepath.Join(c.to, "shallow"), []byte(strings.Join(slices.Compact(ends), "\n")+"\n"), 0o644)
}

// references makes branches and tags, and returns what they name.
func (c *carrier) references(ctx context.Context, head Head) (ids []string, err error) {
	if head.ID == "" && !c.borrows {
		return nil, nil
	}
	args := []string{"for-each-ref", "--sort=-creatordate", fmt.Sprintf("--count=%d", maxTips), "--format=%(objectname) %(refname) %(symref)"}
	switch {
	case c.Cut > 0 && head.Branch == "":
		return nil, nil
	case c.Cut > 0:
		args = append(args, branchPrefix+head.Branch)
	case c.borrows:
		args = append(args, "refs/heads", "refs/remotes", "refs/tags")
	default:
		args = append(args, "--merged="+head.ID, "refs/heads", "refs/remotes", "refs/tags")
	}
	out, err := c.r.git(ctx, args...)
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) == 2 && isID(fields[0], c.r.format) {
			ids = append(ids, fields[0])
			lines = append(lines, fields[1]+"\x00"+fields[0])
		}
	}
	slices.Sort(lines)
	var packed strings.Builder
	for _, line := range lines {
		name, id, _ := strings.Cut(line, "\x00")
		fmt.Fprintf(&packed, "%s %s\n", id, name)
	}
	return ids, os.WriteFile(filepath.Join(c.to, "packed-refs"), []byte(packed.String()), 0o644)
}

// pack copies the objects that HEAD, refs and the index reach, in one pack.
func (c *carrier) pack(ctx context.Context, head Head, refs []string) error {
	tips := refs
	if head.ID != "" {
		tips = append(tips, head.ID)
	}
	borrowed := filepath.Join(c.to, "objects/info/alternates")
	if err := os.MkdirAll(filepath.Dir(borrowed), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(borrowed, []byte(filepath.Join(c.r.place.Common, "objects")+"\n"), 0o644); err != nil {
		return err
	}
	// An index that git does not read alone, such as half of a split one, is made anew.
	if err := gitrun.Run(ctx, c.inTree("ls-files", "--error-unmatch", "--", ":/")); err != nil && !gitrun.Failed(err, 1) {
		if err := os.RemoveAll(filepath.Join(c.to, "index")); err != nil {
			return err
		}
	}
	pack := c.cmd("pack-objects", "--revs", "--indexed-objects", "--quiet", "--delta-base-offset", "--non-empty", filepath.Join(c.to, "objects/pack/pack"))
	pack.Stdin = strings.NewReader(strings.Join(tips, "\n") + "\n")
	if err := c.run(ctx, pack); err != nil {
		return err
	}
	return os.Remove(borrowed)
}

// inTree returns a command for which all paths are those of the repository. What is in the
// working tree does not matter to it.
func (c *carrier) inTree(args ...string) gitrun.Cmd {
	cmd := c.cmd(args...)
	cmd.Env = []string{"GIT_WORK_TREE=" + c.r.dir, "GIT_LITERAL_PATHSPECS=0"}
	return cmd
}

// index completes the index: what is not in the copy is not missed there.
func (c *carrier) index(ctx context.Context, head Head) error {
	if _, err := os.Lstat(filepath.Join(c.to, "index")); err != nil && head.ID != "" {
		if err := c.run(ctx, c.inTree("read-tree", head.ID)); err != nil {
			return err
		}
	}
	if c.Prefix == "" {
		return nil
	}
	list, err := os.CreateTemp(c.r.dir, "outside-")
	if err != nil {
		return err
	}
	defer list.Close()
	all := c.inTree("ls-files", "-z")
	all.Stdout = &records{end: 0, each: func(path string) error {
		if strings.HasPrefix(path, c.Prefix) {
			return nil
		}
		_, err := list.WriteString(path + "\x00")
		return err
	}}
	if err := c.run(ctx, all); err != nil {
		return err
	}
	if _, err := list.Seek(0, 0); err != nil {
		return err
	}
	skip := c.inTree("update-index", "-z", "--skip-worktree", "--stdin")
	skip.Stdin = list
	if err := c.run(ctx, skip); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.to, "info/sparse-checkout"), []byte(globQuote("/"+c.Prefix)+"\n"), 0o644)
}

// ofFiles are the settings that say what the files of a working tree are like.
var ofFiles = []string{"core.filemode", "core.symlinks", "core.ignorecase", "core.precomposeunicode", "core.autocrlf", "core.eol", "core.safecrlf"}

// config returns the configuration of the copy.
func (c *carrier) config(head Head) string {
	var b strings.Builder
	set := func(key, value string) {
		section, name, _ := strings.Cut(key, ".")
		fmt.Fprintf(&b, "[%s]\n\t%s = %s\n", section, name, value)
	}
	version := "0"
	if c.r.format != "sha1" {
		version = "1"
		set("extensions.objectformat", c.r.format)
	}
	set("core.repositoryformatversion", version)
	set("core.bare", "false")
	set("core.logallrefupdates", "true")
	for _, key := range ofFiles {
		if value, ok := c.r.settings[key]; ok && plainValue.MatchString(value) {
			set(key, value)
		}
	}
	if c.Prefix != "" {
		// From .git up to where the working tree of the repository would be.
		set("core.worktree", strings.Repeat("../", strings.Count(c.Prefix, "/"))+"..")
		set("core.sparsecheckout", "true")
		set("core.sparsecheckoutcone", "false")
	} else if isTrue(c.r.settings["core.sparsecheckout"]) {
		set("core.sparsecheckout", "true")
		set("core.sparsecheckoutcone", fmt.Sprint(isTrue(c.r.settings["core.sparsecheckoutcone"])))
	}
	for _, key := range slices.Sorted(maps.Keys(c.r.settings)) {
		section, rest, _ := strings.Cut(key, ".")
		i := strings.LastIndexByte(rest, '.')
		if i < 0 {
			continue
		}
		name, variable, value := rest[:i], rest[i+1:], c.r.settings[key]
		switch section + "." + variable {
		case "remote.url":
			if value = withoutPassword(value); value == "" {
				continue
			}
		case "remote.fetch":
		case "branch.remote", "branch.merge":
			if name != head.Branch && !c.borrows {
				continue
			}
		default:
			continue
		}
		if !strings.ContainsFunc(name+value, unicode.IsControl) {
			fmt.Fprintf(&b, "[%s %s]\n\t%s = %s\n", section, quoted(name), variable, quoted(value))
		}
	}
	return b.String()
}

// quoted quotes a text without control characters for git's configuration.
func quoted(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }

// withoutPassword returns the URL of a remote without what gives access to it, and "" for
// one by which git runs a program.
func withoutPassword(s string) string {
	if strings.Contains(s, "::") {
		return ""
	}
	if !strings.Contains(s, "://") {
		return s // a path, or HOST:PATH of SSH
	}
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	user := u.User.Username()
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	if u.Scheme == "ssh" && user != "" {
		u.User = url.User(user)
	}
	return u.String()
}

// objects returns the directories that the repository has objects in.
func (r *Repository) objects() []string {
	dirs := []string{filepath.Join(r.place.Common, "objects")}
	for i := 0; i < len(dirs) && len(dirs) < 16; i++ {
		path := filepath.Join(dirs[i], "info/alternates")
		if fi, err := os.Stat(path); err != nil || !fi.Mode().IsRegular() || fi.Size() > 64<<10 {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for path := range strings.Lines(string(text)) {
			if path = strings.TrimSpace(path); path == "" || path[0] == '#' {
				continue
			}
			if !filepath.IsAbs(path) {
				path = filepath.Join(dirs[i], path)
			}
			if !slices.Contains(dirs, path) {
				dirs = append(dirs, path)
			}
		}
	}
	return dirs
}
