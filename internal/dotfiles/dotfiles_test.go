package dotfiles

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write makes a directory with files: path → text.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestList(t *testing.T) {
	dir := write(t, map[string]string{
		"zshrc":                    "x",
		".vimrc":                   "x",
		"tmux.conf":                "x",
		"config/emacs/init.el":     "x",
		"config/starship.toml":     "x",
		".config/nvim/init.lua":    "x",
		".emacs.d/init.el":         "x",
		".local/share/fonts/a.ttf": "x",
		".local/bin/tool":          "x",
		"scripts/deploy":           "x",
		".git/config":              "x",
		"README.md":                "x",
		"LICENSE":                  "x",
		"install.sh":               "x",
		"flake.nix":                "x",
		".ssh/config":              "x",
		".netrc":                   "x",
		".zsh_history":             "x",
		"private":                  "x",
		"config/work/x":            "x",
		".mayflyignore":            "# mine\nprivate\n/config/work/\n",
	})
	if err := errors.Join(os.Symlink("/etc/passwd", filepath.Join(dir, "passwd")), syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644)); err != nil {
		t.Fatal(err)
	}
	got, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{"config/emacs", ".config/emacs", true},
		{".config/nvim", ".config/nvim", true},
		{"config/starship.toml", ".config/starship.toml", false},
		{".emacs.d", ".emacs.d", true},
		{".local/bin/tool", ".local/bin/tool", false},
		{".local/share/fonts", ".local/share/fonts", true},
		{"tmux.conf", ".tmux.conf", false},
		{".vimrc", ".vimrc", false},
		{"zshrc", ".zshrc", false},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("List() (-want +got):\n%s", d)
	}
}

func TestListErrors(t *testing.T) {
	deep := "config/" + strings.Repeat("a/", maxDepth+2) + "x"
	many := make(map[string]string)
	for i := range MaxEntries + 1 {
		many[fmt.Sprintf("config/a/%d", i)] = ""
	}
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"two for one", map[string]string{"zshrc": "", ".zshrc": ""}, `".zshrc" and "zshrc" are both for ~/.zshrc`},
		{"deep", map[string]string{deep: ""}, "directories deep"},
		{"many", many, "more than 10000"},
		{"bad pattern", map[string]string{".mayflyignore": "a\n[\n"}, ".mayflyignore:2"},
		{"negation", map[string]string{".mayflyignore": "!a\n"}, ".mayflyignore:1"},
		{"large ignore file", map[string]string{".mayflyignore": strings.Repeat("a", maxIgnore+1)}, "larger than"},
	} {
		if _, err := List(write(t, test.files)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: List() = %v; want %q", test.name, err, test.want)
		}
	}
	large := write(t, map[string]string{"zshrc": ""})
	if err := os.Truncate(filepath.Join(large, "zshrc"), MaxBytes+1); err != nil {
		t.Fatal(err)
	}
	if _, err := List(large); err == nil || !strings.Contains(err.Error(), "64 MiB") {
		t.Errorf("List(large) = %v; want an error", err)
	}
	if _, err := List(filepath.Join(large, "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("List(nowhere) = %v; want os.ErrNotExist", err)
	}
}

// secret joins its parts, so that no secret scanner stumbles over this file.
func secret(parts ...string) string { return strings.Join(parts, "") }

func TestScanText(t *testing.T) {
	long := strings.Repeat("Ab3", 20)
	for _, test := range []struct{ line, kind string }{
		{secret("-----BEGIN ", "PRIVATE KEY-----"), "a private key"},
		{secret("-----BEGIN ", "OPENSSH PRIVATE KEY-----"), "a private key"},
		{secret("-----BEGIN ", "PGP PRIVATE KEY BLOCK-----"), "a private key"},
		{secret("id = AK", "IAIOSFODNN7EXAMPLE"), "a key of AWS"},
		{secret("aws_secret_access_key = ", long[:40]), "a key of AWS"},
		{secret("x gh", "p_", long[:36]), "a token of GitHub"},
		{secret("github", "_pat_", long[:50]), "a token of GitHub"},
		{secret("gl", "pat-", long[:20]), "a token of GitLab"},
		{secret("xo", "xb-123456789012-abc"), "a token of Slack"},
		{secret("key: sk-", "ant-api03-", long[:40]), "a key of Anthropic"},
		{secret("sk-", "proj-", long[:40]), "a key of OpenAI"},
		{secret("//host.example/:_auth", "Token=", long[:36]), "a token of npm"},
		{secret("url = https://alice:", "hunter2@host.example/a"), "a password in a URL"},
		{secret("    token: ", long[:40]), "a login (Kubernetes)"},
		{secret("machine host.example login alice ", "password x"), "a password (netrc)"},
		{secret("export MY_TOKEN=", long[:20]), "a secret in a variable"},
		{secret("SERVICE_API_KEY='", long[:20], "'"), "a secret in a variable"},
		{secret("set -gx DB_PASSWORD ", long[:20]), "a secret in a variable"},
		{"export GITHUB_TOKEN=$(pass show github)", ""},
		{"export GITHUB_TOKEN=\"$(gh auth token)\"", ""},
		{"export SSH_KEY=/home/alice/.ssh/id_ed25519", ""},
		{"export API_KEY=your-api-key-here", ""},
		{"bindkey '^R' history-incremental-search-backward", ""},
		{"set key_timeout 100000000000000", ""},
		{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + long[:40] + " alice@host", ""},
		{"-----BEGIN PUBLIC KEY-----", ""},
		{"https://host.example:8443/a@b", ""},
		{"alias t=tmux", ""},
	} {
		got := scanText([]byte("first\n" + test.line + "\n"))
		var want []Finding
		if test.kind != "" {
			want = []Finding{{Line: 2, Kind: test.kind}}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("scanText(%q) (-want +got):\n%s", test.line, d)
		}
	}
}

