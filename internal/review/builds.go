package review

import (
	"bytes"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/review/settings"
)

// buildRules are about what runs when the user builds, tests or installs.
var buildRules = []rule{
	{
		id: "build-recipe", class: Builds, reason: "runs when you build or test",
		paths: []string{
			"makefile", "gnumakefile", "bsdmakefile", "makefile.*", "*.mk", "justfile", ".justfile", "*.just", "taskfile*.y*ml", "rakefile", "*.rake", "magefile*.go", "magefiles/**", "build.zig",
			"build.zig.zon", "meson.build", "meson_options.txt", "*.wrap", "sconstruct", "sconscript", "wscript", "configure", "configure.*", "autogen.sh", "bootstrap", "bootstrap.sh", "tiltfile", "noxfile.py",
			"tox.ini", "dodo.py", "tasks.py", "fabfile.py", "pavement.py", "ninja.build", "build.ninja", "premake*.lua", "xmake.lua", "gnumakefile.*", "earthfile", "build.sh", "lerna.json", "rush.json",
		},
	},
	{
		id: "script", class: Builds, reason: "a script; runs when you or a tool call it", kinds: []Kind{Regular},
		paths: []string{"scripts/**", "script/**", "bin/**", "tools/**", "hack/**", "*.sh", "*.bash", "*.zsh", "*.fish", "*.ps1", "*.bat", "*.cmd"},
	},
	{
		id: "new-program", class: Builds, reason: "a script; runs when you or a tool call it", kinds: []Kind{Regular},
		when: func(s *subject) []Finding {
			if !s.added() {
				return nil
			}
			head, err := s.head(&s.change.New)
			return is(err == nil && bytes.HasPrefix(head, []byte("#!")))
		},
	},
	{
		id: "code-settings", class: Builds, reason: "build and test tools execute this file",
		paths: slices.Concat(configsOf("vite", "vitest", "vitest.workspace", "webpack", "rollup", "babel", "jest", "next", "nuxt", "svelte", "astro", "tailwind", "postcss", "metro", "playwright", "karma", "cypress",
			"esbuild", "tsup", "rspack", "remix", "gatsby", "ember-cli-build", "wdio", "nightwatch", "stencil", "snowpack", "parcel", "vue", "quasar", "lint-staged", "commitlint", "stylelint", "uno", "orval", "codegen", "drizzle"),
			[]string{
				"gulpfile*", "gruntfile*", ".mocharc*", ".babelrc*", ".swcrc", "nx.json", "turbo.json", "project.json", "angular.json", "jest.setup.*", "vitest.setup.*", "setuptests.*", ".storybook/**",
				"karma.conf.*", "protractor.conf.*", "conf.py", "ember-cli-build.js", ".parcelrc", "jakefile*", "wallaby.js", "testsetup.*", ".nycrc*", ".c8rc*", ".taprc", "ava.config.*",
			}),
	},
	{
		id: "python-build", class: Builds, reason: "Python runs this on install or test",
		paths: []string{"setup.py", "setup.cfg", "conftest.py", "pytest.ini", ".pytest.ini", "manage.py", "hatch.toml", "hatch_build.py", "build.py", "buildout.cfg", ".coveragerc", "pdm_build.py", "_build_backend.py"},
	},
	{
		id: "python-start", class: Suspicious, reason: "Python runs this at every start",
		paths: []string{"*.pth", "sitecustomize.py", "usercustomize.py", "*.pyc", "*.pyo"},
		when: func(s *subject) []Finding {
			return is(!s.generated() || path.Ext(s.folded) == ".pth" && !s.change.Ignored)
		},
	},
	{id: "rust-build", class: Builds, reason: "cargo runs this on check, also from the editor", paths: []string{"build.rs", "rust-toolchain", "rust-toolchain.toml"}},
	{
		id: "rust-toolchain-path", class: Suspicious, reason: "cargo runs the compiler that is named here",
		paths: []string{"rust-toolchain.toml", "rust-toolchain"}, when: addsLine(`^\s*path\s*=.*$`),
	},
	{
		id: "cargo-settings", class: Suspicious, reason: "cargo starts the program that this setting names",
		paths: []string{".cargo/config", ".cargo/config.toml"}, when: judged(settings.TOML, cargoSetting),
	},
	{
		id: "go-commands", class: Builds, reason: "go build, generate or test runs this", kinds: []Kind{Regular},
		paths: []string{"*.go"}, when: addsLine(`^(?://go:generate\b.*|\s*(?://|\*)?\s*#cgo\b.*|func TestMain\(.*|func testmain\(.*)$`),
	},
	{
		id: "go-test-start", class: Builds, reason: "go test runs this before any test", kinds: []Kind{Regular},
		paths: []string{"*_test.go"}, when: addsLine(`^func init\(\).*$`),
	},
	{id: "go-workspace", class: Builds, reason: "go build takes modules and tools from here", paths: []string{"go.work", ".custom-gcl.y*ml", ".golangci.*", "/vendor/modules.txt"}},
	{
		id: "vendored", class: Builds, reason: "vendored code changes, though no manifest does",
		paths: []string{"/vendor/**"}, when: func(s *subject) []Finding {
			return is(strings.HasSuffix(s.folded, ".go") && s.set.find("go.mod") == nil)
		},
	},
	{
		id: "jvm-build", class: Builds, reason: "the build starts with this program",
		paths: []string{
			"gradlew", "gradlew.bat", "gradle/wrapper/**", "init.gradle*", "settings.gradle*", "build.gradle*", "*.gradle", "*.gradle.kts", "buildsrc/**", "gradle.properties", "mvnw", "mvnw.cmd", ".mvn/**", "build.sbt",
			"project/*.sbt", "project/*.scala", "project/build.properties", ".jvmopts", ".sbtopts", "pom.xml", "build.xml", "ivy.xml", "build.sc", "build.mill", "deps.edn", "project.clj", "shadow-cljs.edn", "libs.versions.toml",
		},
	},
	{
		id: "jvm-agent", class: Suspicious, reason: "a program is loaded into every build",
		paths: []string{"gradle.properties", ".mvn/**", ".jvmopts", ".sbtopts", "gradlew", "mvnw", "pom.xml", "*.gradle", "*.gradle.kts"}, when: addsLine(`^.*-(?:javaagent|agentlib|agentpath)\b.*$`),
	},
	{
		id: "jvm-wrapper", class: Suspicious, reason: "the build downloads its tool from another address",
		paths: []string{"gradle/wrapper/gradle-wrapper.properties", ".mvn/wrapper/maven-wrapper.properties"}, when: wrapperMoved,
	},
	{id: "jvm-wrapper-program", class: Suspicious, reason: "the build starts with this program", paths: []string{"gradle/wrapper/*.jar", ".mvn/wrapper/*.jar"}},
	{
		id: "build-file", class: Builds, reason: "runs when you build with this tool",
		paths: []string{
			"gemfile", "gemfile.*", "gems.rb", "*.gemspec", ".bundle/config", ".rspec", "spec_helper.rb", "phpunit.xml*", ".user.ini", ".htaccess", "mix.exs", "config/*.exs", "setup.hs", "stack.yaml", "*.cabal", "cabal.project*",
			"package.yaml", "dune", "dune-project", "*.opam", "package.swift", "podfile", "fastlane/**", "cartfile", "directory.build.*", "directory.packages.props", "*.csproj", "*.fsproj", "*.vbproj", "*.vcxproj", "*.sln", "*.props",
			"*.targets", "global.json", "dotnet-tools.json", "cmakelists.txt", "cmakepresets.json", "cmakeuserpresets.json", "*.cmake", "conanfile.*", "vcpkg.json", ".bazelrc", "*.bazelrc", "tools/bazel", ".bazelversion",
			"module.bazel", "workspace", "workspace.bazel", "build", "build.bazel", "*.bzl", "buck", ".buckconfig", "*.nix", "rebar.config", "gleam.toml", "shard.yml", "pubspec.yaml", "build.yaml", "melos.yaml", "*.nimble", "dub.json",
			"rockspec", "*.rockspec", "cpanfile", "makefile.pl", "build.pl", "description", "renv/activate.r", "project.toml", "deps/build.jl", "elm.json", "spago.*", "purs.json", "hardhat.config.*", "foundry.toml", "truffle-config.js",
		},
		when: func(s *subject) []Finding { return is(s.change.New.Kind != Dir) },
	},
}

