// Package gitrun runs git so that nothing of a repository runs with it: no hook, filter,
// driver, monitor, pager, editor or helper, and no server is asked.
//
// A Cmd goes in, an error comes out that says what git said last. git's environment is
// made from nothing, and so is its configuration, but for what a caller asks for by
// Keep. What no setting can turn off, such as hooks that a repository's configuration
// names (git 2.54) or an external diff, the commands of callers must not reach: they are
// plumbing, in a repository whose configuration the caller wrote or is sure of.
package gitrun

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/image/tool"
)

// Cmd is a git command.
type Cmd struct {
	Dir    string // the working directory; no repository above it is looked for
	GitDir string // the directory of the repository; "" to let git look for it in Dir
	Args   []string
	Config []string // "key=value", on top of what always holds
	Env    []string // "NAME=value", the same

	// Keep says which variables of this process git gets: those by which it finds the
	// user's own configuration, or servers. Without it git has no configuration but the
	// repository's.
	Keep func(name string) bool
	// Online lets git use the network, as its configuration and Env say.
	Online bool

	// Single says that git starts no other program for it, as for a question about its
	// configuration.
	Single bool

	Limits tool.Limits
	Stdin  io.Reader
	Stdout io.Writer
	Line   func(string) // gets what git says, line by line
}

// kept are git's variables that name the user's own configuration. All others lead git to
// other repositories, indices, programs or traces.
var kept = []string{"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH"}

// KeepUser is a Keep that has git find the user's own configuration.
func KeepUser(name string) bool {
	return !strings.HasPrefix(name, "GIT_") || slices.Contains(kept, name)
}

// always is the configuration that holds whatever any other says.
var always = []string{
	"core.hooksPath=/dev/null",
	"core.fsmonitor=false",
	"core.untrackedCache=false",
	"core.attributesFile=/dev/null",
	"core.protectHFS=true", // names that are .git on some other file system
	"core.protectNTFS=true",
	"core.pager=cat",
	"submodule.recurse=false",
	"fetch.recurseSubmodules=false",
	"fetch.writeCommitGraph=false",
	"transfer.bundleURI=false", // objects from elsewhere, as the server likes
	"protocol.ext.allow=never",
	"gc.auto=0",
	"maintenance.auto=false",
	"log.showSignature=false", // which runs a program
	"advice.detachedHead=false",
}

// alone is what holds besides where git has nothing of the user's.
var alone = []string{
	"core.excludesFile=/dev/null",
	"credential.helper=",
	"pack.threads=1",
	// A large object is copied in pieces, and a pack of the host's is mapped in pieces:
	// memory has a bound.
	"core.bigFileThreshold=1m",
	"core.deltaBaseCacheLimit=16m",
	"core.packedGitWindowSize=32m",
	"core.packedGitLimit=256m",
}

// environment holds for every git.
var environment = []string{
	"GIT_OPTIONAL_LOCKS=0",
	"GIT_NO_LAZY_FETCH=1", // an object that is not there stays so
	"GIT_TERMINAL_PROMPT=0",
	"GIT_PAGER=cat",
	"GIT_EDITOR=false",
	"GIT_SEQUENCE_EDITOR=false",
}

var environmentAlone = []string{
	"HOME=/nonexistent", "XDG_CONFIG_HOME=/nonexistent",
	"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
	"GIT_ASKPASS=false", "SSH_ASKPASS=false", "GIT_SSH_COMMAND=false",
	"GIT_PROTOCOL_FROM_USER=0", "GIT_NO_REPLACE_OBJECTS=1", "GIT_REF_PARANOIA=1", "GIT_LITERAL_PATHSPECS=1",
}

// Run runs git to its end.
func Run(ctx context.Context, c Cmd) error {
	args := []string{"--no-pager"}
	config := slices.Clone(always)
	env := slices.Clone(environment)
	if !c.Online {
		config = append(config, "protocol.allow=never")
		env = append(env, "GIT_ALLOW_PROTOCOL=none")
	}
	if c.Keep == nil {
		config = append(config, alone...)
		env = append(env, environmentAlone...)
	}
	for _, setting := range append(config, c.Config...) {
		args = append(args, "-c", setting)
	}
	if c.GitDir != "" {
		args = append(args, "--git-dir="+c.GitDir)
	}
	return tool.Run(ctx, tool.Cmd{
		Name: "git", Args: append(args, c.Args...), Dir: c.Dir,
		Env: append(env, c.Env...),
		Drop: func(name string) bool {
			return name != "GIT_EXEC_PATH" && (c.Keep == nil || !c.Keep(name))
		},
		NoTerminal: true,
		Limits:     c.Limits,
		Single:     c.Single,
		Stdin:      c.Stdin, Stdout: c.Stdout, Line: c.Line,
	})
}

// Output runs git and returns what it prints, without the white space at its end. More
// than max bytes are an error.
func Output(ctx context.Context, c Cmd, max int) (string, error) {
	out := &bounded{max: max}
	c.Stdout = out
	if err := Run(ctx, c); err != nil {
		return "", err
	}
	if out.full {
		return "", errTooMuch
	}
	return strings.TrimRight(out.text.String(), "\n"), nil
}

var errTooMuch = errors.New("git prints too much")

// bounded keeps no more than max bytes.
type bounded struct {
	max  int
	full bool
	text strings.Builder
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > b.max {
		b.full = true
		return 0, errTooMuch
	}
	return b.text.Write(p)
}

// Failed reports whether git ran, said nothing about it and ended with this code: the
// answer "no" of many commands.
func Failed(err error, code int) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() == code
}

// Reason returns in one line why git did not do what it should.
func Reason(err error) string {
	failed, ok := errors.AsType[*tool.Error](err)
	if !ok || failed.Tail == "" {
		return err.Error()
	}
	for line := range strings.SplitSeq(failed.Tail, "\n") {
		for _, prefix := range []string{"fatal: ", "error: "} {
			if text, ok := strings.CutPrefix(line, prefix); ok {
				return text
			}
		}
	}
	line, _, _ := strings.Cut(failed.Tail, "\n")
	return line
}