func TestScan(t *testing.T) {
	key := secret("-----BEGIN ", "PRIVATE KEY-----\nhunter2x\n")
	dir := write(t, map[string]string{
		"zshrc":                "alias a=b\nexport A_TOKEN=hunter2xhunter2x\n",
		"config/tool/key.pem":  key,
		"config/tool/binary":   "\x00" + key,
		".git-credentials":     "https://a:hunter2x@h.example\n",
		".ssh/id_ed25519":      key,
		"config/app/.env":      "A=b\n",
		".git/config":          key,
		"config/tool/harmless": "x = 1\n",
	})
	if err := os.Symlink("/etc/shadow", filepath.Join(dir, "netrc")); err != nil {
		t.Fatal(err)
	}
	got, err := Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []Finding{
		{".git-credentials", 0, "a file of passwords (git)", true},
		{".git-credentials", 1, "a password in a URL", true},
		{".ssh/id_ed25519", 0, "a private key", true},
		{".ssh/id_ed25519", 1, "a private key", true},
		{"config/app/.env", 0, "a file of an application's secrets", true},
		{"config/tool/key.pem", 1, "a private key", true},
		{"zshrc", 2, "a secret in a variable", false},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Scan() (-want +got):\n%s", d)
	}
	for _, f := range got {
		if strings.Contains(f.String(), "hunter2x") {
			t.Errorf("%v shows the secret", f)
		}
	}
}

func TestScanIsBounded(t *testing.T) {
	line := secret("export A_TOKEN=", strings.Repeat("a1", 10), "\n")
	got, err := Scan(write(t, map[string]string{"zshrc": strings.Repeat(line, MaxFindings*3), "zzz": line}))
	if err != nil || len(got) != MaxFindings {
		t.Errorf("Scan() = %d findings, %v; want %d", len(got), err, MaxFindings)
	}
}

func FuzzScanText(f *testing.F) {
	f.Add([]byte("export A_TOKEN=abcdefghijklmnop\n"))
	f.Add([]byte(secret("-----BEGIN ", "PRIVATE KEY-----")))
	f.Add([]byte("https://a:b@c\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, found := range scanText(data) {
			if found.Line < 1 || found.Line > strings.Count(string(data), "\n")+1 {
				t.Errorf("line %d of %q", found.Line, data)
			}
		}
	})
}

func FuzzParseIgnore(f *testing.F) {
	f.Add("a\n# b\n/c/*.d\n", "c/x.d")
	f.Fuzz(func(t *testing.T, text, name string) {
		if ig, err := parseIgnore(text); err == nil {
			ig.Match(name)
		}
	})
}

// The log-ins of coding agents stay on the host, and what their user tells them comes along.
func TestLoginsAreNotTaken(t *testing.T) {
	var ig Ignore
	for name, want := range map[string]bool{
		".claude/.credentials.json": true, ".codex/auth.json": true, "local/share/opencode/auth.json": true, ".gemini/oauth_creds.json": true,
		".claude/CLAUDE.md": false, ".codex/config.toml": false, "config/app/auth.json": false,
		".claude/skills/setup/install.sh": false, "config/opencode/AGENTS.md": false, ".local/share/mayfly-agents/codex/AGENTS.md": false,
		".claude/id_rsa": true, ".claude/x.pem": true, ".claude/.git": true, "config/nvim/README.md": true, ".claudex/a.md": true,
	} {
		if got := ig.Match(name); got != want {
			t.Errorf("Match(%q) = %v; want %v", name, got, want)
		}
	}
}