// configsOf returns the names of files that are the settings of these tools, and code.
func configsOf(tools ...string) []string {
	var names []string
	for _, t := range tools {
		names = append(names, t+".config.*", "."+t+"rc.js", "."+t+"rc.cjs")
	}
	return names
}

func cargoSetting(_ *subject, c settings.Change) (Finding, bool) {
	first, last := c.Path[0], c.Path[len(c.Path)-1]
	if last == settings.Element && len(c.Path) > 1 {
		last = c.Path[len(c.Path)-2]
	}
	switch {
	case c.Op == settings.Removed:
		return Finding{Class: Builds, Reason: "cargo obeys this on check, also from the editor"}, true
	case slices.Contains([]string{"rustc", "rustc-wrapper", "rustc-workspace-wrapper", "rustdoc", "runner", "linker", "credential-provider", "global-credential-providers", "git-fetch-with-cli", "ar"}, last),
		first == "credential-alias", strings.Contains(c.New, "linker") && last == "rustflags", first == "env" && slices.ContainsFunc(c.Path, isObeyedVariable):
		return Finding{Class: Suspicious, Reason: "cargo starts the program that this setting names"}, true
	case first == "source", first == "registries", first == "registry":
		return Finding{Class: Suspicious, Reason: "packages come from another server"}, true
	}
	return Finding{Class: Builds, Reason: "cargo obeys this on check, also from the editor"}, true
}

