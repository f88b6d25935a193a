package codingagent

import (
	"path"

	"github.com/mayfly-vm/mayfly/internal/credential"
	"github.com/mayfly-vm/mayfly/internal/tomlquote"
)

// Agents returns the table, sorted by name.
//
// What it says of hosts is what the programs that the lock file pins were seen to
// contact, one-shot and on a terminal, with a key and without; of log-ins, which were not
// tried with an account, it is what the agents' makers document.
func Agents() []Agent {
	return []Agent{
		{
			Name: "claude", Title: "Claude Code",
			Package: "@anthropic-ai/claude-code-linux-x64@VERSION",
			Files:   []string{"claude", "LICENSE.md", "package.json"},
			Program: "claude",
			Prewarm: "claude --version",
			// The API, and the two ways to log in.
			// A key is in a header of its own, the token of a subscription in the
			// usual one.
			Hosts: append(
				[]Host{api("api.anthropic.com", AnthropicErrors, credential.InHeader("X-Api-Key"), credential.Bearer)},
				append(hosts("claude.ai", "claude.com", "platform.claude.com"),
					// Its release notes, at each start on a terminal.
					Host{Name: "raw.githubusercontent.com", Paths: []string{"/anthropics/claude-code/refs/heads/main/CHANGELOG.md"}})...,
			),
			// The catalogue of models, of which it has a copy, with updates; statistics.
			Needless: []string{"downloads.claude.ai", "http-intake.logs.us5.datadoghq.com"},
			Nix:      []string{"claude-code"},
			// code.claude.com/docs/en/skills
			Skills: Skills{Project: ".claude/skills", User: "skills", Variable: "CLAUDE_CONFIG_DIR", Default: ".claude"},
			Logins: []string{".claude/.credentials.json"},
			// A token of `claude setup-token`, or a key.
			Keys: []Key{
				{Variable: "CLAUDE_CODE_OAUTH_TOKEN", Prefix: "sk-ant-oat", Hosts: []string{"api.anthropic.com"}},
				{Variable: "ANTHROPIC_API_KEY", Hosts: []string{"api.anthropic.com"}},
			},
			KeyVariables: []string{"ANTHROPIC_AUTH_TOKEN"},
			// From the program. It takes the token of a subscription from the same
			// variable as that of `claude setup-token`, and looks for no file then: so
			// it has nothing to renew, and a log-in that is in the machine stays as it
			// is.
			Subscription: &Subscription{
				Variable: "CLAUDE_CODE_OAUTH_TOKEN", Hosts: []string{"api.anthropic.com"},
				// From the program: what makes keys, accounts and invitations, and what takes
				// part in remote sessions, whose secrets stay valid. An agent needs none of it
				// to work in its machine.
				Withheld: []string{
					"create_api_key", "/v1/token", "/v1/organizations", "/vaults", "/tunnels", "pairing", "github/auth",
					"/v1/code/", "/v1/session", "/environments", "/bridge", "/v1/deployments", "/v1/design",
				},
				File: ".credentials.json", Place: "CLAUDE_CONFIG_DIR", Default: ".claude",
				Endpoint: "https://platform.claude.com/v1/oauth/token", Client: "9d1c250a-e61b-44d9-88ed-5944d1962f5e",
				read: readClaude, env: claudeEnv,
			},
			Continue:   []string{"--continue"},
			oneShot:    []string{"-p"},
			unattended: []string{"--dangerously-skip-permissions"},
			otherwise:  []string{"--permission-mode", "--allow-dangerously-skip-permissions"},
			subcommands: []string{
				"agents", "auth", "auto-mode", "doctor", "install", "mcp", "plugin", "plugins", "project", "setup-token",
				"update", "upgrade",
			},
			stores: []store{{variable: "CLAUDE_CONFIG_DIR", own: ".claude", transcripts: []string{"projects"}}},
			// It ends a command after 2 minutes by itself, and after 10 whatever it
			// was asked for.
			emulated: []string{"BASH_DEFAULT_TIMEOUT_MS=600000", "BASH_MAX_TIMEOUT_MS=3600000"},
			// code.claude.com/docs/en/memory: a file of its own.
			settings: claudeSettings(),
			memory:   "rules/mayfly.md",
			measured: "2.1.330",
			contacts: []Contact{
				{Host: "api.anthropic.com"},
				{Host: "downloads.claude.ai", Tries: 2, Terminal: true, Wants: "its catalogue of models, of which it has a copy", Costs: "two questions for a name"},
				{Host: "raw.githubusercontent.com", Terminal: true},
			},
			prepare: func(s *Spec, at Place, stores []string) {
				s.Env = append(s.Env,
					"DISABLE_AUTOUPDATER=1", // the image's is pinned
					// CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC and DISABLE_TELEMETRY
					// would switch more off: the provider's feature flags, and what
					// depends on them.
					"DISABLE_ERROR_REPORTING=1",
					"CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL=1", // a clone of GitHub
				)
				// The variable moves both ~/.claude and ~/.claude.json.
				state := path.Join(stores[0], ".claude.json")
				if value, ok := at.Env["CLAUDE_CONFIG_DIR"]; ok && value == "" {
					state = path.Join(at.Home, ".claude.json")
				}
				s.Files = []File{
					{
						Path: state,
						Must: object{
							"hasCompletedOnboarding":        true,
							"bypassPermissionsModeAccepted": true, // as older versions call it
							"projects":                      object{s.Dir: object{"hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true}},
						}.encode(),
						Default: object{"theme": "dark"}.encode(),
						// It would ask whether to use the key that it finds.
						Tails: []Tail{{Keys: []string{"customApiKeyResponses", "approved"}, Variable: "ANTHROPIC_API_KEY", Length: 20}},
					},
					{
						Path:  path.Join(stores[0], "settings.json"),
						Must:  object{"skipDangerousModePermissionPrompt": true}.encode(),
						Items: claudeHooks(),
					},
				}
			},
		},
		{
			Name: "codex", Title: "Codex",
			Package: "@openai/codex@VERSION-linux-x64",
			Files: []string{
				"package.json",
				"vendor/x86_64-unknown-linux-musl/bin",
				"vendor/x86_64-unknown-linux-musl/codex-package.json",
				"vendor/x86_64-unknown-linux-musl/codex-path",
				"vendor/x86_64-unknown-linux-musl/codex-resources/bwrap",
			},
			Program: "vendor/x86_64-unknown-linux-musl/bin/codex",
			Prewarm: "codex --version",
			// The API with a key, the log-in, the API with a log-in.
			Hosts: []Host{
				api("api.openai.com", OpenAIErrors, credential.Bearer),
				{Name: "auth.openai.com"},
				api("chatgpt.com", OpenAIErrors, credential.Bearer),
				// News, at each start on a terminal.
				{Name: "raw.githubusercontent.com", Paths: []string{"/openai/codex/main/announcement_tip.toml"}},
			},
			Needless: []string{"ab.chatgpt.com"}, // statistics
			Nix:      []string{"codex"},
			// developers.openai.com/codex/skills; $CODEX_HOME/skills is its older place.
			Skills: Skills{Project: ".agents/skills", User: ".agents/skills"},
			Logins: []string{".codex/auth.json"},
			// By way of its auth.json, below.
			Keys:         []Key{{Variable: "OPENAI_API_KEY", Hosts: []string{"api.openai.com"}}},
			KeyVariables: []string{"CODEX_API_KEY"},
			// What was begun by codex exec is no session for it else.
			Continue:   []string{"resume", "--last", "--include-non-interactive"},
			oneShot:    []string{"exec", "--skip-git-repo-check", "-"},
			unattended: []string{"--dangerously-bypass-approvals-and-sandbox"},
			otherwise:  []string{"--yolo", "--full-auto", "-a", "--ask-for-approval", "-s", "--sandbox"},
			subcommands: []string{
				"login", "logout", "mcp", "mcp-server", "app-server", "completion", "sandbox", "debug", "apply", "a",
				"cloud", "features", "help", "review", "plugin", "update", "doctor", "agents", "remote-control", "queue",
				"archive", "unarchive", "delete", "migrate-rollouts", "migrate-nfs-db", "exec-server",
			},
			after: []string{"exec", "e", "resume", "fork"},
			// Else it leaves a server behind, which outlives the session and
			// updates the program.
			interactive: []string{"--no-daemon"},
			headless:    []string{"exec", "e"},
			// It refuses to start where CODEX_HOME is not there. It writes
			// config.toml itself, and asks whether it may trust a directory only
			// where it would ask for permissions too.
			stores:   []store{{variable: "CODEX_HOME", own: ".codex", transcripts: []string{"sessions", "archived_sessions"}}},
			memory:   "AGENTS.md",
			settings: codexSettings(),
			measured: "0.169.0",
			contacts: []Contact{{Host: "api.openai.com"}, {Host: "raw.githubusercontent.com", Terminal: true}},
			prepare: func(s *Spec, _ Place, stores []string) {
				s.Files = []File{{
					Path: path.Join(stores[0], "config.toml"),
					// Plugins are fetched from GitHub at each start. To find models
					// it sends a key for api.openai.com to chatgpt.com, four times a
					// start; a key that stays on the host is refused there.
					Text: "check_for_update_on_startup = false\n" + codexNotify + "\n" + codexTUI + "\n[analytics]\nenabled = false\n\n[features]\nplugins = false\napi_key_model_discovery = false\n\n[projects." + tomlquote.String(s.Dir) + "]\ntrust_level = \"trusted\"\n",
				}, {
					// As `codex login --with-api-key` writes it: a key in
					// a variable it does not take.
					Path:     path.Join(stores[0], "auth.json"),
					Variable: "OPENAI_API_KEY",
					Text:     "{\n  \"auth_mode\": \"apikey\",\n  \"OPENAI_API_KEY\": " + Value + "\n}\n",
				}}
			},
		},
		{
			Name: "copilot", Title: "GitHub Copilot CLI",
			// At its first start in a machine it unpacks 235 MB into ~/.cache, which
			// prewarming could not keep.
			Package: "@github/copilot-linux-x64@VERSION",
			Files:   []string{"LICENSE.md", "copilot", "package.json"},
			Program: "copilot",
			// docs.github.com/copilot/reference/copilot-allowlist-reference, without
			// what is telemetry. It names these paths of GitHub, but for the releases,
			// of which it asks at each start, whatever is said of updates.
			Hosts: []Host{
				api("*.githubcopilot.com", OpenAIErrors, credential.Bearer),
				{Name: "github.com", Paths: []string{"/login/"}},
				{Name: "api.github.com", Paths: []string{"/user", "/copilot_internal/", "/repos/github/copilot-cli/releases"}, Errors: GitHubErrors},
			},
			Nix: []string{"github-copilot-cli"},
			// copilot skill --help
			Skills: Skills{Project: ".github/skills", User: "skills", Variable: "COPILOT_HOME", Default: ".copilot"},
			Logins: []string{".copilot/config.json"},
			// copilot help environment: a token that may make Copilot requests.
			Keys:         []Key{{Variable: "COPILOT_GITHUB_TOKEN", Hosts: []string{"api.github.com", "*.githubcopilot.com"}}},
			KeyVariables: []string{"GH_TOKEN", "GITHUB_TOKEN"},
			Continue:     []string{"--continue"},
			unattended:   []string{"--allow-all"},
			otherwise: []string{
				"--yolo", "--allow-all-tools", "--allow-all-paths", "--allow-all-urls", "--allow-tool", "--allow-url",
				"--assisted-approval",
			},
			subcommands: []string{
				"app", "login", "help", "init", "config", "update", "version", "workflow", "sessions", "memories", "plugin",
				"mcp", "skill", "instruction", "lsp", "sandbox", "completion",
			},
			// It writes config.json itself, with comments in it, and asks
			// whether it may trust a directory also where it may do everything.
			stores:   []store{{variable: "COPILOT_HOME", own: ".copilot", transcripts: []string{"session-state"}}},
			memory:   "copilot-instructions.md",
			settings: copilotSettings(),
			measured: "1.0.102",
			contacts: []Contact{{Host: "api.github.com"}, {Host: "api.githubcopilot.com"}},
			prepare: func(s *Spec, _ Place, stores []string) {
				s.Env = append(s.Env, "COPILOT_AUTO_UPDATE=false")
				s.Files = []File{{
					Path: path.Join(stores[0], "config.json"),
					Text: string(object{"trustedFolders": []string{s.Dir}}.encode()) + "\n",
				}}
			},
		},
		{
			Name: "gemini", Title: "Gemini CLI",
			// JavaScript in one bundle, for Node 20 or newer. Without node-pty, which
			// is a package of its own, the commands that it runs have no terminal.
			Package:  "@google/gemini-cli@VERSION",
			Files:    []string{"LICENSE", "bundle", "package.json"},
			Program:  "bundle/gemini.js",
			Packages: []string{"nodejs"},
			// Its own start is compiling, which no page in memory saves.
			Prewarm: "node --version",
			// From the bundle: the API with a key, the API with a log-in, the log-in
			// and who logged in.
			Hosts: []Host{
				api("generativelanguage.googleapis.com", GoogleErrors,
					credential.InHeader("X-Goog-Api-Key"), credential.InQuery("key"), credential.Bearer),
				api("cloudcode-pa.googleapis.com", GoogleErrors, credential.Bearer),
				{Name: "oauth2.googleapis.com"},
				{Name: "accounts.google.com"},
				{Name: "www.googleapis.com", Paths: []string{"/oauth2/"}},
			},
			Needless: []string{"play.googleapis.com"}, // statistics
			Nix:      []string{"gemini-cli"},
			// geminicli.com/docs/cli/skills
			Skills:       Skills{Project: ".gemini/skills", User: ".gemini/skills", Variable: "GEMINI_CLI_HOME"},
			Logins:       []string{".gemini/oauth_creds.json"},
			Keys:         []Key{{Variable: "GEMINI_API_KEY", Hosts: []string{"generativelanguage.googleapis.com"}}},
			KeyVariables: []string{"GOOGLE_API_KEY"},
			Continue:     []string{"--resume", "latest"},
			unattended:   []string{"--yolo"},
			otherwise:    []string{"-y", "--approval-mode"},
			subcommands:  []string{"mcp", "extensions", "extension", "skills", "skill", "hooks", "hook"},
			// It silently forgets --yolo in a directory that it does not trust.
			stores:   []store{{variable: "GEMINI_CLI_HOME", below: ".gemini", own: ".gemini", sub: ".gemini", transcripts: []string{"tmp"}, programs: []string{"tmp/bin"}}},
			memory:   "GEMINI.md",
			settings: geminiSettings(),
			measured: "0.61.0",
			contacts: []Contact{{Host: "generativelanguage.googleapis.com"}},
			prepare: func(s *Spec, _ Place, stores []string) {
				s.Env = append(s.Env, "GEMINI_CLI_TRUST_WORKSPACE=true")
				dir := stores[0]
				s.Files = []File{
					{
						Path: path.Join(dir, "settings.json"),
						Default: object{
							"general": object{"enableAutoUpdate": false, "disableAutoUpdate": true, "enableAutoUpdateNotification": false},
							"privacy": object{"usageStatisticsEnabled": false},
						}.encode(),
					},
					{
						// It would ask how to log in although it has a key.
						Path:     path.Join(dir, "settings.json"),
						Variable: "GEMINI_API_KEY",
						Default:  object{"security": object{"auth": object{"selectedType": "gemini-api-key"}}}.encode(),
					},
					{
						Path:    path.Join(dir, "trustedFolders.json"),
						Default: object{s.Dir: "TRUST_FOLDER"}.encode(),
					},
				}
			},
		},
		{
			Name: "opencode", Title: "opencode",
			Package: "opencode-linux-x64-baseline@VERSION",
			Files:   []string{"bin/opencode", "package.json"},
			Program: "bin/opencode",
			Prewarm: "opencode --version",
			// Its own models, and the catalogue of all others'. The provider that it
			// is to use has a preset or a rule of its own.
			Hosts: []Host{
				api("opencode.ai", OpenAIErrors, credential.Bearer, credential.InHeader("X-Api-Key"), credential.InHeader("X-Goog-Api-Key")),
				{Name: "models.opencode.ai"},
			},
			Nix: []string{"opencode"},
			// opencode.ai/docs/skills; it also reads those of Claude Code and Codex.
			Skills: Skills{Project: ".opencode/skills", User: "opencode/skills", Variable: "XDG_CONFIG_HOME", Default: ".config"},
			Logins: []string{".local/share/opencode/auth.json"},
			// For its makers' own models. Other providers' keys it takes from their variables.
			Keys:       []Key{{Variable: "OPENCODE_API_KEY", Hosts: []string{"opencode.ai"}}},
			Continue:   []string{"--continue"},
			oneShot:    []string{"run"},
			unattended: []string{"--auto"},
			subcommands: []string{
				"completion", "acp", "mcp", "attach", "debug", "providers", "auth", "agent", "upgrade", "uninstall",
				"serve", "web", "models", "stats", "export", "import", "github", "pr", "session", "plugin", "plug", "db",
			},
			after: []string{"run"},
			// It keeps its log-ins where XDG_DATA_HOME says, and has no variable of
			// its own for that.
			stores: []store{
				{variable: "OPENCODE_CONFIG_DIR", own: ".config/opencode", sub: "config"},
				{
					variable: "XDG_DATA_HOME", below: "opencode", own: ".local/share/opencode", sub: "data/opencode",
					// A database, with what was not merged into it yet; older versions wrote files.
					transcripts: []string{"opencode.db", "opencode.db-wal", "storage"},
				},
			},
			memory:   "AGENTS.md",
			settings: opencodeSettings(),
			measured: "1.18.33",
			contacts: []Contact{
				{Host: "models.opencode.ai"},
				{Host: "opencode.ai"},
				{
					Host: "registry.*", Tries: 2,
					Wants: "of npm, the package with the types of its plugins, in the background",
					Costs: "two questions for a name; the types, where you write a plugin",
				},
			},
			prepare: func(s *Spec, _ Place, _ []string) {
				s.Env = append(s.Env, "OPENCODE_DISABLE_AUTOUPDATE=1")
			},
		},
	}
}
