package review

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/review/settings"
)

// Reasons that several rules of manifests give.
const (
	takesVersions = "next install takes these versions"
	otherServer   = "packages come from another server"
	otherSource   = "package comes from elsewhere than a registry"
	leadsOut      = "takes code from outside of the workspace"
)

// manifestRules are about files that say what a project depends on, and what runs for it.
var manifestRules = []rule{
	{id: "package-script", class: Suspicious, reason: "npm install may run this", paths: []string{"package.json"}, when: judged(settings.JSON, packageSetting)},
	{id: "npm-settings", class: Suspicious, reason: "installs run this even with scripts off", paths: []string{".npmrc"}, deleted: true, when: npmSettings},
	{id: "yarn-settings", class: Suspicious, reason: "yarn runs or obeys this on install", paths: []string{".yarnrc.yml", ".yarnrc.yaml"}, when: judged(settings.YAML, yarnSetting)},
	{id: "yarn-program", class: Suspicious, reason: "yarn runs this program on install", paths: []string{".yarn/releases/**", ".yarn/plugins/**"}},
	{
		id: "install-settings", class: Builds, reason: "installs run or obey this",
		paths: []string{".yarnrc", ".pnpmfile.cjs", ".pnpmfile.mjs", "pnpmfile.js", "pnpm-workspace.yaml", ".pnp.cjs", ".pnp.loader.mjs", "bunfig.toml", "deno.json", "deno.jsonc", "jsr.json", "binding.gyp", ".yarn/sdks/**"},
	},
	{id: "python-project", class: Suspicious, reason: "Python's tools obey this on install or test", paths: []string{"pyproject.toml"}, when: judged(settings.TOML, pythonSetting)},
	{id: "requirements", class: Builds, reason: takesVersions, paths: []string{"*requirements*.txt", "*requirements*.in", "requirements/*.txt", "constraints*.txt", "pipfile"}},
	{
		id: "requirements-source", class: Suspicious, reason: otherServer, paths: []string{"*requirements*.txt", "*requirements*.in", "requirements/*.txt", "constraints*.txt"},
		when: addsLine(`^\s*(?:-i\b|-f\b|--index-url|--extra-index-url|--find-links|--trusted-host|--no-index).*$`),
	},
	{
		id: "requirements-url", class: Builds, reason: otherSource, paths: []string{"*requirements*.txt", "*requirements*.in", "requirements/*.txt", "constraints*.txt"},
		when: addsLine(`^.*(?:git\+|hg\+|svn\+|bzr\+|https?://|file:).*$`),
	},
	{id: "cargo-manifest", class: Suspicious, reason: "cargo takes or runs this", paths: []string{"cargo.toml"}, when: judged(settings.TOML, cargoManifest)},
	{id: "go-manifest", class: Builds, reason: takesVersions, paths: []string{"go.mod", "go.work"}, when: goManifest},
	{id: "composer-manifest", class: Suspicious, reason: "composer takes or runs this", paths: []string{"composer.json"}, when: judged(settings.JSON, composerSetting)},
	{
		id: "registry", class: Suspicious, reason: otherServer, deleted: true,
		paths: []string{"pip.conf", "pip.ini", "uv.toml", ".condarc", "nuget.config", "settings.xml", ".mvn/settings.xml", "poetry.toml", ".pip/*"},
		when: func(s *subject) []Finding {
			switch path.Base(s.folded) {
			case "settings.xml":
				return is(containsAny(s.addedLines(), "<mirror", "<server", "<repository", "<pluginrepository"))
			case "poetry.toml", "uv.toml":
				return is(containsAny(s.addedLines(), "repositor", "url", "index", "find-links", "insecure", "http"))
			}
			return is(s.change.New.Kind == None || s.contentChanged())
		},
	},
	{
		id: "registry-line", class: Suspicious, reason: otherServer, kinds: []Kind{Regular},
		paths: []string{"bunfig.toml", ".yarnrc", "pipfile", "makefile", "*.mk", "dockerfile*", "*.dockerfile", "*.sh", "gradle.properties", ".envrc", ".env*", "justfile", "pnpm-workspace.yaml"},
		when:  addsLine(`^.*(?:\bregistry\s*[=:"' ]\s*\S*https?:|\bgoproxy\s*[:?]?=|\bgonosumdb\s*[:?]?=|\bgonosumcheck\s*[:?]?=|\bgoflags\s*[:?]?=.*-insecure|\bgosumdb\s*[:?]?=|\bgoinsecure\s*[:?]?=|--(?:extra-)?index-url|--trusted-host|\bpip_(?:extra_)?index_url|\buv_(?:default_|extra_)?index|npm_config_registry|npm config set registry).*$`),
	},
}

