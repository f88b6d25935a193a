package review

import (
	"bytes"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/review/settings"
)

// editorRules are about what editors do when a folder or a file opens.
var editorRules = []rule{
	{
		id: "vscode-task", class: Runs,
		reason: "this task may run when the folder is opened",
		paths:  []string{".vscode/tasks.json"}, when: vscodeTasks,
	},
	{
		id: "vscode-settings", class: Runs,
		reason: "editor obeys this, or starts the program it names",
		paths:  []string{".vscode/settings.json", "*.code-workspace"},
		when:   judged(settings.JSON, vscodeSetting),
	},
	{
		id: "vscode-launch", class: Builds,
		reason: "runs on debug, or has the editor ask to install",
		paths:  []string{".vscode/launch.json", ".vscode/extensions.json", ".vscode/c_cpp_properties.json", ".vscode/cmake-kits.json"},
	},
	{
		id: "jetbrains", class: Runs,
		reason: "JetBrains runs or trusts this when the project opens",
		paths: []string{
			".idea/workspace.xml", ".idea/startup.xml", ".idea/watchertasks.xml", ".idea/externaldependencies.xml", ".idea/vcs.xml", ".idea/misc.xml", ".idea/gradle.xml",
			".idea/tools/**", ".idea/mcp*", ".idea/aiassistant/**", ".idea/terminal.xml",
		},
	},
	{
		id: "jetbrains-run", class: Builds,
		reason: "JetBrains runs this when you start it",
		paths:  []string{".idea/runconfigurations/**", ".run/**", ".idea/.idea.*/**", ".fleet/**"},
	},
	{
		id: "schema-address", class: Suspicious,
		reason: "editor fetches this address when the file opens",
		paths:  []string{"*.json", "*.jsonc", "*.y*ml", "*.toml", ".*rc"}, when: schemaAddress,
	},
	{
		id: "vim", class: Runs,
		reason: "Vim loads this from the directory",
		paths:  []string{".exrc", ".vimrc", "_vimrc", ".nvimrc", ".nvim.lua", ".lvimrc", ".local.vimrc", ".vim/**", ".nvim/**", ".neoconf.json", ".nlsp-settings/**", ".lazy.lua"},
	},
	{
		id: "vim-modeline", class: Suspicious,
		reason: "a line has Vim do more than set tabs and type",
		when:   modeline,
	},
	{
		id: "vim-swap", class: Suspicious,
		reason: "Vim may recover this or jump where it says",
		paths:  []string{"*.sw[a-p]", "/tags", "*.un~", "session.vim"},
	},
	{
		id: "emacs", class: Runs,
		reason: "Emacs evaluates this when a file opens",
		paths:  []string{".dir-locals.el", ".dir-locals-2.el", ".projectile", ".emacs", ".emacs.d/**", "dir-locals.el"},
	},
	{
		id: "emacs-local", class: Runs,
		reason: "Emacs evaluates these variables when the file opens",
		when:   emacsLocal,
	},
	{
		id: "zed", class: Runs,
		reason: "Zed starts servers and tasks named here",
		paths:  []string{".zed/**"},
	},
	{
		id: "ide-project", class: Builds,
		reason: "build steps of an IDE project",
		paths: []string{
			"*.sublime-project", "*.sublime-build", ".helix/*.toml", ".nova/**", ".project", ".externaltoolbuilders/**", ".vs/**", "*.xcscheme", "project.pbxproj", ".settings/**", ".classpath",
			"*.kdev4", ".kakrc", ".editor/**", "*.launch", "*.pro.user", "nbproject/**", ".lapce/**", ".vimspector.json", ".theia/**",
		},
	},
	{
		id: "language-server", class: Builds,
		reason: "language servers run this while the folder is open",
		paths: []string{
			"eslint.config.*", ".eslintrc*", "prettier.config.*", ".prettierrc*", ".pylintrc", "pylintrc", "mypy.ini", ".mypy.ini", "pyrightconfig.json", ".clangd", "compile_commands.json", "compile_flags.txt", ".formatter.exs",
			".rubocop*.y*ml", ".standard.yml", "phpstan.neon*", "psalm.xml*", "biome.json*", ".stylelintrc*", "stylelint.config.*", "tslint.json", ".luarc.json*", ".solargraph.yml", "hie.yaml", ".ocamllsp", ".oxlintrc.json",
			".ccls", "rust-project.json", "rust-analyzer.toml", ".rust-analyzer.toml", "gopls.mod", ".ycm_extra_conf.py", ".ale*", ".merlin", "deno.json*", "tsserver*", "svelte.config.*",
		},
	},
	{
		id: "language-plugin", class: Builds,
		reason: "the editor's language server loads this plug-in",
		paths:  []string{"tsconfig*.json", "jsconfig*.json"},
		when: judged(settings.JSON, func(_ *subject, c settings.Change) (Finding, bool) {
			return Finding{}, slices.Contains(c.Path, "plugins") || c.Path[0] == "extends"
		}),
	},
	{
		id: "editor-interpreter", class: Runs,
		reason: "the editor starts this program when the folder opens",
		paths: []string{
			".venv/bin/*", "venv/bin/*", "env/bin/*", ".venv/scripts/*", "venv/scripts/*", "pyvenv.cfg",
			"node_modules/eslint/**", "node_modules/typescript/**", "node_modules/prettier/**", "node_modules/.bin/*",
		},
		kinds: []Kind{Regular, Symlink}, when: func(s *subject) []Finding { return is(!s.generated()) },
	},
	{
		id: "debugger", class: Runs,
		reason: "the tool runs this when started in this directory",
		paths: []string{
			".gdbinit", ".gdbearlyinit", ".lldbinit", ".pdbrc", ".pdbrc.py", ".irbrc", ".pryrc", ".iex.exs", ".erlang", ".ghci", ".ocamlinit", ".rprofile", ".renviron",
			".octaverc", ".utoprc", ".sbtrc", ".jshellrc", ".psqlrc", ".sqliterc", ".ammonite/**", ".julia/config/**", ".pythonrc*", ".node_repl*", ".rdebugrc", ".byebugrc", ".screenrc", ".lnav/**",
		},
	},
	{
		id: "devcontainer", class: Runs,
		reason: "runs on the host, not in the container",
		paths:  []string{"devcontainer.json", ".devcontainer.json", ".devcontainer/*.json"},
		when: judged(settings.JSON, func(_ *subject, c settings.Change) (Finding, bool) {
			return Finding{}, slices.Contains([]string{"initializeCommand", "mounts", "runArgs", "workspaceMount", "privileged", "capAdd", "securityOpt"}, c.Path[0])
		}),
	},
}

