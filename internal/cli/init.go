package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/clone"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
	"github.com/mayfly-vm/mayfly/internal/importer/bundle"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// initOptions are the flags of mayfly init.
type initOptions struct {
	from   string
	base   string
	maps   []string
	yes    bool
	dryRun bool
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init --from SOURCE [flags]",
		Short: "Make the machines of a set-up that mayfly export wrote, after a review",
		Long: `Make the machines of a set-up that mayfly export wrote, here or elsewhere. First
it says all that they could reach, what would be fetched and what would run in
them, and asks. Nothing of a set-up ever runs on this computer, and nothing is
started.

SOURCE is a file, a URL (https, by curl) or a git repository with a setup.toml;
with #sha256=SUM behind it, it is one of which each byte is known.
Paths of another computer are refused until --map says where they are here.`,
		Example: `  mayfly init --from setup.toml --dry-run
  mayfly init --from setup.toml --map /home/alice=~`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.initFrom(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "", "`source` of the set-up")
	f.StringVar(&o.base, "base", "", "`directory` that relative paths are relative to")
	f.StringArrayVar(&o.maps, "map", nil, "where a path of the set-up is here: `FROM=TO` (repeatable)")
	f.BoolVarP(&o.yes, "yes", "y", false, "agree to the review without a question")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "review and make nothing")
	f.BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// initJSON is what init --json prints. Fields are only added.
type initJSON struct {
	From    string       `json:"from"`
	SHA256  string       `json:"sha256"`
	Changes []changeJSON `json:"changes"`
	Made    []madeJSON   `json:"made"`
}

// changeJSON is a change of a set-up, with a hint where it is refused.
type changeJSON struct {
	bundle.Change
	Hint string `json:"hint,omitempty"`
}

func (a *app) initFrom(ctx context.Context, o initOptions) error {
	if o.from == "" {
		return usageError{hint.Errorf("mayfly init --from setup.toml", "from where? --from is missing")}
	}
	src, err := bundle.ParseSource(o.from)
	if err != nil {
		return usageError{err}
	}
	where, err := o.placement()
	if err != nil {
		return usageError{err}
	}
	data, err := a.fetchBundle(ctx, src)
	if err != nil {
		return err
	}
	if err := src.Check(data); err != nil {
		return err
	}
	b, err := bundle.Read(data)
	if err != nil {
		return err
	}
	have, err := a.haveHere()
	if err != nil {
		return err
	}
	review := bundle.Review(b, have, where)
	out := initJSON{From: src.Location, SHA256: bundle.Sum(data), Changes: make([]changeJSON, len(review.Changes)), Made: []madeJSON{}}
	for i, c := range review.Changes {
		out.Changes[i] = changeJSON{c, hint.For(c.Code, c.Args)}
	}
	if !a.json {
		a.printReview(out)
	}
	if err := review.Err(); err != nil {
		if a.json {
			err = errors.Join(err, a.printJSON(a.Out, out))
		}
		return err
	}
	// What is wrong is found before anything is asked or made.
	if err := a.tryBundle(review, have); err != nil {
		return err
	}
	if agreed, err := a.agree(review, o); err != nil || !agreed {
		if err == nil && a.json {
			return a.printJSON(a.Out, out)
		}
		return err
	}
	if out.Made, err = a.makeBundle(ctx, review); err != nil {
		return a.interrupted(err)
	}
	if a.json {
		return a.printJSON(a.Out, out)
	}
	for _, made := range out.Made {
		fmt.Fprintln(a.Out)
		if err := a.printMade(made); err != nil {
			return err
		}
	}
	return nil
}

func (o initOptions) placement() (bundle.Placement, error) {
	where := bundle.Placement{Base: o.base}
	if o.base != "" {
		if err := bundle.CheckBase(o.base); err != nil {
			return where, fmt.Errorf("--base %w", err)
		}
	}
	for _, text := range o.maps {
		m, err := bundle.ParseMap(text)
		if err != nil {
			return where, fmt.Errorf("--map %w", err)
		}
		where.Maps = append(where.Maps, m)
	}
	return where, nil
}

