package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/clone"
	"github.com/mayfly-vm/mayfly/internal/config"
)

// parseClone reads URL[@REF]. A directory of this computer becomes an absolute path,
// since the file that it goes into is read from anywhere.
func parseClone(text string) (config.Clone, error) {
	spec, err := clone.ParseSpec(text)
	if err != nil {
		return config.Clone{}, err
	}
	if _, err := os.Stat(spec.URL); err == nil {
		if spec.URL, err = filepath.Abs(spec.URL); err != nil {
			return config.Clone{}, err
		}
	}
	return config.Clone{URL: spec.URL, Ref: spec.Ref}, nil
}

// cloneName returns the directory that git itself would clone a URL into.
func cloneName(url string) (string, error) {
	trimmed := strings.TrimSuffix(strings.TrimRight(url, "/"), ".git")
	name := path.Base(trimmed[strings.LastIndexAny(trimmed, ":/")+1:])
	if name == "." || name == ".." || name == "/" || name == "" || name[0] == '-' || name == ".git" {
		return "", fmt.Errorf("%s: what is its directory to be called?", workspaceName(url))
	}
	return name, nil
}

// cloneAll clones repositories into the directory ws, each into one of its own. made is
// called with each that is there.
func (a *app) cloneAll(ctx context.Context, clones []config.Clone, ws string, made func(path string)) ([]clonedJSON, error) {
	all := []clonedJSON{}
	if len(clones) > 0 && ws == "" {
		return nil, usageError{errors.New("workspace.clone: there is no workspace to clone into")}
	}
	progress := a.newProgress()
	defer progress.stop()
	for _, c := range clones {
		name, err := cloneName(c.URL)
		if err != nil {
			return all, usageError{err}
		}
		dir := filepath.Join(ws, name)
		progress.step("clone "+workspaceName(c.URL), true)
		result, err := clone.Clone(ctx, clone.Options{
			Spec: clone.Spec{URL: c.URL, Ref: c.Ref}, Dir: dir,
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
