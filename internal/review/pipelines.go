package review

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/review/settings"
)

// workflows are files of the format that GitHub and its relatives run.
var workflows = []string{".github/workflows/**", ".forgejo/workflows/**", ".gitea/workflows/**", ".github/actions/**", "action.yml", "action.yaml"}

// pipelineRules are about what runs on push, and what decides what is published.
var pipelineRules = []rule{
	{
		id: "pipeline", class: Builds, reason: "CI runs this with your project's secrets on push",
		paths: slices.Concat(workflows, []string{
			".forgejo/**", ".gitea/**", ".gitlab-ci.yml", ".gitlab-ci.yaml", ".gitlab/**", "jenkinsfile*", "*.jenkinsfile", ".circleci/**", "azure-pipelines*",
			".azure-pipelines/**", ".azuredevops/**", "bitbucket-pipelines.yml", ".buildkite/**", ".drone.*", ".woodpecker*", ".woodpecker/**", ".tekton/**", ".travis.yml", ".cirrus.yml",
			".cirrus.star", "appveyor.yml", ".appveyor.yml", "cloudbuild.*", "buildspec*", ".teamcity/**", ".semaphore/**", "earthfile", "dagger.json", "codemagic.yaml", ".builds/**", ".build.yml",
		}),
	},
	{
		id: "pipeline-include", class: Builds, reason: "CI runs this with your project's secrets on push",
		paths: []string{"*.yml", "*.yaml"}, when: includedByPipeline,
	},
	{
		id: "pipeline-secrets", class: Suspicious, reason: "CI step of a shape used to steal secrets",
		paths: workflows, when: stealsSecrets,
	},
	{
		id: "publishing", class: Builds, reason: "decides what is deployed or published, and how",
		paths: []string{
			"netlify.toml", "vercel.json", "fly.toml", "render.yaml", "procfile", "app.yaml", "serverless.*", "wrangler.*", ".goreleaser*", "goreleaser.y*ml", ".releaserc*", "release.config.*",
			".pypirc", "manifest.in", ".npmignore", ".release-it*", "release-please-config.json", ".ko.yaml", "firebase.json", "amplify.yml", "railway.*", "heroku.yml", "jreleaser.*",
		},
	},
	{
		id: "ignore-deleted", class: Builds, reason: "more files are packed or published from now on", deleted: true,
		paths: []string{".npmignore", ".dockerignore", ".containerignore", ".gcloudignore", ".vercelignore"}, when: func(s *subject) []Finding { return is(s.change.New.Kind == None) },
	},
	{
		id: "weaker-check", class: Suspicious, reason: "a safety check gets weaker", deleted: true,
		paths: []string{
			"codeowners", "dependabot.y*ml", "renovate.json*", ".renovaterc*", ".gitleaks*", ".semgrepignore", ".trivyignore*", ".snyk", ".secrets.baseline", ".trufflehog*",
			"settings.yml", ".bandit", ".pre-commit-config.yaml", ".checkov*",
		},
		when: weakensCheck,
	},
	{
		id: "skipped-check", class: Suspicious, reason: "a safety check gets weaker", kinds: []Kind{Regular},
		when: func(s *subject) []Finding {
			if genreOf(s.folded) == prose || s.fixture() || !bytes.Contains(s.addedLines(), []byte("--no-verify")) {
				return nil
			}
			return noVerify(s)
		},
	},
}

var noVerify = addsLine(`^.*\b(?:commit|push|merge|rebase|am|pull)\b.*--no-verify\b.*$`)

// includedByPipeline is about files that the host's own pipeline includes.
func includedByPipeline(s *subject) []Finding {
	read := s.set.in.Host.Read
	if read == nil || strings.HasPrefix(s.folded, ".") {
		return nil
	}
	main, err := read(".gitlab-ci.yml", 1<<20)
	if err != nil {
		return nil
	}
	for line := range bytes.Lines(main) {
		if bytes.Contains(line, []byte("local")) && bytes.Contains(line, []byte(s.change.Path)) ||
			bytes.HasPrefix(bytes.TrimSpace(line), []byte("include:")) && bytes.Contains(line, []byte(s.change.Path)) {
			return []Finding{{}}
		}
	}
	return nil
}

var (
	secretName = expression(`\bsecrets\s*(?:\.\s*([A-Za-z_][A-Za-z0-9_-]*)|\[\s*['"]?([A-Za-z_][A-Za-z0-9_-]*))`)
	allSecrets = expression(`(?i)tojson\(\s*secrets\s*\)`)
	eventValue = expression(`\$\{\{[^}]*(?:github\.event\.|github\.head_ref|github\[)`)
	actionName = expression(`(?m)^\s*(?:-\s+)?["']?uses["']?\s*:\s*["']?([^\s"'#]+)`)
)

