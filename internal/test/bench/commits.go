package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mayfly-vm/mayfly/internal/commits"
)

// measureCommits compares an import of 5,000 commits with git fetch of the same bundle,
// which checks and bounds less.
func (b *bench) measureCommits(ctx context.Context) error {
	const count = 5000
	if _, err := exec.LookPath("git"); err != nil {
		fmt.Fprintln(b.log, "git is not installed: left out")
		return nil
	}
	work, base, bundle := filepath.Join(b.dir, "work"), filepath.Join(b.dir, "base"), filepath.Join(b.dir, "bundle")
	git := func(in *bytes.Buffer, args ...string) error {
		cmd := exec.CommandContext(ctx, "git", args...)
		if in != nil {
			cmd.Stdin = in
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
		return nil
	}
	var history bytes.Buffer
	for i := range count + 1 {
		branch := "work"
		if i == 0 {
			branch = "main"
		}
		text := fmt.Appendf(nil, "%d\n%s", i, bytes.Repeat(fmt.Appendf(nil, "a line of file %d\n", i%300), 60))
		fmt.Fprintf(&history, "commit refs/heads/%s\nmark :%d\ncommitter A <a@example.org> %d +0000\ndata 1\nx\n", branch, i+1, 1700000000+i)
		if i > 0 {
			fmt.Fprintf(&history, "from :%d\n", i)
		}
		fmt.Fprintf(&history, "M 100644 inline src/%d/%d.txt\ndata %d\n%s\n", i%20, i%300, len(text), text)
	}
	if err := errors.Join(
		git(nil, "init", "--quiet", "--initial-branch=main", work), git(&history, "-C", work, "fast-import", "--quiet"),
		git(nil, "-C", work, "gc", "--quiet"), git(nil, "-C", work, "bundle", "create", "--quiet", bundle, "work", "^main"),
	); err != nil {
		return err
	}
	clone := func() error {
		return errors.Join(os.RemoveAll(base), git(nil, "clone", "--quiet", "--no-local", "--single-branch", "--branch=main", work, base))
	}
	var wall, cpu values
	for range b.runs(5) {
		var took [2]spent
		for i, do := range []func() error{
			func() error { return b.importCommits(ctx, base, bundle) },
			func() error {
				return git(nil, "-C", base, "fetch", "--quiet", bundle, "refs/heads/work:refs/heads/work")
			},
		} {
			err := clone()
			if err == nil {
				took[i], err = spend(do)
			}
			if err != nil {
				return err
			}
		}
		wall.compare(took[0].wall, took[1].wall)
		cpu.compare(took[0].cpu, took[1].cpu)
	}
	b.add(wall.row("import of 5,000 commits", "s", "quarantine, checks, summary and branch, against git fetch of the same bundle").ratioAtMost(2))
	b.add(cpu.row("import of 5,000 commits: CPU", "s", "CPU time of all git processes of the same"))
	return nil
}

func (b *bench) importCommits(ctx context.Context, dir, bundle string) error {
	f, err := os.Open(bundle)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := commits.Open(ctx, dir, b.dir)
	if err != nil {
		return err
	}
	defer r.Close()
	tips, err := r.Tips(ctx, nil)
	if err != nil {
		return err
	}
	im, err := r.Import(ctx, f, tips, commits.DefaultLimits())
	if err != nil {
		return err
	}
	return im.Land(ctx, "m")
}
