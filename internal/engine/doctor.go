package engine

import (
	"context"

	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/share"
)

// Health is what a host can do.
type Health struct {
	Healthy bool
	Facts   host.Facts
	Checks  []host.Check
}

// Doctor looks at the host anew. With fix it fetches a QEMU that is good enough where the
// distribution's is not, and as root gives this program an AppArmor profile where it takes
// one to make user namespaces; with refresh KVM is tested again.
func (e *Engine) Doctor(ctx context.Context, refresh, fix bool) (Health, error) {
	anew := *e
	anew.opt.Fresh = true
	facts, err := anew.facts(ctx, false, false)
	if err != nil {
		return Health{}, err
	}
	if fix && facts.NeedsQEMU() {
		if !facts.CanInstallQEMU() {
			e.note(NoteQEMUByPackage, nil)
		} else if facts.QEMU, err = host.InstallQEMU(ctx, facts, func(s string) { e.note(NoteInstall, args{"text": s}) }); err != nil {
			return Health{}, err
		}
	}
	if fix && facts.AppArmor.Restricts && facts.User.UID == 0 {
		file, err := host.InstallProfile(ctx, facts)
		if err != nil {
			return Health{}, err
		}
		e.note(NoteProfile, args{"file": file})
	}
	if facts.KVM.Openable && facts.QEMU.Path != "" {
		if facts.KVM, err = host.ProveKVM(ctx, facts, host.ProveOptions{Refresh: refresh}); err != nil {
			return Health{}, err
		}
	}
	checks := append(host.Doctor(facts), e.checkShareServer(ctx, facts))
	return Health{host.Healthy(checks), facts, checks}, nil
}

// checkShareServer looks for the server of live directories.
func (e *Engine) checkShareServer(ctx context.Context, facts host.Facts) host.Check {
	found, err := share.Find(ctx, e.opt.Getenv("PATH"))
	s := host.ShareServer{Path: found.Path, Version: found.Version, Language: "Rust", Problem: err}
	if found.Kind == plan.VirtiofsdC {
		s.Language = "C"
	}
	return host.CheckShareServer(facts, s)
}

// UserName returns the name that the user has in machines.
func (e *Engine) UserName() string { return plan.UserName(host.CurrentUser(e.opt.Getenv)) }
