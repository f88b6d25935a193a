package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// ignoredFlag registers --ignored, by which ignored files are changes as all others.
func ignoredFlag(f *pflag.FlagSet, ignored *bool, usage string) {
	f.BoolVar(ignored, "ignored", false, usage)
}

// diffOptions are the flags of mayfly diff.
type diffOptions struct {
	ignored  bool
	nameOnly bool
	patch    bool
	stat     bool
}

// check refuses flags that exclude each other.
func (o *diffOptions) check(json bool) error {
	chosen := ""
	for _, flag := range []struct {
		name string
		set  bool
	}{{"--name-only", o.nameOnly}, {"--stat", o.stat}, {"--patch", o.patch && !json}, {"--json", json}} {
		switch {
		case !flag.set:
		case chosen != "":
			return usageError{fmt.Errorf("%s and %s exclude each other", chosen, flag.name)}
		default:
			chosen = flag.name
		}
	}
	return nil
}

func (a *app) diffCommand() *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff NAME [PATH…]",
		Short: "List the changes of a running machine",
		Long: `List what a running machine changed in its workspace: all of it, or what is at
the paths or below. Ordinary changes come first. Then come those that run when
you build, those that your computer executes or obeys by itself, and what is
suspicious, each with the reason. Files that git ignores in your directory, such
as build output, are one line with their count and size. With --json they are
marked.

The changes of a live share are in your directory already. Of those, mayfly
shows what your computer executes or obeys by itself, and what is suspicious.

With --patch, show the lines that differ, on a terminal through $PAGER. What a
terminal would not show is visible there, such as \u{202e} for a change of the
direction of writing.`,
		Example: `  mayfly diff web
  mayfly diff web --patch src
  mayfly diff web --json`,
		Args:              takes(1, anyNumber),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(a.json); err != nil {
				return err
			}
			return a.diff(cmd.Context(), args[0], args[1:], o)
		},
	}
	a.jsonFlag(cmd)
	ignoredFlag(cmd.Flags(), &o.ignored, "list ignored and generated files one by one")
	cmd.Flags().BoolVarP(&o.patch, "patch", "p", false, "show the lines that differ; with --json, as hunks")
	cmd.Flags().BoolVar(&o.stat, "stat", false, "show how many lines of each file differ")
	cmd.Flags().BoolVar(&o.nameOnly, "name-only", false, "print only the paths, one on a line")
	return cmd
}

func (a *app) diff(ctx context.Context, name string, paths []string, o diffOptions) error {
	m, err := a.machine(ctx, name)
	if err != nil {
		return err
	}
	if m.Plan().Mode == "share" {
		return a.diffLive(ctx, m, paths, o)
	}
	set, err := list(ctx, m, false, o.ignored || a.json || len(paths) > 0)
	if err != nil {
		return err
	}
	defer set.Close()
	set.ApplyIgnored = o.ignored
	if err := set.Review(ctx, mayfly.ReviewOptions{}); err != nil {
		return err
	}
	changes, err := set.Selected(mayfly.Selection{Paths: workspacePaths(set, paths)})
	if err != nil {
		return err
	}
	if a.json {
		if err := complete(ctx, set, changes, o.patch); err != nil {
			return err
		}
		return a.printJSONList(withCommits(set, changes, len(paths) == 0))
	}
	if o.nameOnly || o.stat || o.patch {
		changes = slices.DeleteFunc(slices.Clone(changes), func(c mayfly.Change) bool { return c.LeftOut })
	}
	switch {
	case o.nameOnly:
		for _, c := range changes {
			fmt.Fprintln(a.Out, termsafe.Quote(c.Path))
		}
		return nil
	case o.stat:
		return writeStat(a.Out, changes, func(i int) (mayfly.Patch, error) { return set.Patch(changes[i]) })
	case o.patch:
		return a.paged(a.Out, func(w io.Writer, p paint) error { return writePatches(w, p, set, changes) })
	}
	if len(paths) == 0 {
		a.commits(a.Out, set)
	}
	a.overview(a.Out, set, changes, len(changes))
	if err := a.settings(set, changes, name); err != nil {
		return err
	}
	if len(paths) > 0 {
		return nil
	}
	live, err := m.LiveChanges(ctx)
	if err != nil {
		return err
	}
	a.listLive(live)
	return nil
}

// settings names the settings of git's among changes, and how one of them is applied.
func (a *app) settings(set *mayfly.ChangeSet, changes []mayfly.Change, name string) error {
	if !slices.ContainsFunc(changes, isGitConfig) {
		return nil
	}
	list, err := set.GitSettings()
	if err != nil || len(list) == 0 {
		return err
	}
	a.note("%s: mayfly apply %s --git-config KEY applies one of these", mayfly.GitConfig, name)
	for _, s := range list {
		a.note("  %s", words.GitSetting(s))
	}
	return nil
}

func isGitConfig(c mayfly.Change) bool { return c.Withheld && c.Path == mayfly.GitConfig }

// committed is an element of the JSON of a list of changes: commits of one repository.
type committed struct {
	Op   string `json:"op"` // "C"
	Path string `json:"path"`
	mayfly.Repository
}

// withCommits returns changes, after what was committed if all of it is asked for.
func withCommits(set *mayfly.ChangeSet, changes []mayfly.Change, all bool) iter.Seq[any] {
	return func(yield func(any) bool) {
		for _, r := range set.Repositories {
			if all && !yield(committed{"C", r.Dir, r}) {
				return
			}
		}
		for i := range changes {
			if !yield(&changes[i]) {
				return
			}
		}
	}
}

