package skill

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// userDir returns where an agent looks for the skills of its user.
func userDir(s codingagent.Skills, getenv func(string) string) string {
	dir := ""
	if s.Variable != "" {
		dir = getenv(s.Variable)
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(getenv("HOME"), s.Default)
	}
	return filepath.Join(dir, s.User)
}

// Target says where the skill is to be written.
type Target struct {
	Agent   string              // a coding agent's name
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
	agent, ok := codingagent.Find(t.Agent)
	if !ok {
		args := fault.Args{"agent": t.Agent, "known": strings.Join(codingagent.Names(), ", ")}
		return Result{}, fault.New(fault.SkillAgentUnknown, args, "there is no agent %q", t.Agent)
	}
	// What is below a project may be anybody's: a link in it does not lead us
	// out. The user's own directories may be links, as managers of dotfiles make
	// them.
	base, below := t.Project, agent.Skills.Project
	if base == "" {
		base, below = userDir(agent.Skills, t.Getenv), "."
		if !filepath.IsAbs(base) {
			return Result{}, errors.New("install the skill: HOME is not an absolute path")
		}
		if err := os.MkdirAll(base, 0o755); err != nil {
			return Result{}, fmt.Errorf("install the skill: %w", err)
		}
	}
	root, err := userfile.OpenRoot(base)
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
			return Result{}, fault.New(fault.SkillChanged, fault.Args{"file": res.Path}, "%s was changed by somebody", res.Path)
		}
	}
	if err := atomicfile.WriteIn(root, name, []byte(want), 0o644); err != nil {
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
