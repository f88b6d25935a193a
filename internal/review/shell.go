package review

import (
	"strings"

	"github.com/mayfly-vm/mayfly/internal/review/settings"
)

// shellRules are about what shells do on cd and at their prompt.
var shellRules = []rule{
	{
		id: "direnv", class: Runs,
		reason: "direnv runs this when you enter the directory",
		paths:  []string{".envrc", ".envrc.*", ".direnv/**", ".direnvrc"},
	},
	{
		id: "mise", class: Runs,
		reason: "mise applies this on cd; its trust goes by path",
		paths: []string{
			"mise.toml", ".mise.toml", "mise.*.toml", ".mise.*.toml", ".mise/*.toml", "mise/*.toml", ".config/mise.toml", ".config/mise.*.toml", ".config/mise/**/*.toml",
			".config/mise/*.toml", ".config/mise/conf.d/*.toml", ".rtx.toml",
		},
		when: judged(settings.TOML, miseSetting),
	},
	{
		id: "mise-task", class: Builds,
		reason: "mise runs this as a task",
		paths:  []string{".mise-tasks/**", "mise-tasks/**", ".mise/tasks/**", ".config/mise/tasks/**", "mise/tasks/**"},
	},
	{
		id: "tool-version", class: Builds,
		reason: "selects which tool is downloaded and run",
		paths: []string{
			".tool-versions", ".nvmrc", ".node-version", ".python-version", ".python-versions", ".ruby-version", ".java-version", ".go-version", ".terraform-version", ".php-version", ".sdkmanrc", ".rust-toolchain*",
			"rust-toolchain", "rust-toolchain.toml", ".xcode-version", ".swift-version", ".deno-version", ".bun-version", ".jvmrc", "mise.lock", ".mise.lock", ".prototools",
		},
	},
	{
		id: "dotenv", class: Runs,
		reason: "tools load this variable from here and obey it",
		paths:  []string{".env", ".env.*", ".flaskenv", ".gemini/.env"},
		when:   judged(settings.Env, obeyedVariable),
	},
	{
		id: "shell-environment", class: Builds,
		reason: "environment that your shell enters, perhaps on cd",
		paths: []string{
			"devbox.json", "devenv.nix", "devenv.y*ml", "devenv.lock", "devenv.local.*", "flake.nix", "flake.lock", "shell.nix", "default.nix", ".shadowenv.d/**", "pixi.toml", ".pixi/**",
			".rvmrc", ".autoenv*", ".autoenv/**", ".in", ".out", ".venv", ".envshell", ".lorri/**", "garnix.y*ml", "environment.y*ml",
		},
		when: usedByEnvrc,
	},
	{
		id: "shell-hook", class: Runs,
		reason: "a shell hook runs this when you enter the directory",
		paths:  []string{".shadowenv.d/**", ".rvmrc", ".autoenv*", ".autoenv/**", ".env.leave", ".kgt", ".zsh-autoenv*", ".autoswitch*"},
	},
}

// miseSetting judges a key of mise's settings: tools and tasks in their plain form are
// asked about as builds, the rest takes effect on cd.
func miseSetting(_ *subject, c settings.Change) (Finding, bool) {
	plain := Finding{Class: Builds, Reason: "selects which tool is downloaded, or what a task runs"}
	switch {
	case strings.Contains(c.New, "{{") || strings.Contains(c.New, "{%"):
		return Finding{}, true
	case c.Path[0] == "tools" && (len(c.Path) == 2 || c.Path[len(c.Path)-1] == "version" || len(c.Path) == 3 && c.Path[2] == settings.Element):
		// A name with a colon is of another source: cargo:, ubi:, a plugin's.
		return plain, true
	case c.Path[0] == "tasks":
		return plain, true
	case c.Path[0] == "min_version":
		return plain, true
	}
	return Finding{}, true
}

// obeyedVariables are variables that programs run code, load libraries or go elsewhere by.
var obeyedVariables = strings.Fields(`PATH BASH_ENV ENV ZDOTDIR PROMPT_COMMAND PS1 PS4 SHELL IFS EDITOR VISUAL PAGER BROWSER MANPAGER LESSOPEN LESSCLOSE
	NODE_OPTIONS NODE_PATH NODE_TLS_REJECT_UNAUTHORIZED NODE_EXTRA_CA_CERTS CODEX_HOME GOFLAGS GOPROXY GONOSUMDB GONOSUMCHECK GOPRIVATE GOSUMDB GOTOOLCHAIN
	GOENV GOBIN CC CXX LD CFLAGS LDFLAGS MAKEFLAGS RUSTC RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER RUSTFLAGS RUSTDOC CARGO_HOME MAVEN_OPTS MAVEN_ARGS
	JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS JAVA_OPTS GRADLE_OPTS GRADLE_USER_HOME SBT_OPTS RUBYOPT RUBYLIB GEM_HOME GEM_PATH BUNDLE_GEMFILE
	PERL5OPT PERL5LIB PERL5DB PHPRC PHP_INI_SCAN_DIR LUA_INIT R_PROFILE R_ENVIRON JULIA_LOAD_PATH ERL_FLAGS ELIXIR_ERL_OPTIONS
	DOCKER_HOST DOCKER_CONFIG KUBECONFIG SSH_AUTH_SOCK SSH_ASKPASS SUDO_ASKPASS SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE REQUESTS_CA_BUNDLE CURL_HOME WGETRC
	HOME XDG_CONFIG_HOME XDG_DATA_HOME TMPDIR LANGUAGE_SERVER ALL_PROXY NO_PROXY OPENSSL_CONF OPENSSL_MODULES GCONV_PATH MALLOC_CONF TERMINFO
	COMPOSE_FILE COMPOSER_HOME PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE UV_INDEX_URL UV_DEFAULT_INDEX UV_INDEX OPENCODE_CONFIG ELECTRON_RUN_AS_NODE
	DOTNET_STARTUP_HOOKS CORECLR_PROFILER CORECLR_PROFILER_PATH COR_PROFILER ANTHROPIC_BASE_URL FLASK_APP DJANGO_SETTINGS_MODULE`)

func obeyedVariable(_ *subject, c settings.Change) (Finding, bool) {
	name := strings.ToUpper(c.Path[0])
	for _, begins := range []string{"LD_", "DYLD_", "PYTHON", "GIT_", "CLAUDE_", "NPM_CONFIG_", "CARGO_", "BASH_FUNC_", "MISE_", "DIRENV_", "CODEX_", "GEMINI_", "OTEL_", "_JAVA", "ZSH_"} {
		if strings.HasPrefix(name, begins) {
			return Finding{}, true
		}
	}
	for _, ends := range []string{"_PROXY", "_BASE_URL", "_PRELOAD", "_WRAPPER"} {
		if strings.HasSuffix(name, ends) {
			return Finding{}, true
		}
	}
	for _, n := range obeyedVariables {
		if n == name {
			return Finding{}, true
		}
	}
	return Finding{Class: Builds, Reason: "your program and its tools read this variable"}, true
}

// usedByEnvrc is graver where the host has an .envrc beside the file.
func usedByEnvrc(s *subject) []Finding {
	dir := "."
	if len(s.names) > 1 {
		dir = prefix(s.change.Path, len(s.names)-1)
	}
	if s.set.before(dir, ".envrc") || s.set.before(".", ".envrc") {
		return []Finding{{Class: Runs, Reason: "your .envrc enters this environment on cd"}}
	}
	return []Finding{{}}
}