func containsAny(b []byte, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return bytes.Contains(b, []byte(w)) })
}

// installScripts are scripts that installing or publishing runs by itself.
var installScripts = []string{"preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare", "prepublish", "prepublishonly", "prepack", "postpack", "dependencies", "preuninstall", "uninstall",
	"postuninstall", "publish", "postpublish", "preversion", "version", "postversion"}

// dependencyKeys are tables of packages in package.json.
var dependencyKeys = []string{"dependencies", "devDependencies", "peerDependencies", "optionalDependencies"}

func packageSetting(s *subject, c settings.Change) (Finding, bool) {
	top := c.Path[0]
	switch {
	case c.Op == settings.Removed:
		return Finding{}, false
	case top == "scripts" && len(c.Path) > 1:
		if slices.Contains(installScripts, strings.ToLower(c.Path[1])) {
			return Finding{Class: Builds, Reason: "npm runs this script on install or publish", Alone: true}, true
		}
		return Finding{Class: Builds, Reason: "runs when you call this script, or a tool does"}, true
	case slices.Contains(dependencyKeys, top) && len(c.Path) > 1:
		return dependency(s, c.New)
	case top == "overrides" || top == "resolutions" || top == "pnpm" && len(c.Path) > 1 && c.Path[1] == "overrides":
		if f, ok := dependency(s, c.New); ok && f.Class == Suspicious {
			return f, true
		}
		return Finding{Class: Builds, Reason: "other packages are taken instead"}, true
	case top == "publishConfig" && strings.Contains(strings.ToLower(c.Key()), "registry"):
		return Finding{Class: Suspicious, Reason: "packages go to another server"}, true
	case slices.Contains([]string{"bin", "gypfile", "packageManager", "devEngines", "volta", "workspaces", "pnpm", "jest", "babel", "mocha", "ava", "nyc", "c8", "tap", "eslintConfig", "prettier", "stylelint", "postcss",
		"commitlint", "release", "release-it", "husky", "simple-git-hooks", "lint-staged", "nodemonConfig", "vite", "tsup", "trustedDependencies", "config", "directories", "man", "bundleDependencies", "wireit", "nx", "turbo", "imports"}, top):
		return Finding{Class: Builds, Reason: "installs, builds or tests obey this"}, true
	case top == "files" || top == "publishConfig" || top == "private":
		return Finding{Class: Builds, Reason: "decides what is deployed or published, and how"}, true
	}
	return Finding{}, false
}

var (
	remoteSource = expression(`(?i)^(?:git(?:\+\w+)?:|git@|https?:|ssh:|github:|gitlab:|bitbucket:|gist:|npm:|[\w.-]+/[\w.-]+(?:#.*)?$)`)
	localSource  = expression(`(?i)^(?:file|link|portal):(.*)$|^(\.{1,2}/.*|/.*|~/.*)$`)
)

// dependency judges where a package of a manifest comes from.
func dependency(s *subject, version string) (Finding, bool) {
	if m := localSource().FindStringSubmatch(version); m != nil {
		if _, inside := s.set.resolve(path.Dir(s.change.Path), m[1]+m[2], mostLinks); !inside {
			return Finding{Class: Suspicious, Reason: leadsOut}, true
		}
		return Finding{Class: Builds, Reason: "package comes from a directory of the workspace"}, true
	}
	if remoteSource().MatchString(version) {
		return Finding{Class: Suspicious, Reason: otherSource}, true
	}
	return Finding{Class: Builds, Reason: takesVersions}, true
}

func npmSettings(s *subject) []Finding {
	changes, err := s.changed(settings.INI)
	if err != nil {
		return []Finding{{Detail: "its settings cannot be read: " + bounded(err.Error())}}
	}
	var found []Finding
	for _, c := range changes {
		key := strings.ToLower(c.Key())
		if strings.HasPrefix(key, "@") || strings.HasPrefix(key, "//") {
			key += ":" + strings.ToLower(c.New) // the name goes on after a colon
		}
		f := Finding{Class: Builds, Reason: "npm obeys this on install", Key: bounded(c.Key()), Line: c.Line}
		switch {
		case strings.HasSuffix(key, "ignore-scripts") && (c.Op == settings.Removed && c.Old != "false" || c.Op != settings.Removed && c.New != "true"):
			f.Class, f.Reason = Suspicious, "packages may run scripts on install again"
		case c.Op == settings.Removed:
		case strings.Contains(key, "_auth") || strings.Contains(key, "_password"):
			f.Class, f.Reason = Suspicious, "credentials for a registry"
		case strings.Contains(key, "registry") || strings.HasSuffix(key, "proxy") || strings.HasSuffix(key, "cafile") || strings.HasSuffix(key, "strict-ssl"):
			f.Class, f.Reason, f.Detail = Suspicious, otherServer, bounded(c.New)
		case slices.Contains([]string{"git", "script-shell", "node-options", "shell", "onload-script", "init-module", "globalconfig", "userconfig", "prefix", "editor", "viewer", "browser", "scripts-prepend-node-path", "nodedir", "node-gyp", "python"}, key):
			f.Class, f.Reason, f.Detail = Suspicious, "installs run this even with scripts off", bounded(c.New)
		}
		if len(found) < mostFindings {
			found = append(found, f)
		}
	}
	return found
}