// complete adds to changes what only programs ask for.
func complete(ctx context.Context, set *mayfly.ChangeSet, changes []mayfly.Change, patch bool) error {
	for i := range changes {
		c := &changes[i]
		if err := set.Hash(ctx, c); err != nil {
			return err
		}
		if patch {
			p, err := set.Patch(*c)
			if err != nil {
				return err
			}
			c.Hunks = p.Hunks
		}
		if isGitConfig(*c) {
			list, err := set.GitSettings()
			if err != nil {
				return err
			}
			c.Settings = list
		}
	}
	return nil
}

// applyOptions are the flags of mayfly apply.
type applyOptions struct {
	only     []string
	all      bool
	except   []string
	ignored  bool
	branch   bool
	rebase   bool
	checkout bool
	sign     bool
	patch    bool
	git      []string
}

func (a *app) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply NAME [PATH…]",
		Short: "Apply the changes of a running machine to your directory",
		Long: `Apply what a running machine changed in its workspace to the directory that was
copied: all of it, or what is at the paths or below. The machine keeps running.

Ordinary changes are applied. On a terminal mayfly asks about the others: what
builds run as one group; what your computer executes or obeys by itself, and
what is suspicious, one by one. Without a terminal these are held back, and the
exit code is 3. A change whose own path is given, or whose class is given with
--only, is applied without a question.

With -p, pick what is applied: mayfly shows each change with its class, text
files hunk by hunk, and asks, as git add -p does. What you leave out stays in
the machine, and the next -p shows only that. A part of a change is classified
again; if it is graver than the whole, mayfly asks once more.

A file that you changed in the meantime is a conflict: mayfly leaves it alone
and reports it. Files that git ignores in your directory, such as build output,
and trees that tools make, such as node_modules, are left out unless you pass
--ignored.

What was committed in the machine comes back as commits, unless paths are given.
Your branch, if it is where the copy began, goes on to them together with the
files. Otherwise, and with --branch, they become branches mayfly/NAME/BRANCH of
your repository. With --rebase, mayfly puts them on top of your branch if that
has others by now; if they are in conflict, nothing is changed. With --checkout,
the branch that they become is checked out, and yours stays.

Of git's own files, a single hook comes back if you name it or say yes, and a
single setting with --git-config. All others stay.`,
		Example: `  mayfly apply web
  mayfly apply web src docs/index.md
  mayfly apply web -p
  mayfly apply web --only builds
  mayfly apply web --except '*.lock'
  mayfly apply web .git/hooks/pre-commit
  mayfly apply web --git-config core.hooksPath`,
		Args:              takes(1, anyNumber),
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := o.selection(args[1:])
			if err != nil {
				return err
			}
			m, err := a.machine(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			review := a.review
			if o.patch {
				review = a.applyPatch
			}
			what, err := review(cmd.Context(), m, reviewOptions{
				apply: true, ignored: o.ignored, branch: o.branch, rebase: o.rebase, checkout: o.checkout, sign: o.sign, attended: a.attended(), running: true, selection: sel,
				settings: o.git,
			})
			if err != nil {
				return err
			}
			return held(what)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.only, "only", nil, "apply only changes of this `class`: ordinary, builds, runs or suspicious")
	f.BoolVarP(&o.patch, "patch", "p", false, "pick changes and hunks, as git add -p does")
	f.StringArrayVar(&o.git, "git-config", nil, "apply this `setting` of the machine's to .git/config")
	f.BoolVar(&o.all, "all", false, "apply changes of all classes without a question")
	f.StringArrayVar(&o.except, "except", nil, "leave out what matches the `pattern`")
	ignoredFlag(f, &o.ignored, "also apply ignored and generated files")
	branchFlag(f, &o.branch)
	f.BoolVar(&o.rebase, "rebase", false, "put commits on top of your branch if that has others by now")
	f.BoolVar(&o.checkout, "checkout", false, "check out the branch that commits become, once their files are applied; yours stays where it is")
	f.BoolVar(&o.sign, "sign", false, "sign the commits with your own git configuration, which runs your gpg or ssh-keygen")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions([]string{"ordinary", "builds", "runs", "suspicious"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// selection is what the flags and paths have applied.
func (o *applyOptions) selection(paths []string) (sel mayfly.Selection, err error) {
	switch {
	case o.branch && o.rebase:
		return sel, usageError{errors.New("--branch and --rebase exclude each other")}
	case o.checkout && (o.branch || o.rebase):
		return sel, usageError{errors.New("--checkout excludes --branch and --rebase")}
	case len(paths) > 0 && (o.branch || o.rebase || o.checkout || o.sign):
		return sel, usageError{errors.New("--branch, --checkout, --rebase and --sign are for commits, which do not come with single paths")}
	case o.all && len(o.only) > 0:
		return sel, usageError{errors.New("--all and --only exclude each other")}
	case o.patch && len(o.git) > 0:
		return sel, usageError{errors.New("--git-config and --patch exclude each other")}
	case o.all && o.patch:
		return sel, usageError{errors.New("--all and --patch exclude each other")}
	}
	if slices.Contains(paths, "") {
		return sel, usageError{errors.New("a path is an empty word")}
	}
	sel.Paths, sel.Except = paths, o.except
	if o.all {
		sel.Classes = mayfly.Classes()
	}
	for _, name := range o.only {
		class := mayfly.Class(name)
		if !slices.Contains(mayfly.Classes(), class) {
			return sel, usageError{fmt.Errorf("--only %s: a class is ordinary, builds, runs or suspicious", termsafe.Quote(name))}
		}
		sel.Classes = append(sel.Classes, class)
	}
	return sel, nil
}
