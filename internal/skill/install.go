package skill

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/hint"
)

// agent is where a coding agent looks for skills.
type agent struct {
	name, project string
	user          func(getenv func(string) string) string
}

// agents are where each agent looks for skills: below a project's directory, and
// in the user's home, or in what a variable names instead of its first part.
//
//   - Claude Code: code.claude.com/docs/en/skills
//   - Codex: developers.openai.com/codex/skills; $CODEX_HOME/skills is its older place
//   - opencode: opencode.ai/docs/skills; it also reads those of Claude Code and Codex
//   - Gemini CLI: geminicli.com/docs/cli/skills
var agents = []agent{
	{"claude", ".claude/skills", func(getenv func(string) string) string {
		return filepath.Join(either(getenv("CLAUDE_CONFIG_DIR"), getenv("HOME"), ".claude"), "skills")
	}},
	{"codex", ".agents/skills", func(getenv func(string) string) string {
		return filepath.Join(getenv("HOME"), ".agents/skills")
	}},
	{"opencode", ".opencode/skills", func(getenv func(string) string) string {
		return filepath.Join(either(getenv("XDG_CONFIG_HOME"), getenv("HOME"), ".config"), "opencode/skills")
	}},
	{"gemini", ".gemini/skills", func(getenv func(string) string) string {
		return filepath.Join(either(getenv("GEMINI_CLI_HOME"), getenv("HOME"), ""), ".gemini/skills")
	}},
}

func either(dir, home, below string) string {
	if filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(home, below)
}

// Agents returns the names of the agents that there is a place for.
func Agents() []string {
	var names []string
	for _, a := range agents {
		names = append(names, a.name)
	}
	return names
}

// Target says where the skill is to be written.
type Target struct {
	Agent   string              // one of Agents
	Project string              // directory of a project; "" for all of the user's
	Getenv  func(string) string // reads HOME and the agents' variables
	Force   bool                // also over a file that somebody changed
}

// Result is what Install did.
type Result struct {
	Path    string
	Changed bool // false: it was there already
}

// Install writes the skill. What somebody has changed there is left alone, and
// what an older mayfly wrote is replaced: a line at the end of the file tells them
// apart.
func Install(t Target) (Result, error) {
	i := slices.IndexFunc(agents, func(a agent) bool { return a.name == t.Agent })
	if i < 0 {
		return Result{}, hint.Errorf("one of "+strings.Join(Agents(), ", "), "there is no agent %q", t.Agent)
	}
	// What is below a project may be anybody's: a link in it does not lead us
	// out. The user's own directories may be links, as managers of dotfiles make
	// them.
	base, below := t.Project, agents[i].project
	if base == "" {
		base, below = agents[i].user(t.Getenv), "."
		if !filepath.IsAbs(base) {
			return Result{}, errors.New("install the skill: HOME is not an absolute path")
		}
		if err := os.MkdirAll(base, 0o755); err != nil {
			return Result{}, fmt.Errorf("install the skill: %w", err)
		}
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return Result{}, fmt.Errorf("install the skill: %w", err)
	}
	defer root.Close()
	dir := filepath.Join(below, Name)
	name := filepath.Join(dir, fileName)
	res := Result{Path: filepath.Join(base, name)}
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return Result{}, fmt.Errorf("install the skill: %w", err)
	}
	want := stamped(text)
	if !t.Force {
		switch old, err := read(root, name); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return Result{}, fmt.Errorf("install the skill: %w", err)
		case old == want:
			return res, nil
		case !unchanged(old):
			return Result{}, hint.Errorf("mayfly skill install --force replaces it", "%s was changed by somebody", res.Path)
		}
	}
	if err := replace(root, name, want); err != nil {
		return Result{}, fmt.Errorf("install the skill: %w", err)
	}
	res.Changed = true
	return res, nil
}

const stamp = "\n<!-- Written by mayfly skill install. As long as nobody changes it, a newer mayfly replaces it. sha256:"

// stamped adds the line that tells whether somebody changed the text.
func stamped(text string) string {
	sum := sha256.Sum256([]byte(text))
	return text + stamp + hex.EncodeToString(sum[:]) + " -->\n"
}

// unchanged reports whether a text is as some mayfly wrote it.
func unchanged(s string) bool {
	text, _, ok := strings.Cut(s, stamp)
	return ok && s == stamped(text)
}

// read returns a file of which only the beginning matters if it is large.
func read(root *os.Root, name string) (string, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", nil // a link, say: not as we write it
	}
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return string(data), err
}

// replace writes a file beside its place and renames it.
func replace(root *os.Root, name, text string) error {
	temp := filepath.Join(filepath.Dir(name), ".mayfly-"+rand.Text())
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(temp))
	}
	return nil
}
