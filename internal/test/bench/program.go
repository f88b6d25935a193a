package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// program is a mayfly that is measured as its user runs it, a process at a time.
type program struct {
	path string
	env  []string
}

// command returns a call of the program in dir.
func (p program) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Env, cmd.Dir = p.env, dir
	return cmd
}

// runTrue returns the call that runs true in a machine on dir.
func (p program) runTrue(ctx context.Context, dir string, flags ...string) *exec.Cmd {
	args := append([]string{"run", "--discard", "--no-detect"}, flags...)
	return p.command(ctx, dir, append(args, "--", "true")...)
}

// with returns the program with more variables.
func (p program) with(env ...string) program {
	return program{p.path, append(slices.Clip(p.env), env...)}
}

// getenv looks up a variable of the program.
func (p program) getenv(name string) string {
	for _, kv := range slices.Backward(p.env) {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// json decodes what the call prints.
func (p program) json(ctx context.Context, dir string, to any, args ...string) error {
	out, err := output(p.command(ctx, dir, args...))
	if err != nil {
		return err
	}
	return json.Unmarshal(out, to)
}

// user is the user of a program who has a home directory, and machines with names, of
// their own. Images and templates are shared.
type user struct {
	program
	dir string // where commands run
}

// newUser returns a user of p who has no machine yet.
func (b *bench) newUser(p program) (user, error) {
	dir, err := os.MkdirTemp(b.dir, "user-")
	if err != nil {
		return user{}, err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return user{}, err
	}
	env := []string{"HOME=" + dir, "XDG_CONFIG_HOME=" + filepath.Join(dir, "config"), "XDG_STATE_HOME=" + filepath.Join(dir, "state")}
	for name, fallback := range map[string]string{"XDG_DATA_HOME": ".local/share", "XDG_CACHE_HOME": ".cache"} {
		if p.getenv(name) == "" {
			env = append(env, name+"="+filepath.Join(home, fallback))
		}
	}
	return user{p.with(env...), dir}, nil
}

// mayfly returns a call of the user's.
func (u user) mayfly(ctx context.Context, args ...string) *exec.Cmd {
	return u.command(ctx, u.dir, args...)
}

// smallProject makes a directory to work on.
func (b *bench) smallProject() (string, error) {
	dir := filepath.Join(b.dir, "project")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for i := range 10 {
		name := filepath.Join(dir, fmt.Sprintf("file%d.txt", i))
		if err := os.WriteFile(name, []byte("a small file\n"), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// run runs cmd, whose output matters only in an error.
func run(cmd *exec.Cmd) error {
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, text)
	}
	return nil
}

// output runs cmd and returns what it prints.
func output(cmd *exec.Cmd) ([]byte, error) {
	var messages strings.Builder
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, messages.String())
	}
	return out, nil
}

// timed runs cmd and returns how long that took.
func timed(cmd *exec.Cmd) (time.Duration, error) {
	start := time.Now()
	err := run(cmd)
	return time.Since(start), err
}

// spent is what work took, in seconds.
type spent struct{ wall, cpu float64 }

// spend measures work, and the CPU time of all processes that end below this one
// meanwhile.
func spend(work func() error) (spent, error) {
	before, err := childrenCPU()
	if err != nil {
		return spent{}, err
	}
	start := time.Now()
	if err := work(); err != nil {
		return spent{}, err
	}
	wall := time.Since(start)
	after, err := childrenCPU()
	return spent{wall.Seconds(), (after - before).Seconds()}, err
}

// childrenCPU returns the CPU time of all processes that ended below this one.
func childrenCPU() (time.Duration, error) {
	var ru unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_CHILDREN, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), err
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// sleep waits, for a machine to be at rest.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