// fetchBundle gets the bytes of a set-up. Nothing that comes with them runs.
func (a *app) fetchBundle(ctx context.Context, src bundle.Source) (data []byte, err error) {
	if src.Kind == bundle.SourceFile {
		return readBundle(src.Location)
	}
	dir, err := os.MkdirTemp("", "mayfly-init-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	progress := a.newProgress()
	defer progress.stop()
	progress.step("get "+termsafe.Line(src.Location), true)
	file := filepath.Join(dir, "setup")
	if src.Kind == bundle.SourceURL {
		err := tool.Run(ctx, tool.Cmd{Name: "curl", Args: []string{
			"--fail", "--silent", "--show-error", "--location", "--proto", "=https", "--proto-redir", "=https",
			"--max-time", "60", "--max-filesize", fmt.Sprint(bundle.MaxSize), "--output", file, "--", src.Location,
		}})
		if errors.Is(err, exec.ErrNotFound) {
			return nil, hint.Errorf("install curl, or get the file and: mayfly init --from FILE", "get %s: %w", src.Location, err)
		}
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", src.Location, err)
		}
		return readBundle(file)
	}
	_, err = clone.Clone(ctx, clone.Options{Spec: clone.Spec{URL: src.Location, Ref: src.Ref}, Dir: file, Depth: 1})
	if err != nil {
		return nil, err
	}
	// Within the repository, whatever links are in it.
	root, err := os.OpenRoot(file)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(src.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read the set-up of %s: %w", src.Location, err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, bundle.MaxSize+1))
}

// readBundle reads a set-up from a file.
func readBundle(name string) ([]byte, error) {
	// O_NONBLOCK: to open a FIFO must not wait for a writer. Standard input is none
	// of ours to choose.
	flags := os.O_RDONLY
	if name != "/dev/stdin" {
		flags |= syscall.O_NONBLOCK
	}
	f, err := os.OpenFile(name, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || fi.IsDir() {
		return nil, hint.Errorf("mayfly init --from "+filepath.Join(name, bundle.DefaultPath), "%s is a directory", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, bundle.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	return data, nil
}

// printReview prints what the set-up would do, in the words of the review: they are
// safe to print.
func (a *app) printReview(r initJSON) {
	fmt.Fprintf(a.Out, "%s, sha256 %s\n", termsafe.Text(r.From), r.SHA256)
	in := ""
	for _, c := range r.Changes {
		if c.In != in {
			in = c.In
			fmt.Fprintf(a.Out, "\n%s\n", in)
		}
		key := c.Key
		if key != "" {
			key += ": "
		}
		fmt.Fprintf(a.Out, "  %-7s %s%s\n", c.Kind, termsafe.Text(key), termsafe.Text(c.Text))
	}
}

// tryBundle reads the new files as they will be read, in a place of their own.
func (a *app) tryBundle(review bundle.Plan, have bundle.Have) (err error) {
	dirs, err := a.dirs()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mayfly-init-")
	if err != nil {
		return fmt.Errorf("review the bundle: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	profiles := review.Profiles
	for name, data := range have.Profiles {
		profiles = append(profiles, bundle.File{Name: name, Data: data})
	}
	for _, f := range profiles {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f.Name)+".toml"), f.Data, 0o600); err != nil {
			return fmt.Errorf("review the bundle: %w", err)
		}
	}
	src := config.Sources{ProfileDir: dir}
	if user, err := config.ReadFile(filepath.Join(dirs.Config, "config.toml")); err == nil {
		src.Files = append(src.Files, user)
	}
	var errs []error
	for _, f := range review.Machines {
		one := src
		one.Files = append(one.Files[:len(one.Files):len(one.Files)], config.File{Path: f.Name + ".toml", Data: f.Data, Portable: true})
		if _, err := config.Load(one); err != nil {
			errs = append(errs, usageError{fmt.Errorf("machine %s: %w", f.Name, err)})
		}
	}
	return errors.Join(errs...)
}

// agree asks whether the set-up is to be made.
func (a *app) agree(review bundle.Plan, o initOptions) (bool, error) {
	switch {
	case o.dryRun:
		return false, nil
	case len(review.Machines)+len(review.Profiles) == 0:
		return false, nil
	case o.yes:
		return true, nil
	case a.json || !isTerminal(a.In) || !isTerminal(a.Err):
		return false, hint.Errorf("mayfly init --from "+o.from+" --yes", "nothing was made, since nobody could be asked")
	}
	fmt.Fprintln(a.Out)
	answer, err := a.ask("make this?", []string{"yes", "no"})
	return answer == "yes", err
}

// makeBundle makes all that a review has, or nothing.
func (a *app) makeBundle(ctx context.Context, review bundle.Plan) ([]madeJSON, error) {
	d := &defining{app: a}
	for _, f := range review.Profiles {
		if err := d.profile(f); err != nil {
			return nil, d.rollback(err)
		}
	}
	made := []madeJSON{}
	for _, f := range review.Machines {
		one, err := d.machine(ctx, f)
		if err != nil {
			return nil, d.rollback(err)
		}
		made = append(made, one)
	}
	return made, nil
}