// runsProgram are the last words of settings that name a program, or what it gets.
var runsProgram = []string{"path", "paths", "executable", "command", "commands", "args", "env", "interpreter", "server", "tsdk", "nodepath", "runtime", "arguments", "options",
	"shell", "cmd", "program", "bin", "binary", "flags", "envfile", "tool", "tools", "exec", "script", "home", "jvm", "vmargs", "plugins", "lib", "library", "location", "url", "proxy", "host", "cwd", "config", "linter", "formatter"}

// looks are settings that only change how an editor looks and lays out text.
var looks = []string{"editor.", "workbench.", "files.", "search.", "window.", "explorer.", "breadcrumbs.", "diffEditor.", "zenMode.", "cSpell.", "peacock.", "markdownlint.", "todo-tree.", "emmet.", "outline.", "problems.", "timeline."}

func vscodeSetting(_ *subject, c settings.Change) (Finding, bool) {
	path := c.Path
	if path[0] == "settings" && len(path) > 1 { // of a workspace's file
		path = path[1:]
	}
	// Settings for one language are in a table of their own: "[go]".
	if strings.HasPrefix(path[0], "[") && len(path) > 1 {
		path = path[1:]
	}
	if path[0] == "folders" || path[0] == "extensions" {
		return Finding{Class: Builds, Reason: "opens another folder, or has the editor ask to install"}, true
	}
	if path[0] == "tasks" || path[0] == "launch" || path[0] == "mcp" {
		return Finding{}, true
	}
	key := strings.Join(path, ".")
	low := strings.ToLower(key)
	for _, begins := range []string{"terminal.integrated.", "git.", "task.", "security.", "mcp", "chat.", "github.copilot", "http.", "extensions.", "remote.", "debug.", "npm.", "telemetry.", "update.", "settingssync", "application", "claude", "codex", "cursor"} {
		if strings.HasPrefix(low, begins) {
			return Finding{}, true
		}
	}
	if strings.Contains(low, "pprove") || strings.Contains(low, "trust") || strings.Contains(low, "allow") {
		return Finding{}, true
	}
	name := path[0]
	words := strings.Split(name, ".")
	last := strings.ToLower(words[len(words)-1])
	ends := func(w string) bool { return strings.HasSuffix(last, w) }
	if slices.ContainsFunc(looks, func(l string) bool { return strings.HasPrefix(name, l) }) && !slices.ContainsFunc([]string{"path", "executable", "command", "args", "env"}, ends) {
		return Finding{}, false
	}
	if slices.ContainsFunc(runsProgram, ends) {
		return Finding{}, true
	}
	for _, p := range path[1:] {
		if slices.Contains(runsProgram, strings.ToLower(p)) {
			return Finding{}, true
		}
	}
	return Finding{}, false
}

