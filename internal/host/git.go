package host

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly/internal/gitrun"
	"github.com/mayfly-vm/mayfly/internal/workspace/repository"
)

// Git is what git on this host says of its user.
type Git struct {
	// Identity is who commits, by the names of git's settings: user.name, user.email,
	// and those of author and committer. Nil for nobody.
	Identity map[string]string
	// Signs are the settings that make git sign, in lower case, sorted.
	Signs []string
}

// Bounds of what git is asked. The timeout is of one git: it may wait for a file of the
// repository's choice.
const (
	gitTimeout     = 2 * time.Second
	maxGitOutput   = 64 << 10
	maxGitIdentity = 256
	maxGitConfig   = 1 << 20
)

// signs are the settings that make git sign without an option that says so.
var signs = []string{"commit.gpgsign", "push.gpgsign", "tag.forcesignannotated", "tag.gpgsign"}

// gitQuestion matches the names of the settings that are asked for.
const gitQuestion = `^(user\.(name|email)|author\.(name|email)|committer\.(name|email)|(commit|tag|push)\.gpgsign|tag\.forcesignannotated)$`

// ReadGit returns what git says in the directory dir, "" for none. The repository there
// may be anybody's: git is asked for values of its configuration alone, which starts
// nothing, and not in dir if that configuration includes other files or is no file.
// Without git there is nothing to say.
func ReadGit(ctx context.Context, o Options, dir string) Git {
	if findTool(o, "git").Path == "" {
		return Git{}
	}
	var g Git
	settings, asked := map[string]string(nil), false
	switch git, kind := plainRepository(dir); kind {
	case repositoryPlain:
		// The one that was looked at: if it is none to git, git would look for another.
		settings, asked = o.askGit(ctx, dir, git)
	case repositoryOther:
		// git reads in the machine what is not read here.
		g.Signs = []string{"commit.gpgsign", "tag.gpgsign"}
	}
	if !asked {
		settings, _ = o.askGit(ctx, "/", "")
	}
	for _, key := range signs {
		if v, ok := settings[key]; ok && isTrue(v) && !slices.Contains(g.Signs, key) {
			g.Signs = append(g.Signs, key)
		}
	}
	slices.Sort(g.Signs)
	g.Identity = o.gitIdentity(settings)
	return g
}

// gitIdentity returns who commits by the settings and, before them, by the environment,
// git-commit(1).
func (o Options) gitIdentity(settings map[string]string) map[string]string {
	id := make(map[string]string)
	set := func(key string, values ...string) {
		for _, v := range values {
			if v = strings.TrimSpace(v); validIdentity(v) {
				id[key] = v
				return
			}
		}
	}
	for _, part := range []string{"name", "email"} {
		author, committer := "GIT_AUTHOR_"+strings.ToUpper(part), "GIT_COMMITTER_"+strings.ToUpper(part)
		set("author."+part, o.env(author), settings["author."+part])
		set("committer."+part, o.env(committer), settings["committer."+part])
		set("user."+part, settings["user."+part])
	}
	set("user.email", id["user.email"], o.env("EMAIL"))
	// Who is one of the two by the environment alone is both, so that a commit works.
	set("user.name", id["user.name"], id["author.name"], id["committer.name"])
	set("user.email", id["user.email"], id["author.email"], id["committer.email"])
	if len(id) == 0 {
		return nil
	}
	return id
}

// validIdentity reports whether a value can be one line of a configuration.
func validIdentity(v string) bool {
	return v != "" && len(v) <= maxGitIdentity && utf8.ValidString(v) && !strings.ContainsFunc(v, unicode.IsControl)
}

// isTrue reports whether git takes a value for true, or for something like it.
func isTrue(v string) bool {
	return !slices.Contains([]string{"", "false", "no", "off", "0"}, strings.ToLower(v))
}

// askGit returns the settings that git has in dir for the repository in the directory git,
// whoever owns that, and whether it said so. Where it was said more than once, the last holds.
func (o Options) askGit(ctx context.Context, dir, git string) (map[string]string, bool) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	cmd := gitrun.Cmd{
		Dir: dir, GitDir: git, Args: []string{"config", "--includes", "--null", "--get-regexp", gitQuestion},
		Config: []string{"safe.directory=*"}, Env: []string{"LC_ALL=C"},
		Keep:   func(string) bool { return false }, // what it gets is in Env
		Single: true,
	}
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "PATH", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"} {
		if v := o.env(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	out, err := gitrun.Output(ctx, cmd, maxGitOutput)
	if err != nil && !gitrun.Failed(err, 1) {
		return nil, false
	}
	settings := make(map[string]string)
	for setting := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		key, value, ok := strings.Cut(setting, "\n")
		if !ok {
			value = "true" // a name alone
		}
		settings[key] = value
	}
	return settings, true
}

// repositoryKind says whether git can be asked in a directory.
type repositoryKind int

const (
	repositoryNone  repositoryKind = iota // the repository, if there is one, begins elsewhere
	repositoryPlain                       // all of its configuration is in one file
	repositoryOther
)

// plainRepository looks at the repository of dir, before git does, and returns its directory.
func plainRepository(dir string) (git string, kind repositoryKind) {
	if dir == "" {
		return "", repositoryNone
	}
	git = filepath.Join(dir, ".git")
	common := git
	if fi, err := os.Lstat(git); err == nil && fi.IsDir() {
		if _, err := os.Lstat(filepath.Join(git, "commondir")); err == nil {
			return git, repositoryOther
		}
		kind = repositoryOther
	} else {
		// It lies elsewhere. A copy gets none of its settings: what is not plain does not matter.
		place, ok := repository.Locate(dir)
		if !ok || !mine(place.Dir) || !mine(place.Common) {
			return "", repositoryNone
		}
		git, common, kind = place.Dir, place.Common, repositoryNone
	}
	if !plainConfig(filepath.Join(common, "config")) {
		return git, kind
	}
	worktree := filepath.Join(git, "config.worktree")
	if _, err := os.Lstat(worktree); err == nil && !plainConfig(worktree) {
		return git, kind
	}
	return git, repositoryPlain
}

// mine reports whether a directory is this user's.
func mine(dir string) bool {
	fi, err := os.Stat(dir)
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// includes matches the beginning of sections for which git reads other files.
var includes = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)\[\s*include`) })

// plainConfig reports whether a file of git's configuration is one, and includes no other.
func plainConfig(path string) bool {
	if fi, err := os.Lstat(path); err != nil || !fi.Mode().IsRegular() || fi.Size() > maxGitConfig {
		return false
	}
	// O_NONBLOCK: it may have become a FIFO meanwhile.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxGitConfig+1))
	return err == nil && len(text) <= maxGitConfig && !includes().Match(text)
}
