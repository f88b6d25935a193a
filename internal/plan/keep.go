package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// historyDir is where shells keep their histories, below the home of the guest's user.
const historyDir = ".local/share/mayfly-history"

// keep decides about what outlives a stop of the machine.
func (b *builder) keep(in Input) {
	if in.Keep == "" {
		if n := len(b.cfg.Volumes); n > 0 {
			b.note("volumes are for machines with a name of their own, which mayfly new makes: this one has none")
		}
		return
	}
	home := b.plan.Guest.User.Home
	b.plan.Keep = &Keep{Dir: in.Keep, Agents: path.Join(home, codingagent.StateDir)}
	if b.cfg.Home.History {
		b.plan.Keep.History = path.Join(home, historyDir)
		if b.plan.Guest.User.Shell == "fish" {
			b.note("home.history is for bash and zsh: fish has its history in ~/.local/share/fish, which a volume keeps")
		}
	}
	for _, v := range b.cfg.Volumes {
		mount := v.Mount
		if rest, ok := strings.CutPrefix(mount, "~"); ok {
			mount = path.Join(home, rest)
		}
		b.plan.Volumes = append(b.plan.Volumes, Volume{Name: v.Name, Mount: mount, SizeMiB: v.SizeMiB})
	}
	// A path sorts before all that is below it.
	slices.SortFunc(b.plan.Volumes, func(x, y Volume) int { return strings.Compare(x.Mount, y.Mount) })
	for i, v := range b.plan.Volumes {
		ws := b.plan.Workspace.Path
		switch {
		case ws != "" && (within(v.Mount, ws) || within(ws, v.Mount)):
			b.fail(volumeError(v, "and the workspace "+termsafe.Quote(ws)+" would hide each other"))
		case v.Mount == home || within(home, v.Mount):
			b.fail(volumeError(v, "would hide the home directory"))
		case i > 0 && v.Mount == b.plan.Volumes[i-1].Mount:
			b.fail(volumeError(v, "has the place of "+b.plan.Volumes[i-1].Name))
		}
	}
}

func volumeError(v Volume, what string) error {
	return fmt.Errorf("volume %s on %s %s", v.Name, termsafe.Quote(v.Mount), what)
}
