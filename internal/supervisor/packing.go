package supervisor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/commits"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
	"github.com/mayfly-vm/mayfly/internal/workspace"
	"github.com/mayfly-vm/mayfly/internal/workspace/repository"
)

// packing is the workspace being packed, beside the start of a VMM.
type packing struct {
	done chan struct{} // closed when the following are set
	copy string        // the name of the copy, where one is kept
	err  error
}

// pack begins to pack the workspace, unless there is a kept copy of this name. An error
// ends the start's context by cancel.
func (s *supervisor) pack(ctx context.Context, kept string, cancel context.CancelCauseFunc) *packing {
	p := &packing{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if p.copy, p.err = s.packWorkspace(ctx, kept); p.err != nil {
			cancel(p.err)
		}
	}()
	return p
}

// wait waits until the workspace is packed, and returns the name of the copy.
func (p *packing) wait() (name string, err error) {
	<-p.done
	return p.copy, p.err
}

// packWorkspace makes the machine's private copy of the workspace, unless it has one
// with this name. It returns the name of the copy, where that is kept.
func (s *supervisor) packWorkspace(ctx context.Context, kept string) (string, error) {
	ws := s.plan.Workspace
	if !ws.Copied() || kept != "" {
		return kept, nil
	}
	packed, list := s.machine.WorkspaceFiles(s.plan)
	f, err := os.OpenFile(packed, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	git, err := s.carryGit(ctx)
	if err != nil {
		return "", err
	}
	if git != nil {
		defer os.RemoveAll(git.Dir)
	}
	manifest, err := workspace.Pack(ctx, ws.Path, f, workspace.PackOptions{
		UID:     s.plan.Guest.User.UID,
		GID:     s.plan.Guest.User.GID,
		Exclude: ws.Exclude,
		Git:     git,
		Warn:    func(n workspace.Note) { s.note(control.NoteWorkspace, fault.Args{"reason": n.String()}, "%s", n) },
	})
	if err != nil {
		return "", err
	}
	s.noteLostGit(manifest)
	// The name says that both are whole. Of a copy that is kept it must say so after a
	// crash of the host, too: nobody would pack again, and the guest would find holes.
	commit := (*atomicfile.File).CommitUnsynced
	if s.plan.Keep != nil {
		if err := f.Sync(); err != nil {
			return "", fmt.Errorf("write the copy of the workspace: %w", err)
		}
		commit = (*atomicfile.File).Commit
	}
	out, err := atomicfile.Create(list, 0o600)
	if err != nil {
		return "", err
	}
	defer out.Close()
	if _, err := manifest.WriteTo(out); err != nil {
		return "", err
	}
	if err := commit(out); err != nil {
		return "", err
	}
	if s.plan.Keep == nil {
		return "", nil
	}
	return copyName(list)
}

// mostLinked bounds the directories below the workspace whose repositories are looked for.
const mostLinked = 1000

// noteLostGit says in which directories of the copy git does not work, since their repositories
// are not in it: submodules of a repository that begins above the workspace, or of a linked
// worktree, and worktrees of other repositories.
func (s *supervisor) noteLostGit(m *workspace.Manifest) {
	var lost []string
	linked := 0
	for i := range m.Entries {
		e := &m.Entries[i]
		dir, ok := strings.CutSuffix(e.Path, "/.git")
		if !ok || e.Kind != workspace.File {
			continue
		}
		if linked++; linked > mostLinked {
			break
		}
		if repository.Lost(m.Root, filepath.Join(m.Root, dir), m.GitCarried) {
			lost = append(lost, dir)
		}
	}
	if len(lost) == 0 {
		return
	}
	where, its := termsafe.Quote(lost[0]), "its repository is not in the copy; a machine that is started in that directory has it"
	if n := len(lost) - 1; n > 0 {
		where = fmt.Sprintf("%s and %d more", where, n)
		its = "their repositories are not in the copy; a machine that is started in such a directory has it"
	}
	reason := fmt.Sprintf("in the machine, git will not work in %s: %s", where, its)
	s.note(control.NoteGit, fault.Args{"reason": reason}, "%s", reason)
}

// carryGit makes what git needs in the copy of a workspace whose repository is not in it,
// nil where it needs nothing. The caller removes it. Without it the machine starts, too,
// and says so.
func (s *supervisor) carryGit(ctx context.Context) (*workspace.CarriedGit, error) {
	ws := s.plan.Workspace
	o, ok := repository.Find(ws.Path)
	// A repository of the whole home directory has settings, and is no workspace.
	if !ok || o.Holds(s.plan.Guest.User.Home) || workspace.Excluded(ws.Exclude, ".git") {
		return nil, nil
	}
	dir, err := os.MkdirTemp(s.machine.Dir, "git-")
	if err != nil {
		return nil, err
	}
	carried, err := commits.Carry(ctx, ws.Path, dir, s.machine.Dir, commits.DefaultCarryLimits())
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err != nil:
		s.note(control.NoteGit, fault.Args{"reason": err.Error()}, "git will not work in the machine: %s", termsafe.Line(err.Error()))
		return nil, os.RemoveAll(dir)
	case carried.Cut > 0:
		reason := fmt.Sprintf("git has the last %d commits in the machine: the repository is large", carried.Cut)
		s.note(control.NoteGit, fault.Args{"reason": reason}, "%s", reason)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return &workspace.CarriedGit{Dir: dir, Prefix: carried.Prefix}, nil
}
