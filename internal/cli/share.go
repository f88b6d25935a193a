package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/share"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// serveCommand is the process that becomes the server of a live directory, started
// by a supervisor alone.
func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:    share.Command + " SPEC",
		Hidden: true,
		Args:   usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if !share.Spawned() {
				return usageError{fmt.Errorf("%s is for mayfly itself", share.Command)}
			}
			share.Main(args[0])
			return exitCode(exitError) // the supervisor was told
		},
	}
}

// errLive says why a machine's workspace has no changes to list or apply.
func errLive(name string) error {
	return fmt.Errorf("there is nothing to apply: the workspace of machine %s is live, and every change is in your directory already", name)
}

// absoluteShares makes what was typed after --share independent of the current
// directory.
func absoluteShares(texts []string) ([]string, error) {
	var all []string
	for _, text := range texts {
		source, rest, found := strings.Cut(text, ":")
		if source != "" && source != "~" && !strings.HasPrefix(source, "~/") {
			var err error
			if source, err = filepath.Abs(source); err != nil {
				return nil, err
			}
		}
		if found {
			source += ":" + rest
		}
		all = append(all, source)
	}
	return all, nil
}

// sharesInput looks up what the plan needs to know of the live directories of cfg.
func (a *app) sharesInput(ctx context.Context, cfg config.Config, facts host.Facts, in *plan.Input) error {
	for _, path := range plan.SharePaths(cfg, facts.User.Home) {
		real, err := filepath.EvalSymlinks(path)
		if errors.Is(err, fs.ErrNotExist) {
			return hint.Errorf("mkdir -p "+path, "share %s: %w", termsafe.Line(path), fs.ErrNotExist)
		}
		if err != nil {
			return fmt.Errorf("share %s: %w", termsafe.Line(path), err)
		}
		in.Shares = append(in.Shares, real)
	}
	if len(in.Shares) == 0 && (in.Workspace == "" || cfg.Workspace.Mode != plan.ModeShare) {
		return nil
	}
	for _, socket := range []string{
		a.getenv("SSH_AUTH_SOCK"), strings.TrimPrefix(a.getenv("DOCKER_HOST"), "unix://"), "/var/run/docker.sock",
	} {
		if filepath.IsAbs(socket) {
			in.Sockets = append(in.Sockets, socket)
			if real, err := filepath.EvalSymlinks(socket); err == nil && real != socket {
				in.Sockets = append(in.Sockets, real)
			}
		}
	}
	server, err := share.Find(ctx, a.getenv("PATH"))
	if err != nil {
		return fmt.Errorf("share a directory: %w", err)
	}
	in.ShareServer = &server
	return nil
}
