package cli

import (
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// rawFlag registers --raw, by which a machine's output reaches the terminal as it is.
func (a *app) rawFlag(f *pflag.FlagSet) {
	f.BoolVar(&a.raw, "raw", false, "pass the output to your terminal as it is, with all control sequences")
}

// described is a machine of which some words are known.
type described interface {
	Name() string
	Plan() mayfly.Plan
}

// guard keeps from our terminal what the output of cmd must not do to it. end gives the
// terminal back, whose input is in, before it is no longer raw.
func (a *app) guard(cmd *mayfly.Cmd, m described, in *terminal.Input) (end func()) {
	if a.raw {
		return func() {}
	}
	var guards []*terminal.Guard
	guarded := func(to io.Writer) io.Writer {
		if f, ok := to.(*os.File); !ok || !terminal.Is(f) {
			return to
		}
		g := terminal.NewGuard(to, m.Name(), m.Plan().Workspace)
		guards = append(guards, g)
		return g
	}
	cmd.Stdout, cmd.Stderr = guarded(cmd.Stdout), guarded(cmd.Stderr)
	for _, g := range guards {
		cmd.Stdin = g.Input(cmd.Stdin)
		if cmd.Terminal != nil {
			a.drawn.Store(g)
		}
	}
	return func() {
		a.drawn.Store(nil)
		in.Stop() // it would read the answers that are drained
		for _, g := range guards {
			g.Restore()
			if cmd.Terminal != nil {
				g.Drain(a.In)
			}
			a.noteClipboard(g, m)
		}
	}
}

// noteClipboard says what the user may not have seen.
func (a *app) noteClipboard(g *terminal.Guard, m described) {
	if s := g.Stats(); s.Clipboard > 0 {
		a.note("machine %s has set your clipboard", m.Name())
	} else if s.Refused > 0 {
		a.note("machine %s wanted to set your clipboard, without a key or a click of yours before; --raw lets it", m.Name())
	}
}
