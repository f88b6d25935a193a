package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
)

// taskMachine is a machine that was started for a task, with the changes of another.
type taskMachine struct {
	*mayfly.Machine
	kept, discarded bool
}

func (m *taskMachine) Keep() error    { m.kept = true; return nil }
func (m *taskMachine) Discard() error { m.discarded = true; return nil }

// Of a task the commits are a branch, whatever the agent's exit code is. The user's branch and
// files stay. What is in no commit keeps the machine, and is in the exit code.
func TestTask(t *testing.T) {
	fails := errors.New("lost")
	for name, tt := range map[string]struct {
		works   func(s *committer)
		code    int
		err     error
		want    exitCode
		kept    bool
		commits bool
		says    string
		lies    bool // the machine's git
	}{
		"commits that are refused": {func(s *committer) {
			s.git(s.guest, "switch", "-q", "-c", "fix")
			s.write(s.guest, "a.txt", "2\n")
			s.commit(s.guest, "one")
			s.git(s.guest, "switch", "-q", "main")
		}, 0, nil, exitError, true, false, "the machine is kept, with the commits that were not brought back", true},
		"commits":                {func(s *committer) { s.write(s.guest, "a.txt", "2\n"); s.commit(s.guest, "one") }, 0, nil, 0, false, true, "branch mayfly/m/main", false},
		"commits of a failure":   {func(s *committer) { s.write(s.guest, "a.txt", "2\n"); s.commit(s.guest, "one") }, 130, nil, 130, false, true, "branch mayfly/m/main", false},
		"nothing":                {func(*committer) {}, 0, nil, 0, false, false, "nothing was changed", false},
		"nothing but a failure":  {func(*committer) {}, 7, nil, 7, false, false, "nothing was changed", false},
		"no commit":              {func(s *committer) { s.write(s.guest, "a.txt", "2\n") }, 0, nil, exitHeld, true, false, "a change is in no commit, and held back", false},
		"no commit of a failure": {func(s *committer) { s.write(s.guest, "a.txt", "2\n") }, 130, nil, 130, true, false, "a change is in no commit, and held back", false},
		"both": {func(s *committer) {
			s.write(s.guest, "a.txt", "2\n")
			s.commit(s.guest, "one")
			s.write(s.guest, "dir/b.txt", "2\n")
			s.write(s.guest, "Makefile", "all:\n\ttrue\n")
		}, 0, nil, exitHeld, true, true, "2 changes are in no commit, and held back", false},
		"lost": {func(*committer) {}, 0, fails, 0, true, false, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCommitter(t)
			if tt.lies {
				s.lie()
			}
			head, index := s.git(s.dir, "rev-parse", "HEAD"), s.git(s.dir, "ls-files", "--stage")
			a := userOf(t, s.home, nil)
			stderr, err := os.Create(filepath.Join(t.TempDir(), "err"))
			if err != nil {
				t.Fatal(err)
			}
			defer stderr.Close()
			a.Err = stderr
			real, err := a.client.Machine(t.Context(), "m")
			if err != nil {
				t.Fatal(err)
			}
			m := &taskMachine{Machine: real}
			err = a.workIn(t.Context(), m, work{
				do:     func() (int, error) { tt.works(s); return tt.code, tt.err },
				finish: func() (bool, error) { return a.bringCommits(t.Context(), m) },
			})
			code, ok := errors.AsType[exitCode](err)
			if code != tt.want || !ok && err != nil && tt.err == nil || tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("the task = %v; want exit code %d, %v", err, tt.want, tt.err)
			}
			if m.kept != tt.kept || m.discarded == tt.kept {
				t.Errorf("kept %v, discarded %v; want it kept: %v", m.kept, m.discarded, tt.kept)
			}
			text, err := os.ReadFile(stderr.Name())
			if err != nil {
				t.Fatal(err)
			}
			s.says(string(text), tt.says)
			branch := s.git(s.dir, "branch", "--list", "mayfly/m/main")
			if (branch != "") != tt.commits {
				t.Errorf("the branch is %q; want one: %v", branch, tt.commits)
			}
			s.is("HEAD", s.git(s.dir, "rev-parse", "HEAD"), head)
			s.is("index", s.git(s.dir, "ls-files", "--stage"), index)
			s.is("git status", s.git(s.dir, "status", "--porcelain"), "")
		})
	}
}

