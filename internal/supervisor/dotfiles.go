package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/dotfiles"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// packDotfiles makes the disk of the user's own files for the home of p's user, and of the
// settings of coding agents. It returns what is shown of the former.
func packDotfiles(m state.Machine, p plan.Plan) (targets []string, err error) {
	g := p.Guest
	if !g.HasDotfiles() {
		return nil, nil
	}
	var settings []dotfiles.File
	if g.Settings != nil {
		if settings, err = g.Settings.Pack(g.User.Home, p.Workspace.Path, seeds(p)); err != nil {
			return nil, fmt.Errorf("pack the settings of coding agents: %w", err)
		}
	}
	f, err := os.OpenFile(m.File(state.DotfilesFile), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("pack the dotfiles: %w", err)
	}
	targets, err = dotfiles.Pack(f, g.Dotfiles, settings, g.User.UID, g.User.GID)
	if err == nil {
		err = f.Truncate(plan.DiskSize)
	}
	return targets, errors.Join(err, f.Close())
}

// seeds returns a function for what mayfly writes into the file name of an agent where there
// is none.
func seeds(p plan.Plan) func(agent, name string) string {
	return func(agent, name string) string {
		spec, err := codingagent.Launch(agent, p.Place(), nil)
		if err != nil || len(spec.Dirs) < 2 {
			return ""
		}
		at := path.Join(spec.Dirs[1], name) // of its first directory; the one before is the parent of all
		i := slices.IndexFunc(spec.Files, func(f codingagent.File) bool { return f.Path == at && !f.Block && f.Variable == "" })
		if i < 0 {
			return ""
		}
		return spec.Files[i].Text
	}
}

// shownDotfiles returns those of targets, the names of dotfiles in the home of p's user, that
// are linked there: a volume, a live share, the workspace or what the machine keeps hides
// what is in its place. hidden are those of which the user may wonder.
func shownDotfiles(p plan.Plan, targets []string) (shown, hidden []string) {
	var mounts []string
	for _, v := range p.Volumes {
		mounts = append(mounts, v.Mount)
	}
	for _, s := range p.Shares {
		mounts = append(mounts, s.Path)
	}
	if p.Workspace.Path != "" {
		mounts = append(mounts, p.Workspace.Path)
	}
	// Where coding agents keep their files, those of the dotfiles are shown one by one.
	own := []string{path.Join(p.Guest.User.Home, codingagent.StateDir)}
	if p.Keep != nil && p.Keep.History != "" {
		own = append(own, p.Keep.History)
	}
	for _, target := range targets {
		at := path.Join(p.Guest.User.Home, target)
		has := func(m string) bool { return m == at || strings.HasPrefix(m, at+"/") }
		switch {
		case slices.ContainsFunc(mounts, has):
			hidden = append(hidden, target)
		case !slices.ContainsFunc(own, has):
			shown = append(shown, target)
		}
	}
	return shown, hidden
}
