package dotfiles

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// Bounds of the search. A secret behind them is not found.
const (
	maxScanned  = 1 << 20 // bytes of a file
	maxScanAll  = 256 << 20
	maxLine     = 8 << 10
	MaxFindings = 100
)

// Finding is a place that looks like a secret. It does not hold the secret.
type Finding struct {
	Path string // in the directory
	Line int    // from 1; 0 for the file as a whole
	Kind string // "a private key"

	// Ignored is whether List leaves the file out. It is in the directory all the
	// same, for whoever shares that as a whole.
	Ignored bool
}

func (f Finding) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%q is %s", f.Path, f.Kind)
	}
	return fmt.Sprintf("%q, line %d: %s", f.Path, f.Line, f.Kind)
}

// files are names that say by themselves what is in them.
var files = []struct{ pattern, kind string }{
	{".netrc", "a file of passwords (netrc)"},
	{"_netrc", "a file of passwords (netrc)"},
	{"netrc", "a file of passwords (netrc)"},
	{".git-credentials", "a file of passwords (git)"},
	{"git-credentials", "a file of passwords (git)"},
	{".pgpass", "a file of passwords (PostgreSQL)"},
	{".my.cnf", "a file of passwords (MySQL)"},
	{".htpasswd", "a file of passwords"},
	{"id_rsa", "a private key"},
	{"id_dsa", "a private key"},
	{"id_ecdsa", "a private key"},
	{"id_ecdsa_sk", "a private key"},
	{"id_ed25519", "a private key"},
	{"id_ed25519_sk", "a private key"},
	{"*.ppk", "a private key"},
	{"*.p12", "a private key"},
	{"*.pfx", "a private key"},
	{"*.jks", "a private key"},
	{"*.kdbx", "a file of passwords"},
	{".env", "a file of an application's secrets"},
	{".env.*", "a file of an application's secrets"},
	{".credentials.json", "an agent's login"},
	{"oauth_creds.json", "an agent's login"},
	{"kubeconfig", "a login (Kubernetes)"},
}

// lines are what secrets look like. A name in front of a value decides where
// the value alone could be anything.
var lines = []struct {
	kind string
	re   func() *regexp.Regexp
}{
	{"a private key", expression(`-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-[23]|AGE-SECRET-KEY-1[0-9A-Z]{20}`)},
	{"a key of AWS", expression(`\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|(?i:aws_secret_access_key)["' ]*[=:]["' ]*[0-9A-Za-z/+]{40}`)},
	{"a token of GitHub", expression(`\bgh[pousr]_[0-9A-Za-z]{36}|\bgithub_pat_[0-9A-Za-z_]{40}`)},
	{"a token of GitLab", expression(`\bgl(?:pat|dt|rt|ft|cbt|ptt|soat|agent)-[0-9A-Za-z_-]{20}`)},
	{"a token of Slack", expression(`\bxox[abeoprs]-[0-9A-Za-z-]{10}|\bxapp-[0-9]-[0-9A-Z]{8}|hooks\.slack\.com/services/T[0-9A-Z]+/B`)},
	{"a key of Anthropic", expression(`\bsk-ant-[0-9A-Za-z_-]{20}`)},
	{"a key of OpenAI", expression(`\bsk-(?:proj|svcacct|admin|None)-[0-9A-Za-z_-]{20}|\bsk-[0-9A-Za-z]{40}`)},
	{"a key of Google", expression(`\bAIza[0-9A-Za-z_-]{35}|\bGOCSPX-[0-9A-Za-z_-]{20}|\bya29\.[0-9A-Za-z_-]{20}`)},
	{"a token of npm", expression(`\bnpm_[0-9A-Za-z]{36}|_auth(?:Token)?\s*=\s*"?[0-9A-Za-z+/=_-]{16}`)},
	{"a key of Stripe", expression(`\b[sr]k_live_[0-9A-Za-z]{16}`)},
	{"a token of Hugging Face", expression(`\bhf_[0-9A-Za-z]{30}`)},
	{"a token (JWT)", expression(`\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10}`)},
	{"a password in a URL", expression(`\b[a-z][a-z0-9+.-]*://[^\s/:@"'$<{]+:[^\s/@"'$<{]{3,}@[^\s/]`)},
	{"a login (Kubernetes)", expression(`^\s*(?:client-key-data|token):\s*["']?[0-9A-Za-z+/=._-]{30}`)},
	{"a password (netrc)", expression(`\bmachine\s+\S+\s+login\s+\S+\s+password\s+\S`)},
	// A value that begins with $ or ` comes from elsewhere: a password manager, say.
	{"a secret in a variable", expression(`(?i)(?:^|[\s;])(?:export\s+|set\s+-\S*x\S*\s+|setenv\s+)?[a-z0-9_]*(?:token|secret|passwd|password|api_?key|access_?key|private_?key|_key)[ \t=]\s*["']?[0-9A-Za-z+/_.!@#%^&*~-]{12}`)},
}

