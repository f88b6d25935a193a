package commits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
)

// Import is commits of a machine in quarantine.
type Import struct {
	Branches []Branch // those with commits that the repository lacks

	// Sign has Land sign the commits that it brings, as the user's git configuration says.
	Sign bool

	repo    *Repository
	limits  Limits
	dir     string   // of the quarantine
	exclude []string // commits of the user's on which the new ones build
	list    string   // a file with the names of all new objects that the tips reach

	shown, paths, pathBytes int // in the summary
}

// strict makes index-pack take every remark of fsck's about a new object for an error,
// which --strict does, and some that it only tells of.
const strict = "--strict=gitattributesSymlink=error,gitignoreSymlink=error,mailmapSymlink=error," +
	"gitmodulesParse=error,badFilemode=error,missingTaggerEntry=error"

// Import puts a bundle into quarantine and looks at what is in it. tips are those that
// the machine was told of.
func (r *Repository) Import(ctx context.Context, bundle *os.File, tips []string, limits Limits) (*Import, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Time, refused("git was not done with them after %v", limits.Time))
	defer cancel()
	if fi, err := bundle.Stat(); err != nil || fi.Size() > limits.Bundle {
		return nil, errors.Join(err, refused("more than %d MiB", limits.Bundle>>20))
	}
	if _, err := bundle.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	h, err := ReadHeader(bundle)
	if err != nil {
		return nil, refused("%w", err)
	}
	switch {
	case h.ObjectFormat != r.format:
		return nil, refused("their names are of %s, the repository's of %s", h.ObjectFormat, r.format)
	case int64(h.Objects) > int64(limits.Objects):
		return nil, refused("%d objects; at most %d are taken", h.Objects, limits.Objects)
	}
	im := &Import{repo: r, limits: limits, dir: filepath.Join(r.dir, "quarantine"), exclude: append(h.Prerequisites, tips...)}
	ready := func(ctx context.Context) error { return r.checkBase(ctx, h.Prerequisites) }
	if err := both(ctx, ready, func(ctx context.Context) error { return im.makeQuarantine(ctx, h) }); err != nil {
		return nil, err
	}
	var head Head
	if err := both(ctx, func(ctx context.Context) error { return im.unpack(ctx, bundle, h) }, func(ctx context.Context) error {
		head, _ = r.head(ctx) // without it the summary has no base
		return nil
	}); err != nil {
		return nil, err
	}
	// These take about as long as each other. The summary counts when all is known to be there.
	connected := func(ctx context.Context) error { return im.checkConnected(ctx, h.Refs) }
	if err := both(ctx, connected, func(ctx context.Context) error {
		if err := im.checkObjects(ctx); err != nil {
			return err
		}
		return im.summarize(ctx, head, h.Refs)
	}); err != nil {
		return nil, err
	}
	return im, nil
}

