// Package agents makes an image layer out of coding agents.
//
// The table of coding agents says which npm package each agent is. A lock file
// pins its version and the hash of its archive. The package fetches the archives
// through the host's npm, and so from wherever the host gets its packages, checks
// the hashes itself, and writes what is needed of them as a tar stream. It runs
// nothing of them, and no machine needs npm.
package agents

import (
	"cmp"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

//go:embed agents.lock.json
var builtin []byte

// Lock is the contents of a lock file.
type Lock struct {
	Version int              `json:"version"` // 1
	Agents  map[string]Agent `json:"agents"`  // by the name of their command
}

// Agent is one pinned agent. What a lock file leaves out of title, npm, files and
// bin is as the table of coding agents has it.
type Agent struct {
	Title   string `json:"title"`   // "Claude Code"
	Version string `json:"version"` // "2.1.330", for people
	NPM     string `json:"npm"`     // NAME@VERSION of the package

	// Integrity is the hash of the package's archive, as npm view NAME@VERSION
	// dist.integrity prints it: "sha512-" and base64.
	Integrity string   `json:"integrity"`
	Size      int64    `json:"size"`  // unpacked, for the check of the free space
	Files     []string `json:"files"` // what is taken out of the package: files and directories
	Bin       string   `json:"bin"`   // the file among them that is the command
}

// complete adds what the table of coding agents says of the agent name to what a
// lock file does.
func (a Agent) complete(name string) Agent {
	row, ok := codingagent.Find(name)
	if !ok {
		return a
	}
	a.Title = cmp.Or(a.Title, row.Title)
	a.NPM = cmp.Or(a.NPM, row.NPM(a.Version))
	a.Bin = cmp.Or(a.Bin, row.Program)
	if a.Files == nil {
		a.Files = row.Files
	}
	return a
}

// Load returns the built-in lock file with the entries of the one at override
// in it, which need not exist.
func Load(override string) (Lock, error) {
	lock, err := parse(builtin)
	if err != nil {
		return Lock{}, fmt.Errorf("built-in agents lock file: %w", err)
	}
	if override == "" {
		return lock, nil
	}
	data, err := userfile.Read(override, maxLock)
	if errors.Is(err, fs.ErrNotExist) {
		return lock, nil
	}
	if err != nil {
		return Lock{}, fmt.Errorf("agents lock file: %w", err)
	}
	own, err := parse(data)
	if err != nil {
		return Lock{}, fault.New(fault.AgentsLockInvalid, fault.Args{"file": override}, "%s: %w", override, err)
	}
	maps.Copy(lock.Agents, own.Agents)
	return lock, nil
}

// maxLock bounds the user's lock file, in bytes.
const maxLock = 1 << 20

func parse(data []byte) (Lock, error) {
	var lock Lock
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&lock); err != nil {
		return Lock{}, err
	}
	if lock.Version != 1 {
		return Lock{}, fmt.Errorf("version %d; want 1", lock.Version)
	}
	for name, a := range lock.Agents {
		a = a.complete(name)
		if err := a.check(name); err != nil {
			return Lock{}, fmt.Errorf("agent %q: %w", name, err)
		}
		lock.Agents[name] = a
	}
	return lock, nil
}

func (a Agent) check(name string) error {
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name[0] == '-' {
		return errors.New("names consist of lower-case letters, digits and hyphens")
	}
	if _, err := a.sum(); err != nil {
		return err
	}
	// npm also takes URLs, directories, git repositories and tags in the place of a
	// version, none of which the word package covers.
	if !npmPattern().MatchString(a.NPM) {
		return fmt.Errorf("npm = %q; want NAME@VERSION", a.NPM)
	}
	if !a.wants(a.Bin) {
		return fmt.Errorf("bin = %q is not among the files", a.Bin)
	}
	for _, f := range append(slices.Clone(a.Files), a.Bin) {
		if !fs.ValidPath(f) || f == "." {
			return fmt.Errorf("file %q is not a relative path", f)
		}
	}
	if !versionPattern().MatchString(a.Version) {
		return fmt.Errorf("version = %q; want one such as 2.1.330", a.Version)
	}
	return nil
}

// What npm is asked for: the name of a package and a version, semver.org.
const (
	versionText = `(0|[1-9][0-9]{0,15})(\.(0|[1-9][0-9]{0,15})){2}(-[0-9A-Za-z-]{1,64}(\.[0-9A-Za-z-]{1,64}){0,9})?(\+[0-9A-Za-z-]{1,64}(\.[0-9A-Za-z-]{1,64}){0,9})?`
	packageText = `(@[a-z0-9][a-z0-9._-]{0,99}/)?[a-z0-9][a-z0-9._-]{0,99}`
)

var (
	versionPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^` + versionText + `$`) })
	npmPattern     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^` + packageText + `@` + versionText + `$`) })
)

// sum returns the SHA-512 that the archive must have.
func (a Agent) sum() ([]byte, error) {
	text, ok := strings.CutPrefix(a.Integrity, "sha512-")
	sum, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(sum) != 64 {
		return nil, fmt.Errorf("integrity = %q; want sha512- and base64", a.Integrity)
	}
	return sum, nil
}

// wants reports whether a file of the package goes into the layer.
func (a Agent) wants(name string) bool {
	for name != "." && name != "" && name != "/" {
		if slices.Contains(a.Files, name) {
			return true
		}
		name = path.Dir(name)
	}
	return false
}

// Named is an agent and its name.
type Named struct {
	Name string `json:"name"`
	Agent
}

func (n Named) String() string { return fmt.Sprintf("%s %s (locked)", n.Name, n.Version) }

// Select returns the agents of these names, sorted.
func (l Lock) Select(names []string) ([]Named, error) {
	var out []Named
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		a, ok := l.Agents[name]
		if !ok {
			known := strings.Join(slices.Sorted(maps.Keys(l.Agents)), ", ")
			return nil, fault.New(fault.AgentNotLocked, fault.Args{"agent": name, "known": known}, "no agent is called %q", name)
		}
		out = append(out, Named{name, a})
	}
	return out, nil
}
