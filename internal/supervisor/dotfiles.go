package supervisor

import (
	"errors"
	"fmt"
	"os"

	"github.com/mayfly-vm/mayfly/internal/dotfiles"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// packDotfiles makes the disk of the user's own files for the home of g. It returns
// what of them is shown.
func packDotfiles(m state.Machine, g plan.Guest) (targets []string, err error) {
	if len(g.Dotfiles) == 0 {
		return nil, nil
	}
	f, err := os.OpenFile(m.File(state.DotfilesFile), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("pack the dotfiles: %w", err)
	}
	targets, err = dotfiles.Pack(f, g.Dotfiles, g.User.UID, g.User.GID)
	if err == nil {
		err = f.Truncate(plan.DiskSize)
	}
	return targets, errors.Join(err, f.Close())
}