// isObeyedVariable reports whether compilers start or load what a variable names.
func isObeyedVariable(name string) bool {
	name = strings.ToUpper(name)
	return name == "PATH" || name == "RUSTC" || strings.Contains(name, "WRAPPER") || strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "DYLD_") || name == "CC" || name == "CXX" || strings.HasSuffix(name, "_LINKER")
}

var wrapperURL = expression(`(?m)^\s*(?:distributionUrl|wrapperUrl)\s*=\s*(\S+)`)

// wrapperMoved is about the server of a wrapper's downloads: a newer version of the same
// server is no other.
func wrapperMoved(s *subject) []Finding {
	fresh, err := s.new()
	if err != nil {
		return []Finding{{}}
	}
	old, _ := s.old()
	known := map[string]bool{}
	for _, m := range wrapperURL().FindAllSubmatch(old, -1) {
		known[serverOf(string(m[1]))] = true
	}
	for _, m := range wrapperURL().FindAllSubmatch(fresh, -1) {
		if server := serverOf(string(m[1])); !known[server] && s.change.Old.Kind == Regular || strings.HasPrefix(server, "http:") {
			return []Finding{{Key: "distributionUrl", Detail: bounded(server)}}
		}
	}
	hadSum, hasSum := bytes.Contains(old, []byte("Sha256Sum")), bytes.Contains(fresh, []byte("Sha256Sum"))
	if hadSum && !hasSum {
		return []Finding{{Key: "distributionSha256Sum", Class: Suspicious, Reason: "the download of the build tool is no longer checked"}}
	}
	return nil
}

// serverOf returns the scheme and the host of an address.
func serverOf(address string) string {
	u, err := url.Parse(strings.ReplaceAll(address, `\:`, ":"))
	if err != nil || u.Host == "" {
		return address
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}
