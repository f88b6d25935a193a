package engine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
	"github.com/mayfly-vm/mayfly/internal/review"
	"github.com/mayfly-vm/mayfly/internal/workspace/repository"
)

const (
	// factsTimeout bounds what git may take to say how it is set up.
	factsTimeout = 10 * time.Second
	// maxGitConfig bounds what it says, in bytes.
	maxGitConfig = 4 << 20
)

// gitFacts returns how the host's git is set up in the workspace dir: by the user's own
// configuration and the repository's. Where there is no git, or no repository, nothing is; it
// is an error if git does not say it of a repository that there is.
func gitFacts(ctx context.Context, dir string) (facts review.GitFacts, err error) {
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	git := func(args ...string) (string, error) {
		return gitrun.Output(ctx, gitrun.Cmd{Dir: dir, Args: args, Keep: gitrun.KeepUser}, maxGitConfig)
	}
	places, err := git("rev-parse", "--path-format=absolute", "--git-common-dir", "--show-toplevel")
	if err != nil {
		if _, ok := repository.Locate(dir); !ok || errors.Is(err, exec.ErrNotFound) {
			err = nil
		}
		return facts, err
	}
	common, top, _ := strings.Cut(places, "\n")
	list, err := git("config", "--list", "-z", "--show-origin", "--includes")
	if err != nil {
		return facts, err
	}
	c := gitConfig{dir: dir, top: top, facts: &facts, hooks: filepath.Join(common, "hooks")}
	c.read(list)
	facts.Hooks = installed(c.hooks)
	return facts, nil
}

// gitConfig takes the facts out of a configuration.
type gitConfig struct {
	dir, top string
	hooks    string // the directory that hooks are in
	facts    *review.GitFacts
}

// read takes what "git config --list -z --show-origin" prints: of each setting its origin,
// and its key and value.
func (c *gitConfig) read(list string) {
	c.facts.Drivers, c.facts.Remotes = make(map[string]string), make(map[string]string)
	var name, mail string
	included := make(map[string]bool)
	parts := strings.Split(list, "\x00")
	for i := 0; i+1 < len(parts); i += 2 {
		file, ok := strings.CutPrefix(parts[i], "file:")
		if !ok {
			continue // what this process gave git
		}
		if p, ok := c.inWorkspace(file); ok && p != ".git" && !strings.HasPrefix(p, ".git/") && !included[p] {
			included[p] = true
			c.facts.Includes = append(c.facts.Includes, p)
		}
		key, value, _ := strings.Cut(parts[i+1], "\n")
		switch key {
		case "user.name":
			name = value
		case "user.email":
			mail = value
		case "core.hookspath":
			c.setHooks(value)
		default:
			c.subsection(key, value)
		}
	}
	if mail != "" {
		c.facts.Identity = name + " <" + mail + ">"
	}
}

// subsection takes a setting of a driver or a remote.
func (c *gitConfig) subsection(key, value string) {
	section, rest, ok := strings.Cut(key, ".")
	last := strings.LastIndexByte(rest, '.')
	if !ok || last < 0 {
		return
	}
	name, variable := rest[:last], rest[last+1:]
	switch section + "." + variable {
	case "filter.clean", "filter.smudge":
		if driver := section + "." + name; c.facts.Drivers[driver] == "" {
			c.facts.Drivers[driver] = value
		}
	case "filter.process", "diff.command", "diff.textconv", "merge.driver":
		c.facts.Drivers[section+"."+name] = value
	case "remote.url":
		c.facts.Remotes[name] = value
	}
}

// setHooks notes where hooks are.
func (c *gitConfig) setHooks(path string) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, rest)
		}
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.top, path)
	}
	c.hooks = path
	c.facts.HooksPath, _ = c.inWorkspace(path)
}

// inWorkspace returns a path relative to the workspace, if it is in it.
func (c *gitConfig) inWorkspace(path string) (string, bool) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.dir, path)
	}
	rest, ok := strings.CutPrefix(filepath.Clean(path), c.dir+"/")
	return rest, ok
}

// installed returns the names of the hooks in a directory that git would run.
func installed(dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		fi, err := os.Stat(filepath.Join(dir, e.Name()))
		if err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 && !strings.HasSuffix(e.Name(), ".sample") {
			names = append(names, e.Name())
		}
	}
	return names
}
