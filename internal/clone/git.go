package clone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/gitrun"
	"github.com/mayfly-vm/mayfly/internal/image/tool"
)

// git runs git for one clone.
type git struct {
	from     resolved
	dir      string
	progress func(string)
}

// checked is what git is to look for in objects as they arrive.
var checked = []string{
	"transfer.fsckObjects=true",
	"fetch.fsckObjects=true",
	// Harmless mistakes of old tools, which many old repositories have.
	"fetch.fsck.missingSpaceBeforeDate=warn",
	"fetch.fsck.badTimezone=warn",
	"fetch.fsck.zeroPaddedFilemode=warn",
}

// The credentials of a URL reach git through a helper, and the helper through
// its environment: command lines are for all to see.
const (
	userVariable     = "MAYFLY_CLONE_USER"
	passwordVariable = "MAYFLY_CLONE_PASSWORD"
	credentials      = `!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$` + userVariable + `" "$` + passwordVariable + `"; }; f`
)

// kept are git's variables that say how to reach a server. All others lead git
// to other repositories, objects, programs or traces.
var kept = []string{
	"GIT_ASKPASS", "GIT_CONFIG_COUNT", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM", "GIT_EXEC_PATH",
	"GIT_HTTP_LOW_SPEED_LIMIT", "GIT_HTTP_LOW_SPEED_TIME", "GIT_HTTP_PROXY_AUTHMETHOD", "GIT_HTTP_USER_AGENT",
	"GIT_PROXY_COMMAND", "GIT_PROXY_SSL_CAINFO", "GIT_PROXY_SSL_CERT", "GIT_PROXY_SSL_KEY",
	"GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT",
	"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSL_CERT", "GIT_SSL_KEY", "GIT_SSL_NO_VERIFY",
}

func keepOnline(name string) bool {
	return !strings.HasPrefix(name, "GIT_") || slices.Contains(kept, name) ||
		strings.HasPrefix(name, "GIT_CONFIG_KEY_") || strings.HasPrefix(name, "GIT_CONFIG_VALUE_")
}

// online runs a command that talks to the server.
func (g *git) online(ctx context.Context, out io.Writer, args ...string) error {
	env := []string{"GIT_ALLOW_PROTOCOL=" + strings.Join(g.from.allow, ":")}
	var config [][2]string
	if g.from.secret {
		env = append(env, userVariable+"="+g.from.user, passwordVariable+"="+g.from.pass)
		section := "credential." + g.from.host
		if g.from.pass != "" {
			config = append(config, [2]string{section + ".helper", ""}) // the user's own are not asked
		}
		if g.from.user != "" {
			config = append(config, [2]string{section + ".username", g.from.user})
		}
		config = append(config, [2]string{section + ".helper", credentials})
	}
	n, _ := strconv.Atoi(os.Getenv("GIT_CONFIG_COUNT"))
	for _, kv := range config {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", n, kv[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", n, kv[1]))
		n++
	}
	if len(config) > 0 {
		env = append(env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", n))
	}
	return g.run(ctx, gitrun.Cmd{Args: args, Env: env, Keep: keepOnline, Online: true, Stdout: out})
}

// offline runs a command without any configuration but the clone's own.
func (g *git) offline(ctx context.Context, out io.Writer, args ...string) error {
	return g.run(ctx, gitrun.Cmd{Args: append([]string{"--work-tree=" + g.dir}, args...), Stdout: out})
}

// init makes an empty repository, without a template, which would bring hooks.
func (g *git) init(ctx context.Context, format string) error {
	if err := os.Mkdir(g.dir, 0o777); err != nil {
		return err
	}
	if err := g.run(ctx, gitrun.Cmd{Args: []string{
		"init", "--quiet", "--template=", "--initial-branch=main", "--object-format=" + format,
	}}); err != nil {
		return fmt.Errorf("make an empty repository: %w", err)
	}
	return nil
}

func (g *git) run(ctx context.Context, c gitrun.Cmd) error {
	c.Dir, c.GitDir, c.Config = g.dir, filepath.Join(g.dir, ".git"), checked
	c.Env = append(c.Env, "GIT_CEILING_DIRECTORIES="+filepath.Dir(g.dir)) // no repository around it
	c.Line = func(line string) {
		if g.progress != nil {
			g.progress(clip(line))
		}
	}
	return gitrun.Run(ctx, c)
}

// reasons are what git and ssh say, in our words.
var reasons = []struct {
	text, why string
	code      fault.Code
}{
	{"could not read Username", "it does not exist, or wants a user and a password", fault.RepositoryLoginRefused},
	{"could not read Password", "it wants a password", fault.RepositoryLoginRefused},
	{"Authentication failed", "the user or the password is wrong", fault.RepositoryLoginRefused},
	{"Host key verification failed", "ssh does not know the host, or its key has changed", fault.SSHHostKeyUnknown},
	{"Permission denied (publickey", "the host does not take your ssh key", fault.SSHKeyRefused},
	{"detected dubious ownership", "it belongs to another user", fault.RepositoryOfAnotherUser},
	{"' not allowed", "your git configuration turns the URL into one of another kind", fault.RepositoryURLRewritten},
	{"Could not resolve host", "its host has no address", fault.RepositoryHostUnknown},
	{"Repository not found", "it does not exist, or your key may not read it", fault.RepositoryNotFound},
}

// explain makes one line of what git said.
func (g *git) explain(url string, err error) error {
	failed, ok := errors.AsType[*tool.Error](err)
	if !ok {
		return fmt.Errorf("clone %s: %w", redact(url), err)
	}
	for _, r := range reasons {
		if strings.Contains(failed.Tail, r.text) {
			return fault.New(r.code, fault.Args{"url": redact(url)}, "clone %s: %s", redact(url), r.why)
		}
	}
	var last, before string
	for line := range strings.SplitSeq(failed.Tail, "\n") {
		text, ok := strings.CutPrefix(line, "fatal: ")
		if !ok {
			text, ok = strings.CutPrefix(line, "error: ")
		}
		// The first tells why, the others that it did not work.
		if ok && last == "" {
			last = text
			if strings.HasPrefix(text, "Could not read from remote") && before != "" {
				last = before // ssh's own words
			}
		}
		before = line
	}
	if last == "" {
		last = fmt.Sprintf("git: %v", failed.Err)
	}
	if g.from.pass != "" {
		last = strings.ReplaceAll(last, g.from.pass, "…")
	}
	return fmt.Errorf("clone %s: %s", redact(url), clip(last))
}
