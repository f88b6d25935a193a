package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/linediff"
	"github.com/mayfly-vm/mayfly/internal/review"
	"github.com/mayfly-vm/mayfly/internal/sparse"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// measureReview measures what follows a list of changes: that 10,000 of them are classified
// and compared line by line, and that 1,000 of them are applied, with a record for undo.
func (b *bench) measureReview(ctx context.Context) error {
	const classified, applied = 10_000, 1_000
	var reviewed values
	for range b.runs(5) {
		s, err := b.newEdited(ctx, classified)
		if err != nil {
			return err
		}
		begun := time.Now()
		if err := s.review(ctx); err != nil {
			return err
		}
		reviewed.add(time.Since(begun).Seconds())
		if err := s.close(); err != nil {
			return err
		}
	}
	b.add(reviewed.row("review of 10,000 changes", "s", "classes and line by line differences of files of 50 lines, from contents that are on the host").atMost(1))
	var apply values
	for range b.runs(9) {
		s, err := b.newEdited(ctx, applied)
		if err != nil {
			return err
		}
		begun := time.Now()
		result, err := workspace.Apply(ctx, s.app)
		took := time.Since(begun)
		if err == nil && result.Applied != applied {
			err = fmt.Errorf("%d changes were applied: %v", result.Applied, result.Conflicts)
		}
		if err != nil {
			return err
		}
		apply.add(took.Seconds())
		if err := s.close(); err != nil {
			return err
		}
	}
	b.add(apply.row("apply of 1,000 files", "s", "replaced on the disk, with a record for undo").atMost(1))
	return nil
}

// edited is a workspace and what a machine made of it.
type edited struct {
	dir   string
	image *os.File
	app   workspace.Application
}

// newEdited makes a workspace of files, and has a machine edit each of them.
func (b *bench) newEdited(ctx context.Context, files int) (_ *edited, err error) {
	s := new(edited)
	if s.dir, err = os.MkdirTemp(b.dir, "session-"); err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, "workspace")
	name := func(i int) string { return fmt.Sprintf("src/p%02d/f%03d.go", i/100, i%100) }
	for i := range files {
		path := filepath.Join(dir, name(i))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(source(i, false)), 0o644)); err != nil {
			return nil, err
		}
	}
	if s.image, err = os.Create(filepath.Join(s.dir, "image")); err != nil {
		return nil, err
	}
	m, err := workspace.Pack(ctx, dir, s.image, workspace.PackOptions{UID: 1000, GID: 1000})
	if err != nil {
		return nil, err
	}
	base, err := m.OpenImage(s.image)
	if err != nil {
		return nil, err
	}
	changed := make(map[string]string)
	changes := func(yield func(workspace.Change, error) bool) {
		for i := range files {
			text := source(i, true)
			changed[name(i)] = text
			c := workspace.Change{Path: name(i), Kind: workspace.File, Mode: 0o644, Size: int64(len(text))}
			if c.Sum, err = sparse.SumOf(ctx, strings.NewReader(text), c.Size); !yield(c, err) {
				return
			}
		}
	}
	edits, err := workspace.Diff(ctx, m, base, changes, 1<<30)
	if err != nil {
		return nil, err
	}
	staging, err := workspace.Stage(ctx, filepath.Join(s.dir, "staging"), workspace.Pointers(edits), func(_ context.Context, paths []string, put func(string, io.Reader) error) error {
		for _, p := range paths {
			if err := put(p, strings.NewReader(changed[p])); err != nil {
				return err
			}
		}
		return nil
	}, workspace.StageOptions{})
	if err != nil {
		return nil, err
	}
	undo := &workspace.UndoOptions{Store: filepath.Join(s.dir, "undo"), Name: "m"}
	s.app = workspace.Application{
		Dir: dir, Manifest: m, Base: base, Edits: workspace.Pointers(edits), Staging: staging, Journal: filepath.Join(s.dir, "journal"), Undo: undo,
	}
	return s, os.Mkdir(undo.Store, 0o700)
}

// source is the text of a file, before an edit of two of its lines or after it.
func source(i int, after bool) string {
	var text strings.Builder
	for line := range 50 {
		if after && line%30 == 10 {
			fmt.Fprintf(&text, "\treturn edited(%d, %d)\n", i, line)
		} else {
			fmt.Fprintf(&text, "\tcall(%d, %d) // of what there was\n", i, line)
		}
	}
	return text.String()
}

// review classifies the changes and compares them line by line.
func (s *edited) review(ctx context.Context) error {
	host, err := workspace.OpenHost(s.app.Dir)
	if err != nil {
		return err
	}
	defer host.Close()
	in := review.Input{Host: review.Host{Read: host.Read, Names: host.Names}}
	for _, e := range s.app.Edits {
		in.Changes = append(in.Changes, review.Change{
			Path: e.Path,
			Old: review.Node{Kind: review.Regular, Mode: e.OldMode, Size: e.OldSize, Open: func() (io.ReadCloser, error) {
				content, err := s.app.Base.Open(e.Path)
				return io.NopCloser(content), err
			}},
			New: review.Node{Kind: review.Regular, Mode: e.NewMode, Size: e.NewSize, Open: func() (io.ReadCloser, error) { return s.app.Staging.Open(e) }},
		})
	}
	if _, err := review.Classify(ctx, in); err != nil {
		return err
	}
	for _, c := range in.Changes {
		old, err := text(c.Old)
		if err != nil {
			return err
		}
		now, err := text(c.New)
		if err != nil {
			return err
		}
		if len(linediff.Diff(old, now)) == 0 {
			return fmt.Errorf("%s does not differ", c.Path)
		}
	}
	return nil
}

func text(n review.Node) (string, error) {
	f, err := n.Open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	return string(content), err
}

func (s *edited) close() error {
	return errors.Join(s.app.Staging.Remove(), s.image.Close(), os.RemoveAll(s.dir))
}
