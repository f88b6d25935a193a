package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Bounds of what a machine's git says.
const (
	gitTimeout  = 2 * time.Minute
	maxGitState = 16 << 20
	maxGitError = 4 << 10
)

// guestState is what the machine's git says of a repository: words, from which nothing
// follows but what is asked for next, and which files are left to a branch.
type guestState struct {
	refs      []commits.Ref // of branches, and HEAD if that is on none
	branch    string        // that is checked out, or commits' name for none
	worktrees map[string]string
	dirty     map[string]bool
	unsure    bool // any file may be dirty: git did not say it
}

// stateScript prints branches, the commit that is checked out and what was not committed. To
// compare files git would run the filters of their attributes: these may want what the machine
// does not have, such as git-lfs, and so the attributes are those of the empty tree. git 2.39 does not know that yet.
const stateScript = `git for-each-ref --sort=-committerdate --count=1000 --format='%(HEAD)%00%(objectname)%00%(refname)%00%(worktreepath)' refs/heads &&
printf '\001\n' && { git rev-parse -q --verify 'HEAD^{commit}' || :; } && printf '\001\n' &&
{ GIT_ATTR_SOURCE=$(git hash-object -t tree --stdin </dev/null) git status --porcelain=v1 -z --untracked-files=no --no-renames --ignore-submodules=all || printf '\001\n'; }`

func (m Machine) gitState(ctx context.Context, dir string) (guestState, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, gitTimeout, fmt.Errorf("git in the machine gave no answer in %v", gitTimeout))
	defer cancel()
	var out bytes.Buffer
	if err := m.git(ctx, dir, []string{"sh", "-c", stateScript}, nil, &limited{w: &out, left: maxGitState}); err != nil {
		return guestState{}, err
	}
	return parseState(out.String(), dir), nil
}

func parseState(text, dir string) guestState {
	s := guestState{branch: "HEAD", worktrees: make(map[string]string), dirty: make(map[string]bool)}
	branches, rest, _ := strings.Cut(text, "\x01\n")
	head, status, _ := strings.Cut(rest, "\x01\n")
	status, _, s.unsure = strings.Cut(status, "\x01\n")
	for line := range strings.Lines(branches) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\x00")
		if len(fields) != 4 || len(s.refs) == commits.MaxRefs-1 {
			continue
		}
		name := strings.TrimPrefix(fields[2], "refs/heads/")
		s.refs = append(s.refs, commits.Ref{Name: fields[2], ID: fields[1]})
		if fields[0] == "*" {
			s.branch = name
		} else if fields[3] != "" && fields[3] != dir {
			s.worktrees[name] = fields[3]
		}
	}
	if head = strings.TrimSpace(head); s.branch == "HEAD" && head != "" {
		s.refs = append(s.refs, commits.Ref{Name: "HEAD", ID: head})
	}
	for entry := range strings.SplitSeq(status, "\x00") {
		if len(entry) > 3 {
			s.dirty[entry[3:]] = true
		}
	}
	return s
}

// bundle has the machine's git pack refs, without what is reachable from tips. The file
// has no name.
func (m Machine) bundle(ctx context.Context, dir string, refs []commits.Ref, tips []string, limits commits.Limits) (_ *os.File, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Time, fmt.Errorf("git in the machine did not pack its commits in %v", limits.Time))
	defer cancel()
	f, err := os.CreateTemp(m.m.Dir, "bundle-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	var in strings.Builder
	for _, ref := range refs {
		in.WriteString(ref.Name + "\n")
	}
	for _, id := range tips {
		in.WriteString("^" + id + "\n")
	}
	// Where the working tree begins above dir, git 2.39 would take - for a file.
	argv := []string{"env", "GIT_WORK_TREE=.", "git", "bundle", "create", "--quiet", "-", "--ignore-missing", "--stdin"}
	return f, m.git(ctx, dir, argv, strings.NewReader(in.String()), &limited{w: f, left: limits.Bundle})
}

// guestGit is the environment of git in a machine, in which nothing runs that the repository
// has set up.
var guestGit = []string{
	"GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
	"GIT_CONFIG_COUNT=3", "GIT_CONFIG_KEY_0=core.fsmonitor", "GIT_CONFIG_VALUE_0=false",
	"GIT_CONFIG_KEY_1=core.hooksPath", "GIT_CONFIG_VALUE_1=/dev/null", "GIT_CONFIG_KEY_2=core.untrackedCache", "GIT_CONFIG_VALUE_2=false",
}

// git runs a command for the machine's user in a directory of the machine.
func (m Machine) git(ctx context.Context, dir string, argv []string, in io.Reader, out io.Writer) error {
	var said bytes.Buffer
	req := &wire.Exec{Argv: argv, Dir: dir, Env: guestGit}
	return m.converse(ctx, func(stream net.Conn) error {
		code, err := client.Exec(stream, req, client.Stdio{Stdin: in, Stdout: out, Stderr: &clipped{&said, maxGitError}})
		switch {
		case err != nil:
			return commandError(err)
		case code == 127:
			return errors.New("the machine has no git")
		case code != 0:
			return fmt.Errorf("git in the machine: %s", termsafe.Line(strings.TrimSpace(said.String())))
		}
		return nil
	})
}

// limited refuses more than a number of bytes.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, fmt.Errorf("%w: the machine sent more than is taken", commits.ErrRefused)
	}
	return l.w.Write(p)
}

// clipped takes the first bytes, and drops the others.
type clipped struct {
	w    io.Writer
	left int
}

func (c *clipped) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	_, err := c.w.Write(p[:n])
	return len(p), err
}
