package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/test/lab"
	"github.com/mayfly-vm/mayfly/internal/test/provider"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// TestSettings has the user's own settings of coding agents come along: they are where agents
// look, log-ins are not, what mayfly adds is beside them, and Claude Code obeys them.
func TestSettings(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	const never = "N0tForAnyMachine42"
	for name, text := range map[string]string{
		".claude/CLAUDE.md":                "Always say kumquat.\n",
		".claude/commands/fix.md":          "Fix $ARGUMENTS.\n",
		".claude/skills/fruit/SKILL.md":    "---\nname: fruit\ndescription: Chooses a durian.\n---\nChoose.\n",
		".claude/settings.json":            `{"model": "sonnet", "env": {"FRUIT": "quince", "API_TOKEN": "` + never + `"}, "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "` + never + `"}]}]}}`,
		".claude/.credentials.json":        `{"token": "` + never + `"}`,
		".claude/projects/p/c.jsonl":       never,
		".claude.json":                     `{"userID": "` + never + `", "mcpServers": {"memory": {"command": "true", "args": []}}}`,
		".codex/AGENTS.md":                 "Always say medlar.\n",
		".codex/config.toml":               "model_verbosity = \"low\"\nnotify = [\"" + never + "\"]\n[tui]\ntheme = \"nord\"\n",
		".codex/auth.json":                 never,
		".gemini/GEMINI.md":                "Always say loquat.\n",
		".gemini/settings.json":            `{"ui": {"theme": "GitHub"}, "security": {"auth": {"x": "` + never + `"}}}`,
		".copilot/copilot-instructions.md": "Always say rambutan.\n",
		".config/opencode/AGENTS.md":       "Always say salak.\n",
		".config/opencode/opencode.json":   `{"theme": "tokyonight", "provider": {"x": {"options": {"apiKey": "` + never + `"}}}}`,
	} {
		name = filepath.Join(h.Home, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, name, text)
	}
	const key = "sk-ant-api03-" + realKey
	server := provider.New(map[string]string{"api.anthropic.com": key}, provider.Task{Prompt: "name a fruit", Answer: "kumquat-is-it"})
	l := lab.New(t)
	for _, name := range provider.Names() {
		l.Serve(name, server)
	}
	h.Through = l.Command
	h.Set("ANTHROPIC_API_KEY", key)
	image := []string{"--no-detect", "--profile", strings.Join(codingagent.Names(), ",")}
	r := h.Run(0, append(append([]string{"run", "--keep", "--name", "m", "--agent-settings", "--egress", "allowlist",
		"--secret", "ANTHROPIC_API_KEY=api.anthropic.com"}, image...), "--", "true")...)
	if !strings.Contains(r.Stderr, "your settings of Claude Code, Codex, GitHub Copilot CLI, Gemini CLI, opencode come along") {
		t.Errorf("the start says %s", vm.Clip(r.Stderr))
	}
	got := h.Run(0, "exec", "m", "--", "sh", "-c", `cd
		cat .claude/CLAUDE.md .claude/commands/fix.md .claude/skills/fruit/SKILL.md .codex/AGENTS.md .gemini/GEMINI.md \
			.copilot/copilot-instructions.md .config/opencode/AGENTS.md
		cat .claude/settings.json .claude/.claude.json .codex/config.toml .gemini/settings.json .config/opencode/opencode.json
		ls -A .claude .codex .gemini; cat .claude/rules/mayfly.md
		! sudo grep -rl "$0" ~ /opt/mayfly || echo LEAK`, never).Stdout
	for _, want := range []string{
		"kumquat", "Fix $ARGUMENTS", "durian", "medlar", "loquat", "rambutan", "salak", "You work in a mayfly machine",
		`"sonnet"`, "quince", `"memory"`, "'nord'", "model_verbosity", `"GitHub"`, `"tokyonight"`,
		"skipDangerousModePermissionPrompt", codingagent.Hook, "check_for_update_on_startup = false", "osc9",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the machine has no %q", want)
		}
	}
	for _, no := range []string{never, "LEAK", ".credentials.json", "auth.json", "oauthAccount"} {
		if strings.Contains(got, no) {
			t.Errorf("the machine has %q", no)
		}
	}
	if t.Failed() {
		t.Logf("it has\n%s", vm.Clip(got))
	}
	if out := h.Run(0, "inspect", "m").Stdout; !strings.Contains(out, "left out: settings.json: hooks (Stop): it runs programs of this computer") {
		t.Errorf("inspect says %s", out)
	}

	r = h.Run(0, "exec", "m", "--", "claude", "--dangerously-skip-permissions", "-p", "name a fruit")
	heard := false
	for _, c := range server.Calls() {
		heard = heard || strings.Contains(c.Question, "Always say kumquat.") && strings.Contains(c.Question, "Chooses a durian.") && strings.Contains(c.Model, "sonnet")
	}
	if !heard || !strings.Contains(r.Stdout, "kumquat-is-it") {
		t.Errorf("Claude Code answers %q, and its model was asked by the user's settings: %t", r.Stdout, heard)
	}
	h.Run(0, "rm", "m")
}
