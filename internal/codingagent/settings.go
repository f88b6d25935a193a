package codingagent

import "path"

// SettingsDir is where the user's own settings of agents are on the disk of dotfiles, one
// directory for each agent. No dotfile has that place: their names begin with a dot.
const SettingsDir = "agents"

// OwnSettings is what of the settings that a user has for an agent on the host may be used in
// a machine. It is a list of what is known to be safe: all else stays on the host.
type OwnSettings struct {
	Dir      string // below the user's home
	Variable string // of the host's, that names the directory above Below; "" for none
	Below    string
	At       string // below SettingsDir

	Texts []string // files that are taken as they are
	Trees []string // directories whose files are taken as they are
	Files []SettingsFile
	// More are directories elsewhere below the home, each with its place among Trees.
	More []Elsewhere
	// Stays are files and directories of which a user may wonder, with why they stay.
	Stays []Stays
}

// Elsewhere is a directory of the user's home, and where the agent finds it in a machine.
type Elsewhere struct{ From, To string }

// Stays is what stays on the host: a path, or a key, and the reason.
type Stays struct{ What, Why string }

// SettingsFile is a file of which some keys may be used.
type SettingsFile struct {
	Path string // below Dir, and below the agent's directory in the machine
	// Home is where the file is below the home, unless the variable moves Dir.
	Home string
	TOML bool // rather than JSON, which may have comments
	Keys map[string]ValueKind
	// Stays are keys that are known to stay. Others, which are not known, are named as such,
	// unless State says that most of the file is none of its user's settings.
	Stays []Stays
	State bool
}

// ValueKind is what a value may be.
type ValueKind int

// The kinds of values.
const (
	Plain     ValueKind = iota + 1 // a text, a number, true or false, or a list of such
	Nested                         // also tables of them
	Variables                      // a table of environment variables
	Program                        // a table with a command whose program is among the agent's files
	Servers                        // a table of MCP servers
)

// Why settings stay on the host.
const (
	runsOnHost   = "it runs programs of this computer"
	credentials  = "it can give or hold credentials"
	needsFetched = "plugins are fetched from elsewhere"
	ofThisHost   = "it is about this computer"
	machinesOwn  = "mayfly decides it in a machine"
)

// OwnSettings returns which settings of the agent's user may be used in a machine.
func (a Agent) OwnSettings() OwnSettings {
	s := a.settings
	first := a.stores[0]
	s.Dir, s.Variable, s.Below = first.own, first.variable, first.below
	s.At = path.Join(a.Name, first.sub)
	return s
}

// OwnDirs returns the directories below a home in which agents keep their files.
func OwnDirs() []string {
	var dirs []string
	for _, a := range Agents() {
		dirs = append(dirs, a.stores[0].own)
	}
	return dirs
}

// plain adds keys of the kind Plain to a table of keys.
func plain(more map[string]ValueKind, keys ...string) map[string]ValueKind {
	all := make(map[string]ValueKind)
	for _, key := range keys {
		all[key] = Plain
	}
	for key, kind := range more {
		all[key] = kind
	}
	return all
}

func stay(why string, what ...string) []Stays {
	var all []Stays
	for _, w := range what {
		all = append(all, Stays{w, why})
	}
	return all
}

// code.claude.com/docs/en/settings
func claudeSettings() OwnSettings {
	return OwnSettings{
		Texts: []string{"CLAUDE.md", "keybindings.json"},
		Trees: []string{"agents", "commands", "output-styles", "rules", "skills", "themes"},
		Files: []SettingsFile{
			{
				Path: "settings.json",
				Keys: plain(map[string]ValueKind{
					"attribution": Nested, "env": Variables, "statusLine": Program, "spinnerVerbs": Nested,
				},
					"$schema", "alwaysThinkingEnabled", "autoCompactEnabled", "autoMemoryEnabled", "cleanupPeriodDays", "editorMode",
					"effortLevel", "fastMode", "includeCoAuthoredBy", "includeGitInstructions", "language", "model",
					"outputStyle", "permissions.allow", "permissions.ask", "permissions.defaultMode", "permissions.deny",
					"prefersReducedMotion", "respectGitignore", "showThinkingSummaries", "showTurnDuration",
					"spinnerTipsEnabled", "terminalProgressBarEnabled", "theme", "verbose", "viewMode",
				),
				Stays: append(append(append(
					stay(runsOnHost, "hooks", "fileSuggestion", "subagentStatusLine"),
					stay(credentials, "apiKeyHelper", "awsAuthRefresh", "awsCredentialExport", "gcpAuthRefresh", "otelHeadersHelper")...),
					stay(needsFetched, "enabledPlugins", "extraKnownMarketplaces", "pluginConfigs")...),
					stay(machinesOwn, "permissions.disableBypassPermissionsMode", "skipDangerousModePermissionPrompt", "sandbox", "autoUpdatesChannel")...),
			},
			{
				Path: ".claude.json", Home: ".claude.json", State: true,
				Keys: plain(map[string]ValueKind{"mcpServers": Servers}, "theme", "editorMode"),
			},
		},
		Stays: append(stay(needsFetched, "plugins"), stay(ofThisHost, "settings.local.json")...),
	}
}

