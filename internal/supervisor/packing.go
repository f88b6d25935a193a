package supervisor

import (
	"context"
	"fmt"
	"os"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/workspace"
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
	manifest, err := workspace.Pack(ctx, ws.Path, f, workspace.PackOptions{
		UID:     s.plan.Guest.User.UID,
		GID:     s.plan.Guest.User.GID,
		Exclude: ws.Exclude,
		Warn:    func(n workspace.Note) { s.note(control.NoteWorkspace, fault.Args{"reason": n.String()}, "%s", n) },
	})
	if err != nil {
		return "", err
	}
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
