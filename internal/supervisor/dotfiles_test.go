package supervisor

import (
	"os"
	"slices"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// The disks are made again when a template did not work, also where the dotfiles have
// nothing for a home.
func TestPackDotfilesAgain(t *testing.T) {
	m := state.Machine{Name: "m", Dir: t.TempDir()}
	p := plan.Plan{Guest: plan.Guest{Dotfiles: []string{t.TempDir()}}}
	for range 2 {
		if _, err := packDotfiles(m, p); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(m.File(state.DotfilesFile)); err != nil || fi.Size() != plan.DiskSize {
			t.Errorf("the disk: %v, %v; want %d bytes", fi, err, int64(plan.DiskSize))
		}
	}
}

// What is mounted in the home hides dotfiles, and never stops a start.
func TestShownDotfiles(t *testing.T) {
	var p plan.Plan
	p.Guest.User.Home = "/home/dev"
	p.Workspace.Path = "/home/dev/.emacs.d/lisp"
	p.Volumes = []plan.Volume{{Mount: "/home/dev/.cache"}}
	p.Shares = []plan.Share{{Path: "/home/dev/.config/nvim"}}
	p.Keep = &plan.Keep{Agents: "/home/dev/.local/share/mayfly-agents", History: "/home/dev/.local/share/mayfly-history"}
	shown, hidden := shownDotfiles(p, []string{
		".cache", ".config/nvim", ".config/nvim2", ".emacs.d", ".local/share/fonts", ".local/share/mayfly-agents", ".local/share/mayfly-history", ".zshrc",
	})
	if want := []string{".config/nvim2", ".local/share/fonts", ".zshrc"}; !slices.Equal(shown, want) {
		t.Errorf("shown are %q; want %q", shown, want)
	}
	if want := []string{".cache", ".config/nvim", ".emacs.d"}; !slices.Equal(hidden, want) {
		t.Errorf("hidden are %q; want %q", hidden, want)
	}
}
