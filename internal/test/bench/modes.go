package bench

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly"
)

// measureModes compares what agents do all the time in a workspace that is a copy, with the same in
// one that is live.
func (b *bench) measureModes(ctx context.Context) error {
	const files = 2000
	if _, err := exec.LookPath("git"); err != nil {
		fmt.Fprintln(b.log, "git is not installed: left out")
		return nil
	}
	machines := make(map[string]started)
	defer func() {
		for _, m := range machines {
			m.Close()
		}
	}()
	for _, mode := range []string{"copy", "share"} {
		dir := filepath.Join(b.dir, "mode-"+mode)
		if err := sourceRepository(ctx, dir, files); err != nil {
			return err
		}
		if os.Geteuid() == 0 && mode == "share" {
			// Files there belong to the same user on both sides, and no guest's user is root.
			if err := run(exec.CommandContext(ctx, "chown", "-R", "1000:1000", dir)); err != nil {
				return err
			}
		}
		m, err := b.start(ctx, mayfly.Spec{Dir: dir, NoDetect: true, Settings: []mayfly.Setting{set("workspace.mode", mode), cold}})
		if err != nil {
			return fmt.Errorf("a machine in mode %s: %w", mode, err)
		}
		machines[mode] = m
		// Both read the tarball equally fast, from memory.
		if err := m.shell(ctx, "cp files.tar /tmp && rm files.tar"); err != nil {
			return err
		}
	}
	for _, row := range []struct{ name, command, of string }{
		{"workspace: git status", `test -z "$(git status --porcelain)"`, "git status of a repository in which nobody changed anything"},
		{"workspace: untar", "mkdir out && tar -xf /tmp/files.tar -C out", "tar -x into the workspace"},
	} {
		speed := func(mode string) func() (float64, error) {
			return func() (float64, error) {
				begun := time.Now()
				err := machines[mode].shell(ctx, row.command)
				took := time.Since(begun)
				return files / took.Seconds(), errors.Join(err, machines[mode].shell(ctx, "rm -rf out"))
			}
		}
		// The first ones have git read files whose times it does not know, and fill caches.
		if _, err := pairs(1, speed("copy"), speed("share")); err != nil {
			return err
		}
		v, err := pairs(b.runs(5), speed("copy"), speed("share"))
		if err != nil {
			return err
		}
		b.add(v.row(row.name, "files/s", fmt.Sprintf("%s, %d files of 1.5 KB, in a copy; baseline: in a live workspace", row.of, files)).ratioAtLeast(1.5))
	}
	return nil
}

// shell runs a command of a shell in the workspace.
func (m started) shell(ctx context.Context, command string) error {
	var said strings.Builder
	code, err := m.Exec(ctx, mayfly.Cmd{Argv: []string{"sh", "-c", command}, Stdout: &said, Stderr: &said})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, said.String())
	}
	if err != nil {
		return fmt.Errorf("%s in the guest: %w", command, err)
	}
	return nil
}

// sourceRepository makes a repository of files with a commit, and a tarball of the same beside them.
func sourceRepository(ctx context.Context, dir string, files int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(dir, "files.tar"))
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	for i := range files {
		name, text := fmt.Sprintf("src/p%02d/f%03d.go", i/100, i%100), source(i, false)
		path := filepath.Join(dir, name)
		if err := errors.Join(
			os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644),
			w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}),
		); err != nil {
			return err
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"init", "--quiet"}, {"add", "src"},
		{"-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "--message=x"},
	} {
		if err := run(exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)); err != nil {
			return err
		}
	}
	return nil
}