// both does two things at once. If one fails the other is stopped; the first error is returned.
func both(ctx context.Context, a, b func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, do := range []func(context.Context) error{a, b} {
		wg.Go(func() {
			if err := do(ctx); err != nil {
				cancel(err) // the first one counts
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// cmd is a git in the quarantine, which borrows the user's objects.
func (im *Import) cmd(args ...string) gitrun.Cmd {
	c := im.alone(args...)
	c.Env = []string{"GIT_ALTERNATE_OBJECT_DIRECTORIES=" + quoted(filepath.Join(im.repo.place.Common, "objects"))}
	return c
}

// alone is a git that sees nothing but what is in the quarantine itself.
func (im *Import) alone(args ...string) gitrun.Cmd {
	return gitrun.Cmd{Dir: im.repo.dir, GitDir: im.dir, Args: args, Limits: im.limits.tool()}
}

// run runs git in the quarantine; what it does not like is refused.
func (im *Import) run(ctx context.Context, c gitrun.Cmd) error {
	err := gitrun.Run(ctx, c)
	if err != nil && ctx.Err() == nil {
		return refused("git %s: %s", c.Args[0], gitrun.Reason(err))
	}
	return err
}

// checkBase makes sure that the repository has the commits on which a bundle builds.
func (r *Repository) checkBase(ctx context.Context, ids []string) error {
	has, err := r.hasCommits(ctx, r.cmd(), ids)
	if err != nil {
		return err
	}
	for i, id := range ids {
		if !has[i] {
			return refused("they build on commit %s, which the repository does not have", id)
		}
	}
	return nil
}

func (im *Import) makeQuarantine(ctx context.Context, h Header) error {
	if err := os.RemoveAll(im.dir); err != nil {
		return err
	}
	init := gitrun.Cmd{Dir: im.repo.dir, Args: []string{"init", "--quiet", "--bare", "--template=", "--object-format=" + h.ObjectFormat, im.dir}}
	if err := gitrun.Run(ctx, init); err != nil {
		return fmt.Errorf("make a quarantine: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(im.dir, "info"), 0o700); err != nil {
		return err
	}
	shallow, err := os.ReadFile(filepath.Join(im.repo.place.Common, "shallow"))
	if err == nil {
		err = os.WriteFile(filepath.Join(im.dir, "shallow"), shallow, 0o600)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// unpack puts the pack into the quarantine. It need not outlive a crash of the computer, unlike
// what Land makes of it.
func (im *Import) unpack(ctx context.Context, bundle *os.File, h Header) error {
	if _, err := bundle.Seek(h.Size, io.SeekStart); err != nil {
		return err
	}
	c := im.cmd("index-pack", "--stdin", "--fix-thin", strict, "--max-input-size="+strconv.FormatInt(im.limits.Bundle, 10), "--threads=1")
	c.Config = []string{"core.fsync=none"}
	c.Stdin = bundle
	return im.run(ctx, c)
}

// checkObjects bounds the objects in quarantine, each and together, and the chains that
// they are stored in. Only their names, sizes and bases are looked at.
func (im *Import) checkObjects(ctx context.Context) error {
	sizes := chains{limits: im.limits, base: make(map[string]string)}
	c := im.alone("cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname) %(objectsize) %(deltabase)", "--buffer")
	c.Stdout = &records{end: '\n', each: sizes.add}
	if err := im.run(ctx, c); err != nil {
		return errors.Join(sizes.refused, err)
	}
	return sizes.depth()
}

// chains is what is stored as a difference to what.
type chains struct {
	limits  Limits
	total   int64
	base    map[string]string
	refused error
}

func (c *chains) add(line string) error {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return errors.New("odd object")
	}
	size, err := strconv.ParseInt(fields[1], 10, 64)
	switch c.total += size; {
	case err != nil:
		return err
	case size > c.limits.Object:
		c.refused = refused("object %s has %d MiB; at most %d are taken", fields[0], size>>20, c.limits.Object>>20)
	case c.total > c.limits.Total:
		c.refused = refused("their objects have more than %d MiB", c.limits.Total>>20)
	case strings.Trim(fields[2], "0") != "":
		c.base[fields[0]] = fields[2]
	}
	return c.refused
}

// depth returns an error if a chain is too long.
func (c *chains) depth() error {
	depths := make(map[string]int, len(c.base))
	for id := range c.base {
		// Down to what is known, and back.
		var path []string
		for at := id; ; at = c.base[at] {
			if _, known := depths[at]; known || c.base[at] == "" {
				break
			}
			if path = append(path, at); len(path) > c.limits.Depth {
				return refused("an object that is the last of more than %d differences", c.limits.Depth)
			}
		}
		for i := len(path) - 1; i >= 0; i-- {
			if depths[path[i]] = depths[c.base[path[i]]] + 1; depths[path[i]] > c.limits.Depth {
				return refused("an object that is the last of more than %d differences", c.limits.Depth)
			}
		}
	}
	return nil
}

// revisions returns what git is to read: the tips, and what is left out.
func (im *Import) revisions(tips ...string) string {
	var b strings.Builder
	for _, id := range tips {
		b.WriteString(id + "\n")
	}
	for _, id := range im.exclude {
		b.WriteString("^" + id + "\n")
	}
	return b.String()
}

// checkConnected makes sure that all that the tips reach is there: in the pack, or in
// what is reachable from commits of the user's. It lists what is not the user's yet.
func (im *Import) checkConnected(ctx context.Context, refs []Ref) error {
	var ids []string
	for _, ref := range refs {
		ids = append(ids, ref.ID)
	}
	has, err := im.repo.hasCommits(ctx, im.cmd(), ids)
	if err != nil {
		return err
	}
	for i := range refs {
		if !has[i] {
			return refused("%s is no commit", ids[i])
		}
	}
	im.list = filepath.Join(im.repo.dir, "list")
	list, err := os.Create(im.list)
	if err != nil {
		return err
	}
	defer list.Close()
	c := im.cmd("rev-list", "--objects", "--stdin")
	c.Stdin, c.Stdout = strings.NewReader(im.revisions(ids...)), list
	return im.run(ctx, c)
}

// records calls each for every part of what is written to it.
type records struct {
	end  byte
	each func(string) error
	part []byte
}

// maxRecord bounds a part.
const maxRecord = 64 << 10

func (r *records) Write(b []byte) (int, error) {
	n := len(b)
	for {
		i := bytes.IndexByte(b, r.end)
		if i < 0 {
			if r.part = append(r.part, b...); len(r.part) > maxRecord {
				return 0, errors.New("a part of git's answer is too long")
			}
			return n, nil
		}
		if err := r.each(string(append(r.part, b[:i]...))); err != nil {
			return 0, err
		}
		r.part, b = r.part[:0], b[i+1:]
	}
}
