package tool_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	var seen []string
	err := tool.Run(t.Context(), tool.Cmd{
		Name:   "sh",
		Args:   []string{"-c", `echo "$WORD"; echo one >&2; printf 'two\rthree' >&2`},
		Env:    []string{"WORD=hello"},
		Stdout: &out,
		Line:   func(s string) { seen = append(seen, s) },
	})
	if err != nil || out.String() != "hello\n" {
		t.Errorf("Run() = %q, %v; want hello", out.String(), err)
	}
	if got := strings.Join(seen, " "); got != "one two three" {
		t.Errorf("lines = %q; want one two three", got)
	}
}

func TestRunErrors(t *testing.T) {
	err := tool.Run(t.Context(), tool.Cmd{Name: "sh", Args: []string{"-c", "seq 100 >&2; exit 3"}})
	toolErr, ok := errors.AsType[*tool.Error](err)
	if !ok {
		t.Fatalf("Run() = %v; want a *tool.Error", err)
	}
	if lines := strings.Split(toolErr.Tail, "\n"); len(lines) != 20 || lines[0] != "81" {
		t.Errorf("tail = %q; want the last 20 lines", lines)
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 3 {
		t.Errorf("Run() = %v; want exit status 3 in it", err)
	}
	err = tool.Run(t.Context(), tool.Cmd{Name: "no-such-program-of-ours"})
	if !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("Run(missing) = %v; want exec.ErrNotFound", err)
	}
}

// A program that is cancelled cleans up after itself, and its children go too.
func TestRunCancel(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	started := filepath.Join(dir, "started")
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(started); err == nil {
				cancel()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	begin := time.Now()
	err := tool.Run(ctx, tool.Cmd{
		Name: "sh",
		Dir:  dir,
		Args: []string{"-c", "trap 'touch cleaned; exit 1' TERM; sleep 60 & sleep 0.1; touch started; wait"},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v; want context.Canceled", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "cleaned")); err != nil {
		t.Errorf("the program did not get to clean up: %v", err)
	}
	if d := time.Since(begin); d > tool.Grace/2 {
		t.Errorf("took %v", d)
	}
}

// A program in a session of its own has no terminal, and variables can be kept
// from it.
func TestRunApart(t *testing.T) {
	t.Setenv("SECRET_WORD", "x")
	t.Setenv("OTHER_WORD", "y")
	var out strings.Builder
	err := tool.Run(t.Context(), tool.Cmd{
		Name: "sh",
		// The sixth field of a process's stat is its session, the seventh its terminal.
		Args:       []string{"-c", `echo "[$SECRET_WORD$OTHER_WORD]"; read -r _ _ _ _ group session terminal _ </proc/self/stat; [ "$group" = "$session" ] && echo "$terminal"`},
		Drop:       func(name string) bool { return name == "SECRET_WORD" },
		NoTerminal: true,
		Stdout:     &out,
	})
	if err != nil || out.String() != "[y]\n0\n" {
		t.Errorf("Run() = %q, %v; want no SECRET_WORD and no terminal", out.String(), err)
	}
}

// In a plain chroot no mount can be private. The error says so in one line.
func TestRunInChroot(t *testing.T) {
	const inside = "MAYFLY_TEST_CHROOT"
	if os.Getenv(inside) != "" {
		err := tool.Run(t.Context(), tool.Cmd{Name: "true", OwnMounts: true})
		if fault.CodeOf(err) != fault.RootNotMounted || strings.Contains(err.Error(), "\n") {
			t.Errorf("Run() = %v; want that the root is no mount point", err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root has another root directory")
	}
	root := t.TempDir()
	script := "set -e; mount --make-rprivate /"
	for _, dir := range []string{"bin", "lib", "lib64", "usr", "proc", "dev"} {
		if target, err := os.Readlink("/" + dir); err == nil {
			err = os.Symlink(target, filepath.Join(root, dir))
			if err != nil {
				t.Fatal(err)
			}
		} else if _, err := os.Stat("/" + dir); err == nil {
			if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
			script += "; mount --rbind /" + dir + " " + filepath.Join(root, dir)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err := errors.Join(err, os.Mkdir(filepath.Join(root, "tmp"), 0o755), os.WriteFile(filepath.Join(root, "test"), self, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", script+"; exec chroot "+root+" /test -test.run=TestRunInChroot$ -test.v")
	cmd.Env = append(os.Environ(), inside+"=1", "TMPDIR=/tmp")
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "--- ") {
		t.Skipf("no mounts here: %v\n%s", err, out)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("in a chroot: %v\n%s", err, out)
	}
}
