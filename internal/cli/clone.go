package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mayfly-vm/mayfly/internal/clone"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// parseClone reads URL[@REF], and returns also the URL as it was typed: one with a
// password goes into no file. A directory of this computer becomes an absolute path,
// since the file that it goes into is read from anywhere.
func parseClone(text string) (c config.Clone, typed string, err error) {
	spec, err := clone.ParseSpec(text)
	if err != nil {
		return config.Clone{}, "", err
	}
	if _, err := os.Stat(spec.URL); err == nil {
		if spec.URL, err = filepath.Abs(spec.URL); err != nil {
			return config.Clone{}, "", err
		}
	}
	return config.Clone{URL: spec.Public(), Ref: spec.Ref}, spec.URL, nil
}

// cloneAll clones repositories into the directory ws, each into one of its own. made is
// called with each that is there; typed has the URLs that have a password.
func (a *app) cloneAll(ctx context.Context, clones []config.Clone, typed map[string]string, ws string, made func(path string)) ([]clonedJSON, error) {
	all := []clonedJSON{}
	if len(clones) > 0 && ws == "" {
		return nil, usageError{errors.New("workspace.clone: there is no workspace to clone into")}
	}
	if len(clones) > 0 {
		if err := a.checkNotLive(ws); err != nil {
			return nil, err
		}
	}
	progress := a.newProgress()
	defer progress.stop()
	for _, c := range clones {
		spec := clone.Spec{URL: c.URL, Ref: c.Ref}
		public, name := termsafe.Line(spec.Public()), spec.Name()
		if name == "" {
			return all, usageError{fmt.Errorf("%s: what is its directory to be called?", public)}
		}
		if url, ok := typed[c.URL]; ok {
			spec.URL = url
		}
		dir := filepath.Join(ws, name)
		progress.step("clone "+public, true)
		result, err := clone.Clone(ctx, clone.Options{
			Spec: spec, Dir: dir,
			Progress: func(line string) { a.debug("%s", line) },
		})
		if err != nil {
			return all, err
		}
		made(dir)
		for _, note := range result.Notes {
			a.note("%s", note)
		}
		all = append(all, clonedJSON{URL: result.URL, Path: dir, Commit: result.Commit, Branch: result.Branch})
	}
	return all, nil
}

// checkNotLive says which running machine has dir live. It could change what git does
// here while it clones: its configuration names programs.
func (a *app) checkNotLive(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	machines, err := a.machines()
	if err != nil {
		return err
	}
	all, err := machines.List()
	if err != nil {
		return err
	}
	for _, m := range all {
		p, err := m.Plan()
		if err != nil || !m.Alive() {
			continue
		}
		for _, s := range p.Shares {
			rel, err := filepath.Rel(s.Source, real)
			if err == nil && filepath.IsLocal(rel) && !s.ReadOnly {
				return hint.Errorf("mayfly stop "+m.Name, "clone into %s: %s has it live, and could make git run something here", dir, m.Name)
			}
		}
	}
	return nil
}
