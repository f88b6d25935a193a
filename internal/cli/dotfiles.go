package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/clone"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/dotfiles"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// maxSecretsShown bounds how many places that look like secrets are named.
const maxSecretsShown = 5

// dotfilesInput finds the directories of home.dotfiles, and refuses those with what looks
// like a secret.
func (a *app) dotfilesInput(ctx context.Context, cfg config.Config, in *plan.Input) error {
	for _, source := range cfg.Home.Dotfiles {
		dir, err := a.dotfilesDir(ctx, source)
		if err != nil {
			return fmt.Errorf("home.dotfiles: %w", err)
		}
		found, err := dotfiles.Scan(dir)
		if err != nil {
			return fmt.Errorf("home.dotfiles: %w", err)
		}
		var secrets []error
		for _, f := range found {
			if !f.Ignored && len(secrets) < maxSecretsShown {
				secrets = append(secrets, fmt.Errorf("home.dotfiles: %s: %s, which a machine must not have", termsafe.Line(source), f))
			}
		}
		if len(secrets) > 0 {
			return hint.Wrap(errors.Join(secrets...), "name the file in "+filepath.Join(dir, ".mayflyignore")+", or take the secret out of it")
		}
		in.Dotfiles = append(in.Dotfiles, dir)
	}
	return nil
}

// dotfilesDir returns the directory of a source, which may be a repository.
func (a *app) dotfilesDir(ctx context.Context, source string) (string, error) {
	if rest, ok := strings.CutPrefix(source, "~/"); ok {
		source = filepath.Join(a.getenv("HOME"), rest)
	}
	if filepath.IsAbs(source) {
		return filepath.EvalSymlinks(source)
	}
	spec, err := clone.ParseSpec(source)
	if err != nil {
		return "", err
	}
	dirs, err := a.dirs()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(source))
	dir := filepath.Join(dirs.Cache, "dotfiles", hex.EncodeToString(sum[:12]))
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // mayfly update gets it anew
	}
	progress := a.newProgress()
	defer progress.stop()
	progress.step("clone "+termsafe.Line(spec.Public()), true)
	_, err = clone.Clone(ctx, clone.Options{Spec: spec, Dir: dir, Depth: 1})
	if _, statErr := os.Stat(dir); err != nil && statErr == nil {
		return dir, nil // somebody else was faster
	}
	return dir, err
}

// updateDotfiles gets repositories of dotfiles anew when they are used the next time.
func (a *app) updateDotfiles(cfg config.Config) error {
	dirs, err := a.dirs()
	if err != nil {
		return err
	}
	for _, source := range cfg.Home.Dotfiles {
		if strings.HasPrefix(source, "~/") || filepath.IsAbs(source) {
			continue
		}
		sum := sha256.Sum256([]byte(source))
		if err := os.RemoveAll(filepath.Join(dirs.Cache, "dotfiles", hex.EncodeToString(sum[:12]))); err != nil {
			return err
		}
	}
	return nil
}
