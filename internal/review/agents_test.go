package review

import "testing"

// created is a new file.
func created(path, content string) Change { return Change{Path: path, New: file(content)} }

var agentCases = []evalCase{
	{change: edited(".claude/settings.local.json", `{}`, `{"permissions": {"allow": ["Bash(*)"]}}`), class: Runs, rules: []string{"claude-settings"}},
	{change: created(".Claude/Settings.JSON", `{"hooks": {}}`), class: Runs, rules: []string{"claude-settings"}},
	{change: edited(".claude/settings.json", `{"a": 1}`, `{"a": 1`), class: Runs, rules: []string{"claude-settings"}},
	{change: edited(".claude/settings.json", `{"a":1}`, "// why\n{\"a\": 1}\n")},
	{change: edited("pkg/.claude/hooks/fmt.sh", "a\n", "b\n"), class: Runs, rules: []string{"agent-files"}},
	{change: edited("AGENTS.md", "a\n", "a\nb\nc\nd\n"), class: Runs, rules: []string{"agent-text"}},
	{change: edited("docs/claude.md", "a\n", "b\n"), class: Runs, rules: []string{"agent-text"}},
	{change: edited("AGENTS.md", "a\n", "a\U000E0041\U000E0042\n"), class: Suspicious},
	{change: created(".github/hooks/x.json", "{}"), class: Runs, rules: []string{"agent-plugin"}},
	{change: created(".opencode/plugin/x.ts", ""), class: Runs, rules: []string{"agent-plugin"}},
	{change: created(".cursor/worktrees.json", "{}"), class: Runs, rules: []string{"cursor"}},
	{change: created("a/.cursor/MCP.json", `{"mcpServers":{}}`), class: Runs, rules: []string{"cursor", "mcp-server"}},
	{change: edited("mayfly.toml", "cpus = 1\n", "cpus = 2\n"), class: Runs, rules: []string{"sandbox"}},
	{change: created(".codex/rules/x", ""), class: Runs, rules: []string{"codex"}},
	{change: created(".newagent/hooks.json", "{}"), class: Runs, rules: []string{"agent-unknown"}},
	{change: created(".newagent/skills/x/a.md", "x\n"), class: Runs, rules: []string{"agent-unknown"}},
	{change: created(".reuse/plugins.md", "x\n")},
	// The same bytes at a place where they are obeyed.
	{change: Change{Path: ".claude/settings.json", From: "x.json", Old: file(`{"hooks":{}}`), New: file(`{"hooks":{}}`)}, class: Runs, rules: []string{"claude-settings"}},
	{
		change: created("cfg/settings.json", `{"hooks": {}}`), more: []Change{{Path: ".claude", New: Node{Kind: Symlink, Target: "cfg"}}},
		class: Runs, rules: []string{"claude-settings"},
	},
	{
		change: created("cfg/a.md", "x\n"), more: []Change{{Path: "AGENTS.md", New: Node{Kind: Symlink, Target: "docs/b/a.md"}}, {Path: "docs/b", New: Node{Kind: Symlink, Target: "../cfg"}}},
		class: Runs, rules: []string{"agent-text"},
	},
	{change: Change{Path: ".mcp.json", New: Node{Kind: Symlink, Target: "x.json"}}, class: Suspicious},
}

func TestAgents(t *testing.T) { evaluate(t, agentCases) }
