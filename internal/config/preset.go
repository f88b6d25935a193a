package config

// Preset is a set of hosts under one name.
type Preset struct {
	Name string
	For  string // what it is for, in a few words
	// Rules name the hosts of a service. They are empty for a preset of
	// packages: those come from where this host gets its own (host.Mirror).
	Rules []Rule
}

// Packages reports whether the preset stands for a registry of packages.
func (p Preset) Packages() bool { return len(p.Rules) == 0 }

// Presets returns all presets, sorted by name. The hosts of the agents are those that
// their makers name or their programs know; none was tried with an account.
func Presets() []Preset {
	return []Preset{
		{Name: "apt", For: "Debian packages"},
		// The API, and the two ways to log in. Updates are left out: the image's
		// agent is pinned.
		{"claude", "Claude Code", hosts("api.anthropic.com", "claude.ai", "claude.com", "platform.claude.com")},
		// The API with a key, the login, the API with a login.
		{"codex", "Codex", hosts("api.openai.com", "auth.openai.com", "chatgpt.com")},
		// docs.github.com/copilot/reference/copilot-allowlist-reference, without
		// what is telemetry. It names these paths of GitHub, and no more.
		{"copilot", "GitHub Copilot", append(
			hosts("*.githubcopilot.com"),
			Rule{Host: "github.com", Port: 443, Paths: []string{"/login/"}},
			Rule{Host: "api.github.com", Port: 443, Paths: []string{"/user", "/copilot_internal/"}},
		)},
		{Name: "crates", For: "Rust crates"},
		// The API with a key, the API with a login, the login.
		{"gemini", "Gemini CLI", hosts("generativelanguage.googleapis.com", "cloudcode-pa.googleapis.com", "oauth2.googleapis.com", "accounts.google.com")},
		// The web and git over HTTPS, the API, archives, and raw files with
		// releases. No SSH.
		{"github", "GitHub", hosts("github.com", "api.github.com", "codeload.github.com", "*.githubusercontent.com")},
		{Name: "go", For: "Go modules"},
		{Name: "npm", For: "npm packages"},
		// Its own models, and the catalogue of all others'.
		// The provider that it is to use has a preset or rule of its own.
		{"opencode", "opencode", hosts("opencode.ai", "models.dev")},
		{Name: "pypi", For: "Python packages"},
	}
}

// hosts returns a rule for HTTPS to each host.
func hosts(names ...string) []Rule {
	rules := make([]Rule, len(names))
	for i, name := range names {
		rules[i] = Rule{Host: name, Port: 443}
	}
	return rules
}

func presetNames() []string {
	var names []string
	for _, p := range Presets() {
		names = append(names, p.Name)
	}
	return names
}
