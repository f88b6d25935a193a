package review

import (
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/review/settings"
)

// agentRules are about what coding agents on the host run or obey at their next start.
var agentRules = []rule{
	{
		id: "claude-settings", class: Runs,
		reason: "Claude Code runs or allows this at its next start",
		paths:  []string{".claude/settings*.json", ".claude/managed-*.json"},
		when:   judged(settings.JSON, all),
	},
	{
		id: "agent-files", class: Runs,
		reason: "your next agent runs or follows this",
		paths: []string{
			".claude/hooks/**", ".claude/skills/**", ".claude/commands/**", ".claude/agents/**", ".claude/plugins/**", ".claude/rules/**",
			".claude/output-styles/**", ".claude/scripts/**", ".claude/workflows/**", ".claude-plugin/**",
			".agents/**", ".agent/**", ".github/skills/**",
		},
	},
	{
		id: "mcp-server", class: Runs,
		reason: "starts the server command that this file names",
		paths: []string{
			".mcp.json", "mcp.json", "mcp_config.json", ".vscode/mcp.json", ".cursor/mcp.json", ".kiro/settings/mcp.json", ".roo/mcp.json", ".junie/mcp/**",
			".amazonq/mcp.json", ".gemini/settings.json", ".qwen/settings.json", ".amp/settings.json", "opencode.json", "opencode.jsonc",
			"crush.json", ".crush.json", ".mcp/**", "claude_desktop_config.json", ".copilot/mcp-config.json", ".lmstudio/mcp.json",
		},
		when: judged(settings.JSON, all),
	},
	{
		id: "codex", class: Runs,
		reason: "Codex obeys this in a trusted project",
		paths:  []string{".codex/**"},
	},
	{
		id: "cursor", class: Runs,
		reason: "Cursor runs or obeys this",
		paths:  []string{".cursor/**", ".cursorrules", ".cursorignore", ".cursorindexingignore"},
	},
	{
		id: "agent-plugin", class: Runs,
		reason: "an agent loads plug-ins, hooks or rules from here",
		paths: []string{
			".opencode/**", ".pi/**", ".github/hooks/**", ".kiro/**", ".windsurf/**", ".clinerules/**", ".clinerules", ".roo/**", ".roomodes",
			".continue/**", ".continuerc.json", ".gemini/**", ".qwen/**", ".junie/**", ".factory/**", ".augment/**", ".trae/**", ".amazonq/**",
			".aider.conf.y*ml", ".aider.model.*", ".crush/**", ".amp/**", ".goose/**", ".copilot/**", ".cline/**", ".kilocode/**", ".kilocodemodes",
			".openhands/**", ".sourcegraph/**", ".tabnine/**", ".codeium/**", ".antigravity/**", ".warp/**", ".devin/**", ".zencoder/**", ".aiassistant/**",
			".hermes/**", ".superpowers/**",
		},
	},
	{
		id: "agent-text", class: Runs,
		reason: "your next agent obeys this text with your rights",
		paths: []string{
			"claude.md", "claude.local.md", "agents.md", "agents.override.md", "agent.md", "gemini.md", "qwen.md", "crush.md", "warp.md", "codex.md", "copilot.md",
			".rules", ".windsurfrules", ".goosehints", "conventions.md", ".clinerules*", "replit.md", "soul.md", "memory.md", "skill.md",
			".github/copilot-instructions.md", ".github/instructions/**", ".github/prompts/**", ".github/agents/**", ".github/chatmodes/**",
			"*.instructions.md", "*.prompt.md", "*.chatmode.md", "*.agent.md", ".llm/**", "llms.txt",
		},
	},
	{
		id: "agent-unknown", class: Runs,
		reason: "looks like the settings of an agent",
		when:   unknownAgent,
	},
	{
		id: "sandbox", class: Runs,
		reason: "a sandbox takes its rules from this file",
		paths:  []string{"mayfly.toml", ".sbxenv.y*ml", ".broodbox.y*ml", "cleanroom.y*ml", "smolfile", "*.lima.y*ml", "sandbox.toml", ".sandbox.json"},
	},
}

func all(*subject, settings.Change) (Finding, bool) { return Finding{}, true }

// knownDots are directories of the root with other rules, or with settings of programs
// that run nothing of theirs by themselves.
var knownDots = strings.Fields(`.git .github .gitlab .gitea .forgejo .vscode .idea .zed .vs .husky .config .circleci .buildkite .woodpecker
	.devcontainer .storybook .changeset .yarn .cargo .mvn .gradle .venv .tox .nox .next .nuxt .cache .pytest_cache .mypy_cache .ruff_cache .terraform
	.svn .hg .jj .bzr .sl .lefthook .githooks .git-hooks .teamcity .semaphore .tekton .docusaurus .vitepress .reuse .settings .ssh .gnupg .local .npm
	.bundle .ebextensions .platform .vercel .netlify .fleet .run .nova .helix .mise .mise-tasks`)

// unknownAgent is about a directory with a dot in the root whose files are named as those
// of agents are.
func unknownAgent(s *subject) []Finding {
	if len(s.names) < 2 || s.change.New.Kind != Regular && s.change.New.Kind != Symlink {
		return nil
	}
	first := s.names[0]
	if len(first) < 2 || first[0] != '.' || slices.Contains(knownDots, first) || s.set.obeyed(s) {
		return nil
	}
	for _, name := range s.names[1:] {
		for _, begins := range []string{"hooks", "mcp", "plugin", "extension", "settings"} {
			if strings.HasPrefix(name, begins) && (name == begins || begins != "settings" || path.Ext(name) == ".json") {
				return []Finding{{}}
			}
		}
	}
	for _, name := range s.names[1 : len(s.names)-1] {
		if name == "skills" || name == "agents" || name == "rules" || name == "commands" {
			return []Finding{{}}
		}
	}
	return nil
}