// developers.openai.com/codex/config-reference
func codexSettings() OwnSettings {
	return OwnSettings{
		Texts: []string{"AGENTS.md", "AGENTS.override.md"},
		Trees: []string{"agents", "prompts", "rules", "skills", "themes"},
		More:  []Elsewhere{{From: ".agents/skills", To: "skills"}},
		Files: []SettingsFile{{
			Path: "config.toml", TOML: true,
			Keys: plain(map[string]ValueKind{"mcp_servers": Servers, "history": Nested, "tui.keymap": Nested},
				"approval_policy", "disable_paste_burst", "file_opener", "hide_agent_reasoning", "model",
				"model_auto_compact_token_limit", "model_context_window", "model_reasoning_effort", "model_reasoning_summary",
				"model_verbosity", "personality", "plan_mode_reasoning_effort", "review_model", "sandbox_mode", "service_tier",
				"show_raw_agent_reasoning", "tool_output_token_limit", "tui.alternate_screen", "tui.animations",
				"tui.show_tooltips", "tui.status_line", "tui.terminal_title", "tui.theme", "tui.vim_mode_default", "web_search",
			),
			Stays: append(append(append(
				stay(runsOnHost, "notify", "hooks"),
				stay(credentials, "model_provider", "model_providers", "openai_base_url", "chatgpt_base_url", "otel", "profile", "profiles", "shell_environment_policy")...),
				stay(needsFetched, "plugins", "marketplaces", "apps")...),
				stay(ofThisHost, "projects", "notice", "sandbox_workspace_write", "tui.notifications")...),
		}},
	}
}

// docs.github.com/copilot/reference/copilot-cli-reference/cli-config-dir-reference
func copilotSettings() OwnSettings {
	return OwnSettings{
		Texts: []string{"copilot-instructions.md"},
		Trees: []string{"agents", "instructions", "skills"},
		Files: []SettingsFile{
			{
				Path: "settings.json",
				Keys: plain(nil, "alt_screen", "auto_copy", "banner", "beep", "effortLevel", "include_coauthor",
					"includeCoAuthoredBy", "keep_alive", "log_level", "model", "mouse", "parallel_tool_execution",
					"render_markdown", "respectGitignore", "screen_reader", "streamer_mode", "stream", "theme",
					"update_terminal_title"),
				Stays: append(stay(runsOnHost, "hooks", "statusLine", "disableAllHooks"), stay(needsFetched, "enabledPlugins", "extraKnownMarketplaces")...),
			},
			{Path: "mcp-config.json", Keys: map[string]ValueKind{"mcpServers": Servers}},
		},
		Stays: append(append(stay(runsOnHost, "hooks", "lsp-config.json"), stay(needsFetched, "installed-plugins")...), stay(ofThisHost, "permissions-config.json")...),
	}
}

// geminicli.com/docs/reference/configuration
func geminiSettings() OwnSettings {
	return OwnSettings{
		Texts: []string{"GEMINI.md", "keybindings.json"},
		Trees: []string{"agents", "commands", "policies", "skills", "themes"},
		Files: []SettingsFile{{
			Path: "settings.json",
			Keys: plain(map[string]ValueKind{"ui": Nested, "model": Nested, "mcpServers": Servers},
				"$schema", "context.fileName", "context.includeDirectoryTree", "context.loadMemoryFromIncludeDirectories",
				"general.checkpointing.enabled", "general.defaultApprovalMode", "general.preferredEditor", "general.previewFeatures",
				"general.vimMode", "output.format", "privacy.usageStatisticsEnabled", "tools.allowed", "tools.autoAccept",
				"tools.core", "tools.exclude", "tools.useRipgrep",
				// As older versions have them.
				"allowedTools", "autoAccept", "contextFileName", "coreTools", "excludeTools", "hideBanner", "hideTips",
				"preferredEditor", "theme", "usageStatisticsEnabled", "vimMode",
			),
			Stays: append(append(append(
				stay(runsOnHost, "hooks", "hooksConfig", "tools.discoveryCommand", "tools.callCommand"),
				stay(credentials, "security", "selectedAuthType", "telemetry", "billing")...),
				stay(needsFetched, "extensions")...),
				stay(machinesOwn, "general.enableAutoUpdate", "general.disableAutoUpdate", "general.enableAutoUpdateNotification", "tools.sandbox", "sandbox")...),
		}},
		Stays: append(stay(needsFetched, "extensions"), stay(credentials, ".env")...),
	}
}

// opencode.ai/docs/config
func opencodeSettings() OwnSettings {
	keys := plain(map[string]ValueKind{
		"agent": Nested, "command": Nested, "compaction": Nested, "keybinds": Nested, "mcp": Servers, "mode": Nested,
		"permission": Nested, "tools": Nested, "tui": Nested,
	},
		"$schema", "default_agent", "disabled_providers", "enabled_providers", "instructions", "layout", "model", "share",
		"small_model", "snapshot", "theme", "username")
	stays := append(append(append(
		stay(credentials, "provider"),
		stay(runsOnHost, "formatter", "lsp", "experimental")...),
		stay(needsFetched, "plugin")...),
		stay(machinesOwn, "autoupdate", "server")...)
	terminal := plain(map[string]ValueKind{
		"attention": Nested, "cursor": Nested, "keybinds": Nested, "leader": Nested, "scroll_acceleration": Nested, "theme": Nested,
	}, "$schema", "diff_style", "mouse", "scroll_speed")
	s := OwnSettings{
		Texts: []string{"AGENTS.md"},
		Trees: []string{
			"agent", "agents", "command", "commands", "mode", "modes", "skill", "skills", "theme", "themes",
		},
		Stays: stay(runsOnHost, "plugin", "plugins", "tool", "tools"),
	}
	for _, name := range []string{"opencode.json", "opencode.jsonc", "config.json"} {
		s.Files = append(s.Files, SettingsFile{Path: name, Keys: keys, Stays: stays})
	}
	for _, name := range []string{"tui.json", "tui.jsonc"} {
		s.Files = append(s.Files, SettingsFile{Path: name, Keys: terminal, Stays: stay(needsFetched, "plugin")})
	}
	return s
}