func yarnSetting(_ *subject, c settings.Change) (Finding, bool) {
	key := strings.ToLower(c.Key())
	switch {
	case c.Op == settings.Removed:
		return Finding{}, false
	case strings.Contains(key, "registry"), strings.Contains(key, "proxy"), strings.Contains(key, "unsafehttp"), strings.Contains(key, "strictssl"), strings.Contains(key, "cafile"), strings.Contains(key, "auth"):
		return Finding{Class: Suspicious, Reason: otherServer}, true
	case strings.Contains(key, "checksumbehavior"), strings.Contains(key, "enablehardenedmode"):
		return Finding{Class: Suspicious, Reason: "a safety check gets weaker"}, true
	}
	return Finding{Class: Builds, Reason: "yarn runs or obeys this on install"}, true
}

func pythonSetting(s *subject, c settings.Change) (Finding, bool) {
	key := c.Key()
	under := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool {
			return key == p || strings.HasPrefix(key, p+".") || strings.HasPrefix(key, p+"[]")
		})
	}
	low := strings.ToLower(c.New)
	switch {
	case c.Op == settings.Removed:
		return Finding{}, false
	case under("tool.uv.index", "tool.uv.index-url", "tool.uv.extra-index-url", "tool.uv.find-links", "tool.uv.pip", "tool.uv.default-index", "tool.poetry.source", "tool.pdm.source", "tool.pixi.channels", "tool.uv.allow-insecure-host"):
		return Finding{Class: Suspicious, Reason: otherServer}, true
	case strings.Contains(low, "git+") || strings.Contains(low, "@ http") || strings.Contains(low, "@ file:") ||
		under("tool.uv.sources", "tool.poetry.dependencies", "tool.poetry.group", "tool.poetry.dev-dependencies") && slices.Contains([]string{"git", "url"}, c.Path[len(c.Path)-1]):
		return Finding{Class: Suspicious, Reason: otherSource}, true
	case c.Path[len(c.Path)-1] == "path" && under("tool.uv.sources", "tool.poetry"):
		if _, inside := s.set.resolve(path.Dir(s.change.Path), c.New, mostLinks); !inside {
			return Finding{Class: Suspicious, Reason: leadsOut}, true
		}
		return Finding{Class: Builds, Reason: "package comes from a directory of the workspace"}, true
	case under("project.dependencies", "project.optional-dependencies", "dependency-groups", "tool.poetry.dependencies", "tool.poetry.group", "tool.poetry.dev-dependencies", "tool.uv.dev-dependencies", "tool.pdm.dev-dependencies", "project.requires-python", "tool.uv", "tool.pixi"):
		return Finding{Class: Builds, Reason: takesVersions}, true
	case under("build-system"):
		return Finding{Class: Builds, Reason: "Python runs this on install"}, true
	case under("project.scripts", "project.gui-scripts", "project.entry-points", "tool.poetry.scripts", "tool.poetry.plugins", "tool.pytest", "tool.mypy.plugins", "tool.hatch", "tool.setuptools", "tool.pdm", "tool.tox", "tool.poe", "tool.taskipy",
		"tool.cibuildwheel", "tool.scikit-build", "tool.maturin", "tool.poetry.build", "tool.coverage.run.plugins", "tool.pylint", "tool.nox", "tool.pyright", "tool.flit", "tool.commitizen", "tool.semantic_release", "tool.pydantic-mypy", "tool.towncrier"):
		return Finding{Class: Builds, Reason: "Python's tools obey this on install or test"}, true
	}
	return Finding{}, false
}