// A task goes on in a machine that outlives mayfly, so that a kill loses nothing.
func TestTaskOutlivesMayfly(t *testing.T) {
	for _, lasting := range []bool{false, true} {
		m := &fakeStarted{}
		var kept, atWork bool
		m.onKeep = func() { kept = true }
		a := userOf(t, t.TempDir(), nil)
		err := a.workIn(t.Context(), m, work{
			lasting: lasting,
			do:      func() (int, error) { atWork = kept; return 0, nil },
			finish:  func() (bool, error) { return true, nil },
		})
		if err != nil || atWork != lasting || !m.discarded {
			t.Errorf("lasting %v: %v, kept before the work %v, discarded at the end %v", lasting, err, atWork, m.discarded)
		}
	}
}

// planner returns mayfly for the user with this home, who has a QEMU that can be asked for
// its version only.
func planner(t *testing.T, home string) *app {
	t.Helper()
	qemu := filepath.Join(home, "qemu")
	if err := os.WriteFile(qemu, []byte("#!/bin/sh\n[ \"$1\" = --version ] || exit 1\necho QEMU emulator version 10.0.2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	a := userOf(t, home, nil)
	a.getenv = func(name string) string { return map[string]string{"HOME": home, "MAYFLY_QEMU": qemu}[name] }
	if err := a.open(&cobra.Command{}, nil); err != nil {
		t.Fatal(err)
	}
	return a
}

// What cannot be a task is refused before a machine is started.
func TestTaskRefused(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, ".config/mayfly/machines")
	for name, text := range map[string]string{"none": "version = 1\n", "live": "version = 1\n[workspace]\npath = \"~/project\"\nmode = \"share\"\n"} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.MkdirAll(filepath.Join(home, "project"), 0o755), os.WriteFile(filepath.Join(dir, name+".toml"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"live"}, {"live", ""}, {"live", "x", "--prompt-file", "/dev/null"}, {"live", "--prompt-file", "/dev/null"}, {"live", "x", "--agent", "nobody"}} {
		if err := userOf(t, home, nil).command(append([]string{"task"}, args...)...); !errors.As(err, new(usageError)) {
			t.Errorf("task %q = %v; want a usage error", args, err)
		}
	}
	for name, want := range map[string]string{"none": "has no workspace", "live": "is live", "nobody": "no machine has this name"} {
		err := planner(t, home).command("task", name, "x", "--agent", "claude")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("task %s = %v; want %q", name, err, want)
		}
	}
}

// Another machine of a definition has its settings and a new copy of its workspace, a name of
// its own, and nothing that it keeps or publishes.
func TestTaskPlan(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, ".config/mayfly/machines")
	text := "version = 1\n[machine]\nmemory = \"768MiB\"\n[workspace]\npath = \"~/project\"\n[network]\nports = [\"8080:80\"]\n[[volume]]\nname = \"c\"\nmount = \"/c\"\nsize = \"1GiB\"\n"
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.MkdirAll(filepath.Join(home, "project"), 0o755), os.WriteFile(filepath.Join(dir, "web.toml"), []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	d, err := planner(t, home).client.DryRun(t.Context(), mayfly.Spec{Definition: "web"})
	if err != nil {
		t.Fatal(err)
	}
	p := d.Plan
	if !strings.HasPrefix(p.Name, "web-") || p.Workspace != filepath.Join(home, "project") || p.MemoryMiB != 768 || len(p.Network.Ports) > 0 || strings.Contains(d.Shell, "kept") {
		t.Errorf("the plan is %+v: %s", p, d.Shell)
	}
}
