package supervisor

import (
	"errors"
	"fmt"
	"os"

	"github.com/mayfly-vm/mayfly/internal/dotfiles"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// packDotfiles makes the disk of the user's own files for the home, once.
func (s *supervisor) packDotfiles() error {
	g := s.plan.Guest
	if len(g.Dotfiles) == 0 || s.dotfiles != nil {
		return nil
	}
	f, err := os.OpenFile(s.machine.File(state.DotfilesFile), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("pack the dotfiles: %w", err)
	}
	s.dotfiles, err = dotfiles.Pack(f, g.Dotfiles, g.User.UID, g.User.GID)
	if err == nil {
		err = f.Truncate(plan.DiskSize)
	}
	return errors.Join(err, f.Close())
}