func stealsSecrets(s *subject) []Finding {
	ext := path.Ext(s.folded)
	if ext != ".yml" && ext != ".yaml" {
		return nil
	}
	changes, err := s.changed(settings.YAML)
	if err != nil {
		return []Finding{{Detail: "its settings cannot be read: " + bounded(err.Error())}}
	}
	old, _ := s.old()
	known := map[string]bool{"GITHUB_TOKEN": true}
	for _, m := range secretName().FindAllSubmatch(old, -1) {
		known[string(m[1])+string(m[2])] = true
	}
	var owners map[string]bool
	var found []Finding
	for _, c := range changes {
		if c.Op == settings.Removed || c.Op == settings.Moved || len(c.Path) == 0 || len(found) >= mostFindings {
			continue
		}
		what := ""
		last := c.Path[len(c.Path)-1]
		names := secretName().FindAllStringSubmatch(c.New, -1)
		switch {
		case slices.Contains(c.Path, "pull_request_target") || c.New == "pull_request_target":
			what = "pull_request_target runs with secrets on changes of strangers"
		case slices.Contains(c.Path, "workflow_run") || c.New == "workflow_run":
			what = "workflow_run runs with secrets after changes of strangers"
		case strings.Contains(c.New, "self-hosted") && (last == "runs-on" || slices.Contains(c.Path, "runs-on") || last == settings.Element || last == "labels"):
			what = "runs on a machine of your own"
		case last == "permissions" && c.New == "write-all":
			what = "the job may write everything"
		case last == "secrets" && c.New == "inherit", allSecrets().MatchString(c.New):
			what = "hands on all secrets"
		case (last == "run" || last == "script") && eventValue().MatchString(c.New):
			what = "runs a text that strangers write"
		case slices.ContainsFunc(names, func(m []string) bool { return !known[m[1]+m[2]] }):
			what = "uses a secret that this file did not use"
		case last == "uses":
			if owners == nil {
				owners = s.set.actionOwners(old)
			}
			if owner := actionOwner(c.New); owner != "" && !owners[owner] {
				what = "an action of " + owner + ", which this project did not use"
			}
		}
		if what != "" {
			found = append(found, Finding{Key: bounded(c.Key()), Line: c.Line, Detail: bounded(what)})
		}
	}
	return found
}

// actionOwner returns whose an action is, "" of one in the workspace.
func actionOwner(uses string) string {
	if strings.HasPrefix(uses, "./") && !strings.Contains(uses, "..") {
		return ""
	}
	owner, _, _ := strings.Cut(strings.ToLower(uses), "/")
	if owner == "docker:" {
		return strings.ToLower(uses)
	}
	return owner
}

// actionOwners returns whose actions the host's workflows use, and the file before.
func (t *set) actionOwners(old []byte) map[string]bool {
	owners := map[string]bool{"actions": true, "github": true}
	add := func(data []byte) {
		for _, m := range actionName().FindAllSubmatch(data, -1) {
			owners[actionOwner(string(m[1]))] = true
		}
	}
	add(old)
	if h := t.in.Host; h.Names != nil && h.Read != nil {
		for _, dir := range []string{".github/workflows", ".forgejo/workflows", ".gitea/workflows"} {
			names := h.Names(dir)
			for _, name := range names[:min(len(names), 100)] {
				if data, err := h.Read(dir+"/"+name, 256<<10); err == nil {
					add(data)
				}
			}
		}
	}
	return owners
}

// weakensCheck is about files that guard a project: what is new guards more.
func weakensCheck(s *subject) []Finding {
	if s.change.Old.Kind == None {
		return nil
	}
	if s.change.New.Kind == None {
		return is(!strings.HasPrefix(path.Base(s.folded), "settings.") || strings.HasPrefix(s.folded, ".github/"))
	}
	switch base := path.Base(s.folded); {
	case base == "settings.yml":
		return is(s.folded == ".github/settings.yml")
	case base == "codeowners":
		return is(s.contentChanged())
	case base == ".pre-commit-config.yaml":
		return removesKeys(s, settings.YAML, "id")
	case strings.HasPrefix(base, "dependabot."):
		return weakerUpdates(s, settings.YAML)
	case strings.HasPrefix(base, "renovate.json"), base == ".renovaterc", base == ".renovaterc.json":
		return weakerUpdates(s, settings.JSON)
	}
	// What is in files of exceptions is no longer looked at.
	return is(len(bytes.TrimSpace(s.addedLines())) > 0)
}

func weakerUpdates(s *subject, f settings.Format) []Finding {
	changes, err := s.changed(f)
	if err != nil {
		return []Finding{{}}
	}
	var found []Finding
	for _, c := range changes {
		key := strings.ToLower(c.Key())
		if c.Op == settings.Removed && !strings.Contains(key, "ignore") || c.Op != settings.Removed && (strings.Contains(key, "ignore") || strings.HasSuffix(key, "enabled") && c.New == "false" ||
			strings.HasSuffix(key, "open-pull-requests-limit") && c.New == "0") {
			found = append(found, Finding{Key: bounded(c.Key()), Line: c.Line})
		}
	}
	return found[:min(len(found), mostFindings)]
}

// removesKeys finds values of a key that are gone.
func removesKeys(s *subject, f settings.Format, key string) []Finding {
	changes, err := s.changed(f)
	if err != nil {
		return []Finding{{}}
	}
	for _, c := range changes {
		if c.Op == settings.Removed && len(c.Path) > 0 && c.Path[len(c.Path)-1] == key {
			return []Finding{{Detail: bounded(c.Old)}}
		}
	}
	return nil
}
