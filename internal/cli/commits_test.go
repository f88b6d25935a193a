package cli

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// exec runs a command of the guest's here.
func (m *fakeMachine) exec(conn net.Conn, e *wire.Exec) {
	var mu sync.Mutex
	out := wire.NewFrameWriter(conn)
	send := func(t wire.FrameType) io.Writer {
		return writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return len(p), out.Write(t, p)
		})
	}
	var stdin bytes.Buffer
	for in := wire.NewFrameReader(conn); ; {
		t, payload, err := in.Next()
		if err != nil || t == wire.FrameStdinEOF {
			break
		}
		stdin.Write(payload)
		send(wire.FrameStdinAck).Write(nil)
	}
	cmd := exec.Command(e.Argv[0], e.Argv[1:]...)
	cmd.Dir = m.guest + strings.TrimPrefix(e.Dir, m.dir)
	cmd.Env = append(os.Environ(), e.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &stdin, send(wire.FrameStdout), send(wire.FrameStderr)
	cmd.Run()
	out.Write(wire.FrameExit, []byte{byte(cmd.ProcessState.ExitCode())})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// committer is a machine that works on a copy of a repository.
type committer struct {
	*fakeMachine
	t      *testing.T
	home   string
	packed string // a copy of the workspace as it was packed
}

// newRepository makes a repository with a commit, and no machine yet.
func newRepository(t *testing.T) (s *committer, dir string) {
	t.Helper()
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	s = &committer{t: t, home: home}
	s.write(home, ".gitconfig", "[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n")
	dir = filepath.Join(home, "project")
	s.git(home, "init", "-q", dir)
	s.write(dir, "a.txt", "1\n")
	s.write(dir, "dir/b.txt", "1\n")
	s.write(dir, "dir/gone.txt", "1\n")
	s.git(dir, "add", ".")
	s.git(dir, "commit", "-q", "-m", "first")
	return s, dir
}

// newCommitter makes a repository with a commit and a machine with a copy of it.
func newCommitter(t *testing.T) *committer {
	t.Helper()
	s, _ := newRepository(t)
	s.start()
	return s
}

// start makes the machine.
func (s *committer) start() {
	s.t.Helper()
	s.fakeMachine = runFakeMachine(s.t, s.home, make(map[string]string))
	s.guest = filepath.Join(s.home, "guest")
	s.packed = filepath.Join(s.home, "packed")
	for _, dir := range []string{s.guest, s.packed} {
		if out, err := exec.Command("cp", "-a", s.dir, dir).CombinedOutput(); err != nil {
			s.t.Fatalf("%v\n%s", err, out)
		}
	}
	s.list = s.changes
}

// changes lists all that there is in the guest, and all that is not any more.
func (s *committer) changes(conn net.Conn) {
	err := filepath.WalkDir(s.guest, func(path string, d fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(strings.TrimPrefix(path, s.guest), "/")
		if err != nil || rel == "" {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		c := wire.Change{Path: []byte(rel), Kind: wire.KindDir, Mode: uint32(fi.Mode().Perm())}
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum, err := sparse.SumOf(s.t.Context(), bytes.NewReader(text), int64(len(text)))
			if err != nil {
				return err
			}
			c.Kind, c.Size, c.Sum = wire.KindFile, int64(len(text)), sum[:]
			s.files[rel] = string(text)
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			c.Kind, c.Target = wire.KindSymlink, []byte(target)
		}
		return wire.WriteMessage(conn, c)
	})
	if err == nil {
		err = filepath.WalkDir(s.packed, func(path string, d fs.DirEntry, err error) error {
			rel := strings.TrimPrefix(strings.TrimPrefix(path, s.packed), "/")
			if err != nil || rel == "" {
				return err
			}
			if _, err := os.Lstat(filepath.Join(s.guest, rel)); errors.Is(err, fs.ErrNotExist) {
				err = wire.WriteMessage(conn, wire.Change{Path: []byte(rel), Kind: wire.KindWhiteout})
				if err == nil && d.IsDir() {
					err = fs.SkipDir
				}
				return err
			}
			return nil
		})
	}
	end := wire.Change{End: true}
	if err != nil {
		end.Error = err.Error()
	}
	wire.WriteMessage(conn, end)
}

func (s *committer) write(dir, name, text string) {
	s.t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *committer) git(dir string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimRight(string(out), "\n")
}

// commit commits all that is in dir.
func (s *committer) commit(dir, message string) string {
	s.t.Helper()
	s.git(dir, "add", "-A")
	s.git(dir, "commit", "-q", "-m", message)
	return s.git(dir, "rev-parse", "HEAD")
}

func (s *committer) is(what, got, want string) {
	s.t.Helper()
	if got != want {
		s.t.Errorf("%s: %q; want %q", what, got, want)
	}
}

// mayfly runs a command of the user's.
func (s *committer) mayfly(args ...string) (messages string, err error) {
	s.t.Helper()
	stderr, err := os.Create(filepath.Join(s.t.TempDir(), "err"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer stderr.Close()
	a := userOf(s.t, s.home, nil)
	a.Err, a.Out = stderr, stderr
	err = a.command(args...)
	text, readErr := os.ReadFile(stderr.Name())
	if readErr != nil {
		s.t.Fatal(readErr)
	}
	return string(text), err
}

func (s *committer) says(messages string, lines ...string) {
	s.t.Helper()
	for _, line := range lines {
		if !strings.Contains(messages, line) {
			s.t.Errorf("mayfly does not say %q but:\n%s", line, messages)
		}
	}
}

// Two commits and what was not committed come back: as on the machine, so here.
func TestApplyCommits(t *testing.T) {
	s := newCommitter(t)
	s.write(s.guest, "a.txt", "2\n")
	s.commit(s.guest, "one")
	s.write(s.guest, "new/c.txt", "c\n")
	s.git(s.guest, "rm", "-q", "dir/gone.txt")
	tip := s.commit(s.guest, "two")
	s.write(s.guest, "dir/b.txt", "not committed\n")
	s.write(s.guest, "untracked.txt", "u\n")
	s.write(s.guest, ".git/hooks/post-checkout", "#!/bin/sh\ntouch /tmp/never\n")
	s.git(s.guest, "config", "core.fsmonitor", "/bin/never")
	s.git(s.guest, "config", "branch.main.description", "x")
	config := s.git(s.dir, "config", "--list", "--local")
	s.git(s.dir, "status") // writes the index

	list, err := s.mayfly("diff", "m")
	if err != nil {
		t.Error(err)
	}
	s.says(list, "2 commits on main, 3 files\n", "  "+tip[:10]+"  two\n", "one\n", "git's own files: ", "M  dir/b.txt", "A  untracked.txt")
	if strings.Contains(list, ".git/objects") || strings.Contains(list, ".git/refs") || strings.Contains(list, ".git/index") {
		t.Errorf("diff lists git's own files:\n%s", list)
	}
	messages, err := s.mayfly("apply", "m")
	if code := exitCode(0); err != nil && (!errors.As(err, &code) || code != exitHeld) {
		t.Errorf("apply = %v", err)
	}
	s.says(messages, "main: fast-forwarded to "+tip[:10]+", 2 commits")
	s.is("main", s.git(s.dir, "rev-parse", "main"), tip)
	s.is("git status", s.git(s.dir, "status", "--porcelain"), " M dir/b.txt\n?? untracked.txt")
	s.is("configuration", s.git(s.dir, "config", "--list", "--local"), config)
	if _, err := os.Lstat(filepath.Join(s.dir, ".git/hooks/post-checkout")); err == nil {
		t.Error("the hook came back")
	}
	s.git(s.dir, "fsck", "--strict")

	// The next time what is there already is no news.
	if messages, err = s.mayfly("apply", "m"); strings.Contains(messages, "fast-forwarded") || strings.Contains(messages, "commits") {
		t.Errorf("apply again = %v; it says:\n%s", err, messages)
	}
}

// Where the user went on, the commits are a branch and nothing in its way.
func TestApplyBranch(t *testing.T) {
	for name, tt := range map[string]struct {
		meanwhile func(s *committer)
		args      []string
		why       string
	}{
		"commit": {func(s *committer) { s.write(s.dir, "mine.txt", "m\n"); s.commit(s.dir, "mine") }, nil, " (the branch here has other commits)"},
		"switch": {func(s *committer) { s.git(s.dir, "switch", "-q", "-c", "mine") }, nil, " (their branch is not checked out here)"},
		"gc": {func(s *committer) {
			s.write(s.dir, "mine.txt", "m\n")
			s.commit(s.dir, "mine")
			s.git(s.dir, "gc", "-q", "--prune=now")
		}, nil, " (the branch here has other commits)"},
		"flag": {func(s *committer) {}, []string{"--branch"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCommitter(t)
			s.write(s.guest, "a.txt", "2\n")
			s.write(s.guest, "new/c.txt", "c\n")
			s.git(s.guest, "rm", "-q", "-r", "dir")
			tip := s.commit(s.guest, "one")
			s.write(s.guest, "untracked.txt", "u\n")
			tt.meanwhile(s)
			head, index := s.git(s.dir, "rev-parse", "HEAD"), s.git(s.dir, "ls-files", "--stage")
			messages, err := s.mayfly(append([]string{"apply", "m"}, tt.args...)...)
			if err != nil {
				t.Errorf("apply = %v\n%s", err, messages)
			}
			s.says(messages, "1 commit of main: branch mayfly/m/main"+tt.why+"; git merge mayfly/m/main\n", "applied 1 of 1 changes")
			s.is("branch", s.git(s.dir, "rev-parse", "mayfly/m/main"), tip)
			s.is("HEAD", s.git(s.dir, "rev-parse", "HEAD"), head)
			s.is("index", s.git(s.dir, "ls-files", "--stage"), index)
			s.is("git status", s.git(s.dir, "status", "--porcelain"), "?? untracked.txt")
			s.git(s.dir, "fsck", "--strict")
			s.git(s.dir, "merge", "-q", "-m", "merge", "mayfly/m/main")
			s.is("merged", s.git(s.dir, "show", "HEAD:new/c.txt"), "c")
		})
	}
}

// Whatever a machine does to .git, it stays the user's.
func TestGitStays(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(s *committer)
		want []string // files that come back
	}{
		"index only": {func(s *committer) {
			s.git(s.guest, "add", "-A")
			s.git(s.guest, "update-index", "--force-remove", "a.txt")
		}, nil},
		"deleted": {func(s *committer) { os.RemoveAll(filepath.Join(s.guest, ".git")) }, nil},
		"a file": {func(s *committer) {
			os.RemoveAll(filepath.Join(s.guest, ".git"))
			s.write(s.guest, ".git", "gitdir: ../elsewhere\n")
		}, nil},
		"by other names": {func(s *committer) {
			s.write(s.guest, ".GIT/hooks/x", "x")
			s.write(s.guest, "git~1/config", "x")
			s.write(s.guest, "dir/.git./config", "x")
			s.write(s.guest, "ok.txt", "x")
		}, []string{"ok.txt"}},
		"nested": {func(s *committer) {
			s.git(s.guest, "init", "-q", "vendor/x")
			s.write(s.guest, "vendor/x/file", "x")
			s.write(s.guest, "vendor/x/.git/hooks/pre-commit", "x")
		}, []string{"vendor/x/file"}},
		"bare": {func(s *committer) {
			s.git(s.guest, "init", "-q", "--bare", "store")
			s.write(s.guest, "store/hooks/pre-commit", "x")
			s.write(s.guest, "other/file", "x")
		}, []string{"other/file"}},
		"objects": {func(s *committer) {
			s.write(s.guest, ".git/objects/info/alternates", "/home/other/objects\n")
			s.write(s.guest, ".git/info/exclude", "*\n")
			s.write(s.guest, ".git/refs/replace/"+strings.Repeat("1", 40), strings.Repeat("2", 40)+"\n")
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCommitter(t)
			tt.do(s)
			before := tree(t, s.dir)
			messages, _ := s.mayfly("apply", "--all", "m")
			after := tree(t, s.dir)
			for _, name := range tt.want {
				if _, ok := after[name]; !ok {
					t.Errorf("%s did not come back:\n%s", name, messages)
				}
				delete(after, name)
			}
			for name, text := range after {
				if old, ok := before[name]; !ok || old != text {
					t.Errorf("%s changed:\n%s", name, messages)
				}
			}
			for name := range before {
				if _, ok := after[name]; !ok {
					t.Errorf("%s is gone:\n%s", name, messages)
				}
			}
		})
	}
}

// tree returns the files of a directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			text, readErr := os.ReadFile(path)
			files[strings.TrimPrefix(path, dir+"/")], err = string(text), readErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A machine whose git lies about its commits is told off, and nothing is lost.
func TestCommitsRefused(t *testing.T) {
	s := newCommitter(t)
	s.write(s.guest, "a.txt", "2\n")
	s.commit(s.guest, "one")
	s.lie()
	head := s.git(s.dir, "rev-parse", "HEAD")
	messages, err := s.mayfly("apply", "m")
	if code := exitCode(0); !errors.As(err, &code) || code != exitError {
		t.Errorf("apply = %v; want exit code %d", err, exitError)
	}
	s.says(messages, "commits cannot be brought back: the machine's commits were refused: ")
	s.is("HEAD", s.git(s.dir, "rev-parse", "HEAD"), head)
}

// The same where no file differs from the host's: the commits are on another branch.
func TestCommitsRefusedAlone(t *testing.T) {
	s := newCommitter(t)
	s.git(s.guest, "switch", "-q", "-c", "fix")
	s.write(s.guest, "a.txt", "2\n")
	s.commit(s.guest, "one")
	s.git(s.guest, "switch", "-q", "main")
	s.lie()
	messages, err := s.mayfly("apply", "m")
	if code := exitCode(0); !errors.As(err, &code) || code != exitError {
		t.Errorf("apply = %v; want exit code %d: the machine has the commits alone", err, exitError)
	}
	s.says(messages, "commits cannot be brought back: the machine's commits were refused: ")
}

// lie has git write nonsense for the bundles that it is asked for.
func (s *committer) lie() {
	s.t.Helper()
	bin := filepath.Join(s.home, "bin")
	s.write(bin, "git", "#!/bin/sh\ncase \"$1\" in bundle) echo '# v2 git bundle'; echo nonsense;; *) exec "+gitPath(s.t)+" \"$@\";; esac\n")
	if err := os.Chmod(filepath.Join(bin, "git"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	s.t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func gitPath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("git")
	if err != nil {
		t.Skip("no git here")
	}
	return path
}

// Commits of a submodule come to its repository, those of a worktree elsewhere in the
// machine and those on no branch to the one of the workspace.
func TestApplyCommitsElsewhere(t *testing.T) {
	s, dir := newRepository(t)
	s.write(s.home, "lib/l.txt", "1\n")
	s.git(s.home, "init", "-q", "lib")
	s.commit(filepath.Join(s.home, "lib"), "library")
	s.git(dir, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", filepath.Join(s.home, "lib"), "third/lib")
	s.commit(dir, "submodule")
	s.start()
	sub := filepath.Join(s.guest, "third/lib")
	s.write(sub, "l.txt", "2\n")
	subTip := s.commit(sub, "in the library")
	s.git(s.guest, "worktree", "add", "-q", "-b", "side", filepath.Join(s.home, "elsewhere"))
	s.write(filepath.Join(s.home, "elsewhere"), "w.txt", "w\n")
	sideTip := s.commit(filepath.Join(s.home, "elsewhere"), "in a worktree")
	s.git(s.guest, "add", "third/lib")
	mainTip := s.commit(s.guest, "new library")
	s.git(s.guest, "switch", "-q", "--detach")
	s.write(s.guest, "d.txt", "d\n")
	detached := s.commit(s.guest, "on no branch")

	messages, err := s.mayfly("apply", "--all", "m")
	if err != nil {
		t.Errorf("apply = %v", err)
	}
	s.says(messages,
		"1 commit on side, 1 file (worktree "+filepath.Join(s.home, "elsewhere")+" in the machine)\n",
		"third/lib: main: fast-forwarded to "+subTip[:10],
		"of no branch: branch mayfly/m/detached (they are on no branch in the machine)")
	s.is("side", s.git(s.dir, "rev-parse", "mayfly/m/side"), sideTip)
	s.is("main", s.git(s.dir, "rev-parse", "mayfly/m/main"), mainTip)
	s.is("detached", s.git(s.dir, "rev-parse", "mayfly/m/detached"), detached)
	s.is("submodule", s.git(filepath.Join(s.dir, "third/lib"), "rev-parse", "main"), subTip)
	s.is("git status of the submodule", s.git(filepath.Join(s.dir, "third/lib"), "status", "--porcelain"), "")
	s.git(s.dir, "merge", "-q", "--ff-only", "mayfly/m/detached")
	s.is("git status", s.git(s.dir, "status", "--porcelain"), "")
	s.git(s.dir, "fsck", "--strict")
}

// Commits go on top of what the user committed meanwhile, and the branch goes on to them with
// the files. Where both have changed a file they are a branch that builds on the user's. If
// they are in conflict nothing is changed.
func TestApplyRebase(t *testing.T) {
	for name, tt := range map[string]struct {
		host, says, status string
	}{
		"other file": {"mine.txt", "main: fast-forwarded to ", "?? untracked.txt"},
		"same file":  {"dir/b.txt", "1 commit of main: branch mayfly/m/main (on top of the branch here, with files that both have changed); git merge mayfly/m/main\n", "?? untracked.txt"},
		"conflict":   {"a.txt", "nothing was applied: commit ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := newRepository(t)
			s.write(dir, "dir/b.txt", "1\n2\n3\n4\n5\n6\n7\n")
			s.commit(dir, "lines")
			s.start()
			s.write(s.guest, "a.txt", "2\n")
			s.write(s.guest, "dir/b.txt", "1\n2\n3\n4\n5\n6\nseven\n")
			s.commit(s.guest, "one")
			s.write(s.guest, "untracked.txt", "u\n")
			s.write(s.dir, tt.host, "mine\n2\n3\n4\n5\n6\n7\n")
			head := s.commit(s.dir, "mine")
			messages, err := s.mayfly("apply", "m", "--rebase")
			if name == "conflict" {
				if fault.CodeOf(err) != fault.RebaseConflict {
					t.Errorf("apply = %v", err)
				}
				messages = err.Error()
			} else if err != nil {
				t.Errorf("apply = %v", err)
			}
			s.says(messages, tt.says)
			s.is("git status", s.git(s.dir, "status", "--porcelain"), tt.status)
			s.git(s.dir, "fsck", "--strict")
			switch name {
			case "other file":
				s.is("main~", s.git(s.dir, "rev-parse", "main~"), head)
				s.is("a.txt", s.git(s.dir, "show", "main:a.txt"), "2")
			case "same file":
				s.git(s.dir, "merge", "-q", "--ff-only", "mayfly/m/main")
				s.is("dir/b.txt", s.git(s.dir, "show", "main:dir/b.txt"), "mine\n2\n3\n4\n5\n6\nseven")
			default:
				s.is("main", s.git(s.dir, "rev-parse", "main"), head)
				s.is("branches", s.git(s.dir, "for-each-ref", "refs/heads/mayfly"), "")
			}
			// The same again is nothing new.
			if name == "other file" {
				if messages, err := s.mayfly("apply", "m", "--rebase"); err != nil || strings.Contains(messages, "forwarded") {
					t.Errorf("apply again = %v\n%s", err, messages)
				}
			}
		})
	}
}

// The branch that is made of the commits is checked out, and the one that was stays.
func TestApplyCheckout(t *testing.T) {
	for name, tt := range map[string]struct {
		guest, host func(s *committer)
		says, head  string
	}{
		"same branch":  {nil, nil, "1 commit of main: branch mayfly/m/main, which is checked out\n", "refs/heads/mayfly/m/main"},
		"other branch": {func(s *committer) { s.git(s.guest, "switch", "-q", "-c", "feature") }, nil, "1 commit of feature: branch mayfly/m/feature, which is checked out\n", "refs/heads/mayfly/m/feature"},
		"on no branch": {nil, func(s *committer) { s.git(s.dir, "switch", "-q", "--detach") }, "branch mayfly/m/main, which is checked out\n", "refs/heads/mayfly/m/main"},
		"moved on": {nil, func(s *committer) { s.write(s.dir, "mine.txt", "m\n"); s.commit(s.dir, "mine") },
			"branch mayfly/m/main (the branch here has other commits); git merge", "refs/heads/main"},
		"held back": {func(s *committer) { s.write(s.guest, ".envrc", "x\n") }, nil,
			"branch mayfly/m/main (not all of their files were applied); git reset mayfly/m/main\n", "refs/heads/main"},
		"staged": {nil, func(s *committer) { s.write(s.dir, "a.txt", "mine\n"); s.git(s.dir, "add", "a.txt") },
			"branch mayfly/m/main (you have staged something that they change); git merge", "refs/heads/main"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCommitter(t)
			old := s.git(s.dir, "rev-parse", "main")
			if tt.guest != nil {
				tt.guest(s)
			}
			s.write(s.guest, "a.txt", "2\n")
			s.write(s.guest, "new.txt", "n\n")
			tip := s.commit(s.guest, "one")
			s.write(s.guest, "untracked.txt", "u\n")
			if tt.host != nil {
				tt.host(s)
				old = s.git(s.dir, "rev-parse", "main")
			}
			messages, _ := s.mayfly("apply", "m", "--checkout")
			s.says(messages, tt.says)
			s.is("HEAD", s.git(s.dir, "symbolic-ref", "HEAD"), tt.head)
			s.is("main", s.git(s.dir, "rev-parse", "main"), old)
			if strings.Contains(tt.head, "mayfly") {
				s.is("the commit", s.git(s.dir, "rev-parse", "HEAD"), tip)
				s.is("git status", s.git(s.dir, "status", "--porcelain"), "?? untracked.txt")
				s.says(s.git(s.dir, "reflog", "show", "HEAD"), "checkout: moving from ")
				s.git(s.dir, "switch", "-q", "main")
				s.is("git status of main", s.git(s.dir, "status", "--porcelain"), "?? untracked.txt")
			}
			s.git(s.dir, "fsck", "--strict")
		})
	}
	if _, err := newCommitter(t).mayfly("apply", "m", "--checkout", "--rebase"); err == nil {
		t.Error("--checkout --rebase = nil; want an error")
	}
}

// The branch goes on to signed commits.
func TestApplySign(t *testing.T) {
	s := newCommitter(t)
	s.write(s.guest, "a.txt", "2\n")
	s.commit(s.guest, "one")
	program := filepath.Join(s.home, "sign")
	s.write(s.home, "sign", "#!/bin/sh\ncat >/dev/null\necho '[GNUPG:] SIG_CREATED ' >&2\nprintf -- '-----BEGIN PGP SIGNATURE-----\\nmine\\n-----END PGP SIGNATURE-----\\n'\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	s.git(s.dir, "config", "gpg.program", program)
	messages, err := s.mayfly("apply", "m", "--sign")
	if err != nil {
		t.Errorf("apply = %v", err)
	}
	s.says(messages, "main: fast-forwarded to "+s.git(s.dir, "rev-parse", "main")[:10])
	if text := s.git(s.dir, "cat-file", "commit", "main"); !strings.Contains(text, "gpgsig ") {
		t.Errorf("it is not signed:\n%s", text)
	}
	s.is("git status", s.git(s.dir, "status", "--porcelain"), "")
}

// An undo takes branches back, too, where they still are what the apply made of them, and
// what was taken back can be applied again.
func TestUndoCommits(t *testing.T) {
	for name, tt := range map[string]struct {
		args      []string
		meanwhile func(s *committer)
		says      string // of what is not taken back
	}{
		"forward":     {nil, nil, ""},
		"branch":      {[]string{"--branch"}, nil, ""},
		"checkout":    {[]string{"--checkout"}, nil, ""},
		"checked out": {[]string{"--checkout"}, func(s *committer) { s.git(s.dir, "switch", "-q", "-c", "mine") }, "HEAD: something else is checked out now"},
		"gone on":     {nil, func(s *committer) { s.write(s.dir, "mine.txt", "m\n"); s.commit(s.dir, "mine") }, "branch main: it has other commits now"},
		"staged":      {nil, func(s *committer) { s.write(s.dir, "a.txt", "mine\n"); s.git(s.dir, "add", "a.txt") }, "branch main: you have staged something"},
		"switched": {[]string{"--branch"}, func(s *committer) { s.git(s.dir, "switch", "-q", "mayfly/m/main") },
			"branch mayfly/m/main: it is checked out"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCommitter(t)
			s.write(s.guest, "a.txt", "2\n")
			s.git(s.guest, "rm", "-q", "dir/gone.txt")
			tip := s.commit(s.guest, "one")
			if name != "branch" {
				s.write(s.guest, "untracked.txt", "u\n")
			}
			refs, head := s.git(s.dir, "for-each-ref"), s.git(s.dir, "symbolic-ref", "HEAD")
			s.write(s.dir, "staged.txt", "s\n")
			s.git(s.dir, "add", "staged.txt")
			status := s.git(s.dir, "status", "--porcelain")
			apply := append([]string{"apply", "m"}, tt.args...)
			if messages, err := s.mayfly(apply...); err != nil {
				t.Fatalf("apply = %v\n%s", err, messages)
			}
			if tt.meanwhile != nil {
				tt.meanwhile(s)
				now := s.git(s.dir, "for-each-ref")
				messages, err := s.mayfly("undo", "m")
				if err == nil {
					t.Error("undo = nil; want an error")
				}
				s.says(messages, "not undone: ", tt.says)
				if name != "checked out" { // whose branch has the commits, too
					s.is("references", s.git(s.dir, "for-each-ref"), now)
				}
				s.git(s.dir, "fsck", "--strict")
				return
			}
			messages, err := s.mayfly("undo", "m")
			if err != nil {
				t.Fatalf("undo = %v\n%s", err, messages)
			}
			s.says(messages, "is as before")
			s.is("references", s.git(s.dir, "for-each-ref"), refs)
			s.is("HEAD", s.git(s.dir, "symbolic-ref", "HEAD"), head)
			s.is("git status", s.git(s.dir, "status", "--porcelain"), status)
			s.git(s.dir, "fsck", "--strict")
			if _, err := s.mayfly("undo", "m"); errorCode(err) != "undo-none" {
				t.Errorf("undo again = %v; want the code undo-none", err)
			}
			if messages, err := s.mayfly(apply...); err != nil {
				t.Errorf("apply again = %v\n%s", err, messages)
			}
			s.is("again", s.git(s.dir, "rev-parse", map[string]string{"forward": "main", "branch": "mayfly/m/main", "checkout": "HEAD"}[name]), tip)
		})
	}
}