// vscodeTasks is about tasks that run by themselves when the file has one after the
// change: an edit of the command of such a task need not touch what makes it run.
func vscodeTasks(s *subject) []Finding {
	changes, err := s.changed(settings.JSON)
	if err != nil {
		return []Finding{{Detail: "its settings cannot be read: " + bounded(err.Error())}}
	}
	if len(changes) == 0 {
		return nil
	}
	data, err := s.new()
	if err != nil {
		return []Finding{{}}
	}
	file, err := settings.Parse(settings.JSON, data)
	if err != nil {
		return []Finding{{}}
	}
	for _, e := range file.Entries() {
		if strings.EqualFold(e.Path[len(e.Path)-1], "runOn") && !strings.EqualFold(e.Value, "default") {
			return []Finding{{Key: bounded(e.Key()), Line: e.Line, Detail: bounded(e.Value)}}
		}
	}
	return []Finding{{Class: Builds, Reason: "runs when you start this task"}}
}

var (
	schemaLine = expression(`(?i)(?:"\$schema"\s*:\s*"|yaml-language-server\s*:\s*\$schema\s*=\s*|^\s*#:schema\s+|"\$schema"\s*=\s*")(https?://)([^/"\s]+)`)
	// schemaHosts are those that projects' own templates and tools write.
	schemaHosts = []string{"json.schemastore.org", "www.schemastore.org", "json-schema.org", "raw.githubusercontent.com", "unpkg.com", "turbo.build", "turborepo.com", "biomejs.dev", "ui.shadcn.com", "opencode.ai",
		"cdn.jsdelivr.net", "docs.renovatebot.com", "schemas.microsoft.com", "typedoc.org", "www.jsdelivr.com", "json.schemastore.com", "schema.management.azure.com", "goreleaser.com", "golangci-lint.run", "aka.ms", "biomejs.dev", "charm.land"}
)

func schemaAddress(s *subject) []Finding {
	low := s.addedLines()
	if !bytes.Contains(low, []byte("schema")) {
		return nil
	}
	for line := range bytes.Lines(low) {
		m := schemaLine().FindSubmatch(line)
		if m == nil {
			continue
		}
		host := string(m[2])
		old, err := s.old()
		if slices.Contains(schemaHosts, host) || err == nil && bytes.Contains(bytes.ToLower(old), []byte(host)) || strings.HasPrefix(host, "localhost") {
			continue
		}
		return []Finding{{Detail: bounded(host)}}
	}
	return nil
}

var modelineSet = expression(`(?:^|\s)(?:vim?|ex)(?:[<=>]?\d+)?:\s*(?:set?\s+)?(.*)$`)

// plainOptions of a modeline only lay out text.
var plainOptions = strings.Fields(`ts sw sts et noet tw ft fdm tabstop shiftwidth softtabstop expandtab noexpandtab textwidth filetype foldmethod
	fdl foldlevel fileencoding fenc enc encoding ai noai autoindent nowrap wrap syntax syn ro nomodifiable ff fileformat cc colorcolumn spell nospell spelllang fo formatoptions cms sr list nolist
	fmr foldmarker foldenable nofoldenable fen nofen si smartindent cin cindent cino lbr linebreak ambw ss sta smarttab lisp norl comments com isk`)

func modeline(s *subject) []Finding {
	low := s.addedLines()
	if !bytes.Contains(low, []byte("vi:")) && !bytes.Contains(low, []byte("vim")) && !bytes.Contains(low, []byte("ex:")) {
		return nil
	}
	for line := range bytes.Lines(low) {
		if len(line) > 2000 {
			continue
		}
		m := modelineSet().FindSubmatch(bytes.TrimSpace(line))
		if m == nil {
			continue
		}
		options := strings.FieldsFunc(string(m[1]), func(r rune) bool { return r == ' ' || r == ':' || r == '\t' })
		for _, o := range options {
			name, value, assigned := strings.Cut(o, "=")
			if strings.Trim(name, "*/->#;") == "" {
				break
			}
			name = strings.TrimRight(name, "+-^")
			letters := name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz") == ""
			if !letters || slices.Contains(plainOptions, name) && !strings.ContainsAny(value, "(!`") {
				continue
			}
			if assigned {
				return []Finding{{Detail: bounded(o)}}
			}
		}
	}
	return nil
}

func emacsLocal(s *subject) []Finding {
	low := s.addedLines()
	prop := bytes.Contains(low, []byte("-*-")) && bytes.Contains(low, []byte("eval:"))
	if !prop && !bytes.Contains(low, []byte("local variables:")) {
		// One more line of variables that the file has already.
		if !bytes.Contains(low, []byte("eval:")) {
			return nil
		}
		whole, err := s.new()
		if err != nil || !bytes.Contains(bytes.ToLower(whole), []byte("local variables:")) {
			return nil
		}
	}
	return is(bytes.Contains(low, []byte("eval:")) || bytes.Contains(low, []byte("(eval")))
}