// expression is compiled when it is first looked for: few commands look for secrets, and
// compiling takes as long as the rest of a program's start.
func expression(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// assigned is what a variable's line must look like besides: the shells' words
// that set one.
var assigned = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\s*(?:export\s+\w+=|\w+=|set\s+-\S*x\S*\s+\w+\s|setenv\s+\w+\s|(?:declare|typeset)\s+-\S*\s+\w+=)`)
})

// Scan returns the places in dir that look like secrets, in the order of their
// paths. It looks at all that List could take, and at what it leaves out: a secret
// that is not shared is worth knowing of, too. Best effort: a secret of another
// form, deep in a large file, encoded or in the history of .git is not found.
func Scan(dir string) ([]Finding, error) {
	root, err := userfile.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("look for secrets: %w", err)
	}
	defer root.Close()
	ignore, err := readIgnore(root)
	if err != nil {
		return nil, err
	}
	s := scanner{root: root, ignore: ignore}
	if err := s.dir(".", 0, false); err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("look for secrets: %w", err)
	}
	return s.found, nil
}

// errEnough ends the search: a user who has read a hundred knows.
var errEnough = errors.New("enough found")

type scanner struct {
	root   *os.Root
	ignore Ignore
	found  []Finding
	count  int
	bytes  int64
}

func (s *scanner) dir(name string, depth int, ignored bool) error {
	if depth > maxDepth {
		return fmt.Errorf("%q is more than %d directories deep", name, maxDepth)
	}
	entries, err := readDir(s.root, name, MaxEntries-s.count)
	if err != nil {
		return err
	}
	s.count += len(entries)
	for _, d := range entries {
		full := path.Join(name, d.Name())
		ignored := ignored || s.ignore.Match(full)
		switch {
		case d.IsDir() && d.Name() == ".git":
		case d.IsDir():
			err = s.dir(full, depth+1, ignored)
		case d.Type().IsRegular():
			err = s.file(full, ignored)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ScanFile returns the first that looks like a secret in a file that is read already.
func ScanFile(name string, data []byte) (f Finding, found bool) {
	if f, found = scanName(name); found {
		return f, true
	}
	if all := scanText(data); len(all) > 0 {
		all[0].Path = name
		return all[0], true
	}
	return Finding{}, false
}

// scanName says what a file is that its name tells.
func scanName(name string) (f Finding, found bool) {
	for _, f := range files {
		if ok, _ := path.Match(f.pattern, path.Base(name)); ok {
			return Finding{Path: name, Kind: f.kind}, true
		}
	}
	return Finding{}, false
}

func (s *scanner) file(name string, ignored bool) error {
	if f, found := scanName(name); found {
		f.Ignored = ignored
		if err := s.add(f); err != nil {
			return err
		}
	}
	data, err := readFile(s.root, name, maxScanned)
	if errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.DotfileUnreadable, fault.Args{"path": name}, "%q: %w", name, err)
	}
	if err != nil {
		return err
	}
	if s.bytes += int64(len(data)); s.bytes > maxScanAll {
		return fault.New(fault.DotfilesUnscannable, fault.Args{"limit": strconv.Itoa(maxScanAll)},
			"the files are larger than %d MiB", maxScanAll>>20)
	}
	for _, f := range scanText(data) {
		f.Path, f.Ignored = name, ignored
		if err := s.add(f); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) add(f Finding) error {
	if len(s.found) == MaxFindings {
		return errEnough
	}
	s.found = append(s.found, f)
	return nil
}

// scanText finds secrets in the text of a file, at most one a line.
func scanText(data []byte) []Finding {
	if bytes.IndexByte(data[:min(len(data), 8<<10)], 0) >= 0 {
		return nil // not text
	}
	var found []Finding
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line = bytes.TrimRight(line[:min(len(line), maxLine)], "\r\n")
		for _, l := range lines {
			if !l.re().Match(line) || l.kind == "a secret in a variable" && (!assigned().Match(line) || harmless(line)) {
				continue
			}
			found = append(found, Finding{Line: n, Kind: l.kind})
			break
		}
		if len(found) > MaxFindings {
			break
		}
	}
	return found
}

// harmless reports whether the value of a variable only says where a secret is,
// or stands for one.
func harmless(line []byte) bool {
	_, value, ok := bytes.Cut(line, []byte("="))
	if !ok {
		return false
	}
	v := strings.ToLower(strings.Trim(string(value), ` "'`))
	return strings.HasPrefix(v, "/") || strings.HasPrefix(v, "~") || strings.HasPrefix(v, "$") || strings.HasPrefix(v, "`") ||
		strings.Contains(v, "xxxx") || strings.HasPrefix(v, "your") || strings.HasPrefix(v, "<") || strings.HasPrefix(v, "changeme")
}