func cargoManifest(s *subject, c settings.Change) (Finding, bool) {
	last := c.Path[len(c.Path)-1]
	table := slices.IndexFunc(c.Path, func(k string) bool { return strings.HasSuffix(k, "dependencies") })
	switch {
	case c.Op == settings.Removed:
		return Finding{}, false
	case c.Path[0] == "patch", c.Path[0] == "replace":
		if last == "path" {
			if _, inside := s.set.resolve(path.Dir(s.change.Path), c.New, mostLinks); inside {
				return Finding{Class: Builds, Reason: "package comes from a directory of the workspace"}, true
			}
			return Finding{Class: Suspicious, Reason: leadsOut}, true
		}
		return Finding{Class: Suspicious, Reason: otherSource}, true
	case table >= 0 && (last == "git" || last == "registry" || last == "registry-index"):
		return Finding{Class: Suspicious, Reason: otherSource}, true
	case table >= 0 && last == "path":
		if _, inside := s.set.resolve(path.Dir(s.change.Path), c.New, mostLinks); !inside {
			return Finding{Class: Suspicious, Reason: leadsOut}, true
		}
		return Finding{Class: Builds, Reason: "package comes from a directory of the workspace"}, true
	case table >= 0 && last == "package":
		return Finding{Class: Suspicious, Reason: "another package is taken under this name"}, true
	case table >= 0:
		return Finding{Class: Builds, Reason: takesVersions}, true
	case c.Path[0] == "package" && (last == "build" || last == "links" || last == "default-run"), last == "proc-macro", c.Path[0] == "workspace", c.Path[0] == "bin", c.Path[0] == "test", c.Path[0] == "bench":
		return Finding{Class: Builds, Reason: "cargo runs this on check, also from the editor"}, true
	case c.Path[0] == "package" && last == "publish", last == "include", last == "exclude":
		return Finding{Class: Builds, Reason: "decides what is deployed or published, and how"}, true
	}
	return Finding{}, false
}

func composerSetting(_ *subject, c settings.Change) (Finding, bool) {
	switch top := c.Path[0]; {
	case c.Op == settings.Removed:
		return Finding{}, false
	case top == "repositories":
		return Finding{Class: Suspicious, Reason: otherServer}, true
	case top == "config" && (strings.Contains(c.Key(), "secure-http") || strings.Contains(c.Key(), "disable-tls")):
		return Finding{Class: Suspicious, Reason: "a safety check gets weaker"}, true
	case top == "scripts" && len(c.Path) > 1 && (strings.HasPrefix(c.Path[1], "post-") || strings.HasPrefix(c.Path[1], "pre-")):
		return Finding{Class: Builds, Reason: "composer runs this script on install", Alone: true}, true
	case top == "require" || top == "require-dev":
		return Finding{Class: Builds, Reason: takesVersions}, true
	case top == "scripts", top == "config", top == "bin", top == "extra", top == "autoload", top == "autoload-dev", top == "replace", top == "provide":
		return Finding{Class: Builds, Reason: "composer takes or runs this"}, true
	}
	return Finding{}, false
}

// goManifest reads go.mod by lines: its blocks are of lines that say by themselves what they are.
func goManifest(s *subject) []Finding {
	if s.addedLines() == nil {
		if _, err := s.new(); err != nil {
			return []Finding{{Class: Suspicious, Reason: "a manifest that cannot be read"}}
		}
		return nil
	}
	var found []Finding
	at := 0
	for line := range bytes.Lines(s.text.added) {
		start := at
		at += len(line)
		if f, ok := s.goLine(string(line)); ok && len(found) < mostFindings {
			f.Line, f.Detail = s.lineOf(start), bounded(strings.TrimSpace(string(line)))
			found = append(found, f)
		}
	}
	return found
}

func (s *subject) goLine(line string) (Finding, bool) {
	code, _, _ := strings.Cut(line, "//")
	words := strings.Fields(code)
	if len(words) < 2 {
		return Finding{}, false
	}
	if before, to, is := strings.Cut(code, "=>"); is && before != "" {
		to = strings.Trim(strings.TrimSpace(to), "\"`")
		if strings.HasPrefix(to, ".") || strings.HasPrefix(to, "/") || windowsRooted(to) {
			if _, inside := s.set.resolve(path.Dir(s.change.Path), to, mostLinks); !inside {
				return Finding{Class: Suspicious, Reason: leadsOut}, true
			}
			return Finding{Class: Builds, Reason: "module comes from a directory of the workspace"}, true
		}
		return Finding{Class: Builds, Reason: "another module is taken instead"}, true
	}
	switch words[0] {
	case "toolchain", "go":
		return Finding{Class: Builds, Reason: "go downloads and runs this version"}, true
	case "tool", "godebug":
		return Finding{Class: Builds, Reason: "go build, generate or test runs this"}, true
	case "use":
		if _, inside := s.set.resolve(path.Dir(s.change.Path), words[1], mostLinks); !inside && words[1] != "(" {
			return Finding{Class: Suspicious, Reason: leadsOut}, true
		}
		return Finding{Class: Builds, Reason: "module comes from a directory of the workspace"}, true
	case "module", "exclude", "retract":
		return Finding{}, false
	}
	return Finding{Class: Builds, Reason: takesVersions}, strings.Contains(code, " v")
}
