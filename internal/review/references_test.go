package review

import "testing"

var callerHost = hostTree(map[string]string{
	".git/hooks/pre-commit":        "#!/bin/sh\nexec ./scripts/check.sh \"$@\"\n",
	".git/hooks/pre-push.sample":   "./scripts/sample.sh\n",
	".claude/settings.json":        `{"hooks": {"Stop": [{"hooks": [{"command": "\"$CLAUDE_PROJECT_DIR\"/tools/stop.py"}]}]}, "permissions": {"allow": ["Edit(src/a.go)"]}}`,
	".mcp.json":                    `{"mcpServers": {"x": {"command": "node", "args": ["mcp/server.js"]}}}`,
	".vscode/tasks.json":           `{"tasks": [{"command": "${workspaceFolder}/tools/open.sh", "runOptions": {"runOn": "folderOpen"}}]}`,
	".pre-commit-config.yaml":      "repos:\n- repo: local\n  hooks:\n  - entry: lint/hook\n",
	".envrc":                       "source_env env/dev\n",
	"package.json":                 `{"main": "src/main.js", "scripts": {"build": "node build/run.js && gen"}}`,
	"Makefile":                     "all: src/b.c\n\tpython3 gen/make.py\n",
	".github/workflows/ci.yml":     "- run: ./ci/test.sh\n",
	"gen":                          "",
	"tools/githooks/pre-rebase.sh": "",
})

var referenceCases = []evalCase{
	{change: edited("scripts/check.sh", "a\n", "b\n"), host: callerHost, class: Runs, rules: []string{"referenced"}},
	{change: edited("Scripts/Check.sh", "a\n", "b\n"), host: callerHost, class: Runs, rules: []string{"referenced"}},
	{change: edited("tools/stop.py", "a\n", "b\n"), host: callerHost, class: Runs, rules: []string{"referenced"}},
	{change: edited("mcp/server.js", "a\n", "b\n"), host: callerHost, class: Runs, rules: []string{"referenced"}},
	{change: edited("tools/open.sh", "a\n", "b\n"), host: callerHost, class: Runs, rules: []string{"referenced"}},
	{change: edited("lint/hook", "a\n", "b\n"), host: callerHost, class: Runs, rules: []string{"referenced"}},
	{change: edited("env/dev", "a\n", "b\n"), host: callerHost, class: Runs, rules: []string{"referenced"}},
	{change: edited("build/run.js", "a\n", "b\n"), host: callerHost, class: Builds, rules: []string{"referenced"}},
	{change: edited("gen", "a\n", "b\n"), host: callerHost, class: Builds, rules: []string{"referenced"}},
	{change: edited("gen/make.py", "a\n", "b\n"), host: callerHost, class: Builds, rules: []string{"referenced"}},
	{change: edited("ci/test.sh", "a\n", "b\n"), host: callerHost, class: Builds, rules: []string{"referenced"}},
	{change: edited("src/a.go", "a\n", "b\n"), host: callerHost},
	{change: edited("src/main.js", "a\n", "b\n"), host: callerHost},
	{change: edited("src/b.c", "a\n", "b\n"), host: callerHost},
	{change: edited("other/check.go", "a\n", "b\n"), host: callerHost},
}

func TestReferences(t *testing.T) { evaluate(t, referenceCases) }
