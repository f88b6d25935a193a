package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/gitrun"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/review"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// ReviewOptions say what a review fetches.
type ReviewOptions struct {
	Ignored bool // also contents of what the host's git ignores
	Whole   bool // also contents that the rules do not look into, so that an apply needs the machine no more
}

// Review fetches contents, and says what each of c.Edits would do to the host: c.Verdicts.
// The same contents are what Apply applies. Those of what is ignored, or too large, that
// options leave out are judged by the worst that they could be.
func (c *Changes) Review(ctx context.Context, o ReviewOptions) error {
	if err := c.stageFor(ctx, o); err != nil {
		return err
	}
	if err := c.pair(ctx); err != nil {
		return err
	}
	verdicts, err := c.classify(ctx, c.Edits)
	if err != nil {
		return err
	}
	c.Verdicts = verdicts
	return c.compareTips(ctx)
}

// classify returns the verdicts of edits, whose contents are staged as far as they are to
// be looked into.
func (c *Changes) classify(ctx context.Context, edits []workspace.Edit) ([]review.Verdict, error) {
	own, err := c.machine.e.ownRules()
	if err != nil {
		return nil, err
	}
	in := review.Input{Changes: make([]review.Change, len(edits)), Extra: own}
	for i := range edits {
		in.Changes[i] = c.change(&edits[i])
	}
	if dir, err := workspace.OpenHost(c.manifest.Root); err == nil {
		defer dir.Close()
		in.Host = c.host(ctx, dir)
	}
	r, err := review.Classify(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := c.judgeMoves(ctx, in.Host, own, edits, r.Verdicts); err != nil {
		return nil, err
	}
	inherit(edits, r.Verdicts)
	for i := range edits {
		if commits.Own(edits[i].Path) {
			r.Verdicts[i].Withheld = !c.namable(&edits[i]) // whatever the rules say
		}
	}
	return r.Verdicts, nil
}

// ownConfig reads the user's config.toml.
func (e *Engine) ownConfig() (config.Config, error) {
	src, err := e.userSources()
	if err != nil {
		return config.Config{}, err
	}
	cfg, err := config.Load(src)
	if err != nil {
		return config.Config{}, InputError{err}
	}
	return cfg, nil
}

// reviewMemory is how much memory a list of changes may take.
func (e *Engine) reviewMemory() (int64, error) {
	cfg, err := e.ownConfig()
	if err != nil {
		return 0, err
	}
	return int64(cmp.Or(cfg.Review.MemoryMiB, config.DefaultReviewMemoryMiB)) << 20, nil
}

// ownRules returns the rules of the user's config.toml.
func (e *Engine) ownRules() ([]review.Extra, error) {
	cfg, err := e.ownConfig()
	if err != nil {
		return nil, err
	}
	var own []review.Extra
	for _, list := range []struct {
		patterns []string
		class    review.Class
	}{
		// Of two that name one path, the last counts.
		{cfg.Review.Ordinary, review.Ordinary}, {cfg.Review.Builds, review.Builds},
		{cfg.Review.Runs, review.Runs}, {cfg.Review.Suspicious, review.Suspicious},
	} {
		for _, p := range list.patterns {
			own = append(own, review.Extra{Pattern: p, Class: list.class, Reason: "your config.toml says so"})
		}
	}
	return own, nil
}

// host returns what rules may know of the host, whose directory of the workspace is dir.
func (c *Changes) host(ctx context.Context, dir *workspace.Host) review.Host {
	home := c.machine.p.Guest.User.Home
	facts, err := gitFacts(ctx, c.manifest.Root)
	if err != nil && ctx.Err() == nil && !c.gitUnknown {
		c.gitUnknown = true
		c.machine.e.note(NoteGitUnknown, args{"dir": c.manifest.Root, "reason": termsafe.Line(gitrun.Reason(err))})
	}
	return review.Host{
		Home: home != "" && (c.manifest.Root == home || strings.HasPrefix(home, c.manifest.Root+"/")),
		Read: dir.Read, Names: dir.Names, Git: facts,
		Files: c.manifest.Files(), Placeholders: placeholders(c.machine.p),
	}
}

// placeholders returns what stands for secrets in a machine that is kept. Of others only
// their supervisor knows it, and the rules know its usual shape.
func placeholders(p plan.Plan) []string {
	d, ok := definition.Of(p)
	if !ok {
		return nil
	}
	var had map[string][]string
	if err := state.ReadJSON(d.File(definition.PlaceholdersFile), &had); err != nil {
		return nil
	}
	return slices.Concat(slices.Collect(maps.Values(had))...)
}

// stageFor stages contents of all edits as o says.
func (c *Changes) stageFor(ctx context.Context, o ReviewOptions) error {
	wanted := make([]*workspace.Edit, 0, len(c.Edits))
	left := int64(review.MostScanned)
	for i := range c.Edits {
		e := &c.Edits[i]
		if e.Ignored && !o.Ignored {
			continue
		}
		if !o.Whole {
			if e.NewSize > review.MostContent || e.NewSize > left {
				continue
			}
			left -= e.NewSize
		}
		wanted = append(wanted, e)
	}
	return c.stage(ctx, wanted)
}

// change returns an edit as rules see it.
func (c *Changes) change(e *workspace.Edit) review.Change {
	out := review.Change{Path: e.Path, From: e.From, Ignored: e.Ignored}
	out.Old = review.Node{Kind: reviewKind(e.OldKind), Mode: e.OldMode, Size: e.OldSize, Target: e.OldTarget}
	out.New = review.Node{Kind: reviewKind(e.NewKind), Mode: e.NewMode, Size: e.NewSize, Target: e.NewTarget}
	if e.OldKind == workspace.File {
		out.Old.Open = func() (io.ReadCloser, error) { return c.OpenOld(e) }
	}
	if e.NewKind == workspace.File && c.Staged(e) {
		out.New.Open = func() (io.ReadCloser, error) { return c.OpenNew(e) }
	}
	return out
}

func reviewKind(k workspace.Kind) review.Kind {
	switch k {
	case workspace.File:
		return review.Regular
	case workspace.Dir:
		return review.Dir
	case workspace.Symlink:
		return review.Symlink
	}
	return review.None
}

// OpenOld returns the content of a file as it was packed, or as an earlier apply has left it.
func (c *Changes) OpenOld(e *workspace.Edit) (io.ReadCloser, error) {
	if !e.Since {
		return openIn(c.base, e.Packed())
	}
	dir, err := workspace.OpenHost(c.manifest.Root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := dir.Open(e.Path)
	if err != nil {
		return nil, err
	}
	// It is the host's and may change; an apply looks once more.
	sum, err := sparse.SumOf(context.Background(), f, e.OldSize)
	if err == nil && (e.OldSum == nil || sum != *e.OldSum) {
		err = errChangedMeanwhile
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", termsafe.Quote(e.Path), err)
	}
	return f, nil
}

var errChangedMeanwhile = errors.New("it was changed meanwhile; list the changes again")

func openIn(base workspace.Base, path string) (io.ReadCloser, error) {
	r, err := base.Open(path)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(r), nil
}

// errNotStaged is the error of a content that the machine has and the host has not.
var errNotStaged = errors.New("the content was not fetched")

// OpenNew returns the content of a file as it is to be.
func (c *Changes) OpenNew(e *workspace.Edit) (io.ReadCloser, error) {
	switch {
	case e.ModeOnly:
		return c.OpenOld(e)
	case e.Lower:
		return openIn(c.copied.packed, e.Copies)
	case e.Copies != "":
		return openIn(c.base, e.Copies)
	case c.staging == nil:
		return nil, errNotStaged
	}
	return c.staging.Open(e)
}

// Staged reports whether the new content of e is at hand.
func (c *Changes) Staged(e *workspace.Edit) bool {
	return e.ModeOnly || e.Copies != "" || c.staging.Has(e)
}

// Generated reports whether an edit, which was reviewed, is in a tree that tools make and
// that the host's git does not track.
func (c *Changes) Generated(i int) bool { return c.Verdicts[i].Generated && !c.Edits[i].Tracked }

// mostMoved bounds the files in renamed directories that are looked at.
const mostMoved = 100_000

// judgeMoves completes the verdicts of renamed directories by what their files become in
// the new place: the same content can be a hook there, or guard something no more where
// it was.
func (c *Changes) judgeMoves(ctx context.Context, host review.Host, own []review.Extra, edits []workspace.Edit, verdicts []review.Verdict) error {
	left := mostMoved
	for i := range edits {
		e := &edits[i]
		if e.Op != workspace.Rename {
			continue
		}
		var there, here, gone []review.Change
		for entry := range c.manifest.Below(e.From) {
			if left--; left < 0 {
				verdicts[i].Add(review.Finding{
					Rule: "rename-large", Class: review.Suspicious, Reason: "renames more files than a review looks at",
				})
				return nil
			}
			node := review.Node{Kind: reviewKind(entry.Kind), Mode: entry.Mode & 0o777, Size: entry.Size, Target: entry.Target}
			if entry.Kind == workspace.File {
				node.Open = func() (io.ReadCloser, error) { return openIn(c.base, entry.Path) }
			}
			there = append(there, review.Change{Path: e.Path + strings.TrimPrefix(entry.Path, e.From), New: node})
			here = append(here, review.Change{Path: entry.Path, New: node})
			gone = append(gone, review.Change{Path: entry.Path, Old: node})
		}
		var results [3]review.Review
		for n, changes := range [][]review.Change{there, here, gone} {
			var err error
			if results[n], err = review.Classify(ctx, review.Input{Changes: changes, Host: host, Extra: own}); err != nil {
				return err
			}
		}
		for n := range there {
			now, before := &results[0].Verdicts[n], &results[1].Verdicts[n]
			verdicts[i].Withheld = verdicts[i].Withheld || now.Withheld != before.Withheld
			for _, f := range append(now.Without(before), results[2].Verdicts[n].Findings...) {
				f.Detail = there[n].Path
				verdicts[i].Add(f)
			}
		}
	}
	return nil
}

// inherit gives what is in new directories what was found of those: they come with it.
func inherit(edits []workspace.Edit, verdicts []review.Verdict) {
	type dir struct {
		path string
		v    *review.Verdict
	}
	var above []dir // with findings, each in the one before
	for i := range edits {
		e := &edits[i]
		for len(above) > 0 && !e.At(above[len(above)-1].path) {
			above = above[:len(above)-1]
		}
		if len(above) > 0 {
			outer := above[len(above)-1].v
			for _, f := range outer.Findings {
				verdicts[i].Add(f)
			}
			verdicts[i].Withheld = verdicts[i].Withheld || outer.Withheld
		}
		if e.Implied && e.NewKind == workspace.Dir && (len(verdicts[i].Findings) > 0 || verdicts[i].Withheld) {
			above = append(above, dir{e.Path, &verdicts[i]})
		}
	}
}
