package review

import "testing"

var shellCases = []evalCase{
	{change: created("sub/dir/.envrc", "x\n"), class: Runs, rules: []string{"direnv"}},
	{change: edited("mise.toml", "[tools]\ngo = \"1.23\"\n", "[tools]\ngo = \"1.24\"\n"), class: Builds, rules: []string{"mise"}},
	{change: created("a/.mise.toml", "[env]\n_.source = \"x.sh\"\n"), class: Runs, rules: []string{"mise"}},
	{change: created("mise.local.toml", "[hooks]\nenter = \"x\"\n"), class: Runs, rules: []string{"mise"}},
	{change: created("mise.toml", "[tools]\ngo = \"{{ exec(command='x') }}\"\n"), class: Runs, rules: []string{"mise"}},
	{change: created("mise.toml", "[tools\n"), class: Runs, rules: []string{"mise"}},
	{change: edited("mise.toml", "[tools]\ngo = \"1.24\"\n", "# why\n[tools]\ngo = '1.24'\n")},
	{change: created(".nvmrc", "22\n"), class: Builds, rules: []string{"tool-version"}},
	{change: created(".env", "DEBUG=1\n"), class: Builds, rules: []string{"dotenv"}},
	{change: edited(".env.local", "DEBUG=1\n", "DEBUG=1\nexport node_options=--require ./x.js\n"), class: Runs, rules: []string{"dotenv"}},
	{change: created(".gemini/.env", "CODEX_HOME=x\n"), class: Runs, rules: []string{"dotenv"}},
	{change: created(".env", "AWS_SECRET_ID=AKIAQYLPMN5HHHFPZAM2\n"), class: Suspicious},
	{change: created("flake.nix", "{}\n"), class: Builds, rules: []string{"shell-environment"}},
	{change: edited("flake.nix", "{}\n", "{ }\n"), host: hostTree(map[string]string{".envrc": "use flake"}), class: Runs, rules: []string{"shell-environment"}},

	// What editors do on opening.
	{change: edited(".vscode/settings.json", `{}`, `{"editor.tabSize": 2}`)},
	{change: edited(".vscode/settings.json", `{}`, `{"php.validate.executablePath": "x"}`), class: Runs, rules: []string{"vscode-settings"}},
	{change: edited(".vscode/settings.json", `{}`, `{"chat.tools.autoApprove": true}`), class: Runs, rules: []string{"vscode-settings"}},
	{change: edited("x.code-workspace", `{}`, `{"settings": {"terminal.integrated.env.linux": {"A": "b"}}}`), class: Runs, rules: []string{"vscode-settings"}},
	{change: edited(".vscode/settings.json", `{}`, `{"[go]": {"go.alternateTools": {"go": "x"}}}`), class: Runs, rules: []string{"vscode-settings"}},
	{change: created("pkg/a/.vscode/tasks.json", "// x\n{\"tasks\": [{\"command\": \"x\", \"runOptions\": {\"runOn\": \"folderOpen\"},}]}\n"), class: Runs, rules: []string{"vscode-task"}},
	{
		change: edited(".vscode/tasks.json", `{"tasks": [{"command": "x", "runOptions": {"runOn": "folderOpen"}}]}`, `{"tasks": [{"command": "y", "runOptions": {"runOn": "folderOpen"}}]}`),
		class:  Runs, rules: []string{"vscode-task"},
	},
	{change: created(".vscode/tasks.json", `{"tasks": [{"command": "x"}]}`), class: Builds, rules: []string{"vscode-task"}},
	{change: created(".vscode/launch.json", `{}`), class: Builds, rules: []string{"vscode-launch"}},
	{change: created(".vscode/mcp.json", `{"servers": {"x": {"command": "y"}}}`), class: Runs, rules: []string{"mcp-server"}},
	{change: created(".idea/workspace.xml", "<x PATH_TO_GIT='y'/>"), class: Runs, rules: []string{"jetbrains"}},
	{change: created(".idea/misc.xml", "<x/>"), class: Runs, rules: []string{"jetbrains"}},
	{change: created(".idea/codeStyles/x.xml", "<x/>")},
	{change: created("a.json", "{\"$schema\": \"https://evil.example/x\"}\n"), class: Suspicious, rules: []string{"schema-address"}},
	{change: created("a.json", "{\"$schema\": \"https://json.schemastore.org/x\"}\n")},
	{change: edited("a.c", "x\n", "x\n/* vim: ts=4 sw=4 et: */\n")},
	{change: edited("a.c", "x\n", "x\n# vim: set fde=system('x'):\n"), class: Suspicious, rules: []string{"vim-modeline"}},
	{change: created("README.md", "We use vim: it is an editor, and ex: for lines.\n")},
	{change: created(".exrc", "x\n"), class: Runs, rules: []string{"vim"}},
	{change: created(".dir-locals.el", "((nil . ((eval . (shell-command \"x\")))))\n"), class: Runs, rules: []string{"emacs"}},
	{change: created("a.txt", "x\n# Local Variables:\n# eval: (shell-command \"x\")\n# End:\n"), class: Runs, rules: []string{"emacs-local"}},
	{change: created(".zed/tasks.json", "[]"), class: Runs, rules: []string{"zed"}},
	{change: created("eslint.config.js", "x\n"), class: Builds, rules: []string{"language-server"}},
	{change: created(".editorconfig", "root = true\n")},
	{change: created(".Rprofile", "x\n"), class: Runs, rules: []string{"debugger"}},
	{change: created("a/.gdbinit", "x\n"), class: Runs, rules: []string{"debugger"}},
	{change: created(".irbrc", "x\n"), class: Runs, rules: []string{"debugger"}},
	{change: edited(".devcontainer/devcontainer.json", `{}`, `{"postCreateCommand": "x"}`), class: Builds},
	{change: edited(".devcontainer/devcontainer.json", `{}`, `{"initializeCommand": "x"}`), class: Runs, rules: []string{"devcontainer"}},

	// A home, and what looks like one.
	{change: created(".zshenv", "x\n"), host: Host{Home: true}, class: Runs, rules: []string{"home"}},
	{change: edited("zsh/.zshenv", "a\n", "x\n"), host: hostTree(map[string]string{".stow-local-ignore": "", "zsh/.zshenv": ""}), class: Runs, rules: []string{"home"}},
	{change: edited("testdata/.bashrc", "a\n", "x\n"), host: hostTree(map[string]string{"main.go": ""}), class: Builds, rules: []string{"home"}},
	{change: created("a.desktop", "x\n"), class: Suspicious, rules: []string{"desktop"}},
}

func TestShell(t *testing.T) { evaluate(t, shellCases) }
