package review

import "testing"

var buildCases = []evalCase{
	{change: edited("makefile", "a:\n", "a:\n\techo\n"), class: Builds, rules: []string{"build-recipe"}},
	{change: Change{Path: "sub/justfile", New: file("a:\n")}, class: Builds, rules: []string{"build-recipe"}},
	{change: Change{Path: "sub/GNUmakefile", New: file("a:\n")}, class: Builds, rules: []string{"build-recipe"}},
	{change: Change{Path: "x/Taskfile.dist.yml", New: file("a: 1\n")}, class: Builds, rules: []string{"build-recipe"}},
	{change: Change{Path: "scripts/a.pl", New: file("print\n")}, class: Builds, rules: []string{"script"}},
	{change: Change{Path: "tool", New: file("#!/usr/bin/env python3\n")}, class: Builds, rules: []string{"new-program"}},
	{change: Change{Path: "web/vite.config.ts", New: file("export default {}\n")}, class: Builds, rules: []string{"code-settings"}},
	{change: Change{Path: "conftest.py", New: file("x = 1\n")}, class: Builds, rules: []string{"python-build"}},
	{change: Change{Path: "setup.py", New: file("x = 1\n")}, class: Builds, rules: []string{"python-build"}},
	{change: Change{Path: "x.pth", New: file("import os\n")}, class: Suspicious, rules: []string{"python-start"}},
	{change: Change{Path: "src/sitecustomize.py", New: file("import os\n")}, class: Suspicious, rules: []string{"python-start"}},
	{change: Change{Path: "src/a.pyc", New: file("\x00")}, class: Suspicious, rules: []string{"python-start"}},
	{change: Change{Path: "crates/a/build.rs", New: file("fn main() {}\n")}, class: Builds, rules: []string{"rust-build"}},
	{change: Change{Path: "rust-toolchain.toml", New: file("[toolchain]\npath = \"tc\"\n")}, class: Suspicious, rules: []string{"rust-toolchain-path"}},
	{change: Change{Path: "rust-toolchain.toml", New: file("[toolchain]\nchannel = \"1.80\"\n")}, class: Builds, rules: []string{"rust-build"}},
	{change: Change{Path: ".cargo/config.toml", New: file("[build]\nrustc-wrapper = \"./w\"\n")}, class: Suspicious, rules: []string{"cargo-settings"}},
	{change: Change{Path: ".cargo/config.toml", New: file("[target.x86_64-unknown-linux-gnu]\nrunner = [\"./w\"]\n")}, class: Suspicious, rules: []string{"cargo-settings"}},
	{change: Change{Path: ".cargo/config.toml", New: file("[target.'cfg(unix)']\nlinker = \"./w\"\n")}, class: Suspicious, rules: []string{"cargo-settings"}},
	{change: Change{Path: ".cargo/config.toml", New: file("[source.crates-io]\nreplace-with = \"x\"\n")}, class: Suspicious, rules: []string{"cargo-settings"}},
	{change: Change{Path: ".cargo/config.toml", New: file("[alias]\nx = \"run\"\n")}, class: Builds, rules: []string{"cargo-settings"}},
	{change: Change{Path: ".cargo/config.toml", New: file("[[[")}, class: Suspicious, rules: []string{"cargo-settings"}},
	{change: edited("a.go", "package a\n", "package a\n\n//go:generate sh x.sh\n"), class: Builds, rules: []string{"go-commands"}},
	{change: edited("a.go", "package a\n", "package a\n\n// #cgo LDFLAGS: -lx\nimport \"C\"\n"), class: Builds, rules: []string{"go-commands"}},
	{change: edited("a_test.go", "package a\n", "package a\n\nfunc TestMain(m *testing.M) {}\n"), class: Builds, rules: []string{"go-commands"}},
	{change: Change{Path: "gradlew", New: program("#!/bin/sh\n")}, class: Builds, rules: []string{"jvm-build"}},
	{change: Change{Path: "gradle/wrapper/gradle-wrapper.jar", New: file("PK\x03\x04")}, class: Suspicious, rules: []string{"jvm-wrapper-program"}},
	{
		change: edited("gradle/wrapper/gradle-wrapper.properties", "distributionUrl=https\\://g.example/gradle-8.1-bin.zip\n", "distributionUrl=https\\://g.example/gradle-8.2-bin.zip\n"),
		class:  Builds, rules: []string{"jvm-build"},
	},
	{
		change: edited("gradle/wrapper/gradle-wrapper.properties", "distributionUrl=https\\://g.example/gradle-8.1-bin.zip\n", "distributionUrl=https\\://e.example/gradle-8.1-bin.zip\n"),
		class:  Suspicious, rules: []string{"jvm-wrapper"},
	},
	{change: edited("gradle.properties", "a=1\n", "a=1\norg.gradle.jvmargs=-Xmx2g -javaagent:a.jar\n"), class: Suspicious, rules: []string{"jvm-agent"}},
	{change: Change{Path: "CMakeLists.txt", New: file("project(x)\n")}, class: Builds, rules: []string{"build-file"}},
	{change: Change{Path: "app/App.csproj", New: file("<Project/>\n")}, class: Builds, rules: []string{"build-file"}},

	{change: Change{Path: "Dockerfile", New: file("FROM a\n")}, class: Builds, rules: []string{"container-build"}},
	{change: edited("compose.yaml", "services:\n  a:\n    image: x:1\n", "services:\n  a:\n    image: x:2\n"), class: Builds, rules: []string{"container-build"}},
	{change: edited("compose.yaml", "services:\n  a:\n    image: x:1\n", "services:\n  a:\n    image: x:1\n    volumes: ['./data:/data', 'named:/x']\n"), class: Builds, rules: []string{"container-build"}},
	{change: edited("compose.yaml", "services:\n  a:\n    image: x:1\n", "services:\n  a:\n    image: x:1\n    volumes:\n      - /var/run/docker.sock:/var/run/docker.sock\n"), class: Suspicious, rules: []string{"container-host"}},
	{change: edited("compose.yaml", "services:\n  a:\n    image: x:1\n", "services:\n  a:\n    image: x:1\n    privileged: true\n"), class: Suspicious, rules: []string{"container-host"}},
	{change: edited("compose.yaml", "services:\n  a:\n    image: x:1\n", "services:\n  a:\n    image: x:1\n    network_mode: host\n"), class: Suspicious, rules: []string{"container-host"}},
	{change: edited("compose.yaml", "services:\n  a:\n    image: x:1\n", "services:\n  a:\n    image: x:1\n    cap_add: [SYS_ADMIN]\n"), class: Suspicious, rules: []string{"container-host"}},
	{change: edited("compose.yaml", "services:\n  a:\n    image: x:1\n", "services:\n  a:\n    image: x:1\n    pid: host\n"), class: Suspicious, rules: []string{"container-host"}},
	{change: edited("compose.yaml", "services:\n  a:\n    image: x:1\n", "services:\n  a:\n    image: x:1\n    volumes: [{type: bind, source: ~/.ssh, target: /s}]\n"), class: Suspicious, rules: []string{"container-host"}},
	{change: Change{Path: "k8s/a.yaml", New: file("apiVersion: v1\nkind: Pod\nspec:\n  volumes:\n    - hostPath: {path: /}\n")}, class: Suspicious, rules: []string{"container-host"}},
	{change: Change{Path: "Makefile", New: file("a:\n\tdocker run --privileged x\n")}, class: Suspicious, rules: []string{"container-insecure"}},
	{change: Change{Path: ".devcontainer/devcontainer.json", New: file("{\"postCreateCommand\": \"x\"}\n")}, class: Builds, rules: []string{"container-build"}},
	{change: Change{Path: "a.tf", New: file("resource \"x\" \"y\" {\n  provisioner \"local-exec\" {}\n}\n")}, class: Builds, rules: []string{"infrastructure"}},
	{change: Change{Path: "ansible.cfg", New: file("[defaults]\n")}, class: Builds, rules: []string{"infrastructure-commands"}},
}

func TestBuilds(t *testing.T) { evaluate(t, buildCases) }

const (
	plainPackage = `{"name": "a", "scripts": {"test": "x"}, "dependencies": {"b": "^1.2.0"}}`
	plainModule  = "module a\n\ngo 1.24\n\nrequire b v1.0.0\n"
	plainCargo   = "[package]\nname = \"a\"\n\n[dependencies]\nb = \"1\"\n"
	plainPython  = "[project]\nname = \"a\"\ndependencies = [\"b>=1\"]\n"
)

func packageWith(fresh string) Change { return edited("package.json", plainPackage, fresh) }

var manifestCases = []evalCase{
	{change: packageWith(`{"name": "a", "scripts": {"test": "x"}, "dependencies": {"b": "^1.3.0"}}`), class: Builds, rules: []string{"package-script"}},
	{change: packageWith(`{"name": "a", "scripts": {"test": "y"}, "dependencies": {"b": "^1.2.0"}}`), class: Builds, rules: []string{"package-script"}},
	{change: packageWith(`{"name": "a", "scripts": {"test": "x", "postinstall": "y"}, "dependencies": {"b": "^1.2.0"}}`), class: Builds, rules: []string{"package-script"}},
	{change: packageWith(`{"name": "a", "version": "1.0.1", "scripts": {"test": "x"}, "dependencies": {"b": "^1.2.0"}}`)},
	{change: packageWith(`{"name": "a", "scripts": {"test": "x"}, "dependencies": {"b": "git+https://h.example/b.git"}}`), class: Suspicious, rules: []string{"package-script"}},
	{change: packageWith(`{"name": "a", "scripts": {"test": "x"}, "dependencies": {"b": "npm:other@1"}}`), class: Suspicious, rules: []string{"package-script"}},
	{change: packageWith(`{"name": "a", "scripts": {"test": "x"}, "dependencies": {"b": "someone/b"}}`), class: Suspicious, rules: []string{"package-script"}},
	{change: packageWith(`{"name": "a", "scripts": {"test": "x"}, "dependencies": {"b": "file:../../b"}}`), class: Suspicious, rules: []string{"package-script"}},
	{change: packageWith(`{"name": "a", "scripts": {"test": "x"}, "dependencies": {"b": "workspace:*"}}`), class: Builds, rules: []string{"package-script"}},
	{change: packageWith(`{"name": "a"`), class: Suspicious, rules: []string{"package-script"}},
	{change: edited(".npmrc", "save-exact=true\n", "save-exact=true\nregistry=https://r.example/\n"), class: Suspicious, rules: []string{"npm-settings"}},
	{change: edited(".npmrc", "a=b\n", "a=b\nscript-shell=./x\n"), class: Suspicious, rules: []string{"npm-settings"}},
	{change: edited(".npmrc", "a=b\n", "a=b\ngit=./x\n"), class: Suspicious, rules: []string{"npm-settings"}},
	{change: edited(".npmrc", "a=b\n", "a=b\nnode-options=--require ./x.js\n"), class: Suspicious, rules: []string{"npm-settings"}},
	{change: edited(".npmrc", "ignore-scripts=true\n", "a=b\n"), class: Suspicious, rules: []string{"npm-settings"}},
	{change: edited(".npmrc", "a=b\n", "a=b\n@x:registry=https://r.example/\n"), class: Suspicious, rules: []string{"npm-settings"}},
	{change: Change{Path: ".npmrc", Old: file("ignore-scripts=true\n")}, class: Suspicious, rules: []string{"npm-settings"}},
	{change: edited(".npmrc", "a=b\n", "a=b\nsave-exact=true\n"), class: Builds, rules: []string{"npm-settings"}},
	{change: edited(".yarnrc.yml", "nodeLinker: node-modules\n", "nodeLinker: node-modules\nyarnPath: .yarn/releases/y.cjs\n"), class: Builds, rules: []string{"yarn-settings"}},
	{change: edited(".yarnrc.yml", "nodeLinker: node-modules\n", "nodeLinker: node-modules\nnpmRegistryServer: https://r.example\n"), class: Suspicious, rules: []string{"yarn-settings"}},
	{change: Change{Path: ".yarn/releases/y.cjs", New: file("x()\n")}, class: Suspicious, rules: []string{"yarn-program"}},
	{change: Change{Path: ".pnpmfile.cjs", New: file("x()\n")}, class: Builds, rules: []string{"install-settings"}},

	{change: edited("go.mod", plainModule, plainModule+"require c v1.0.0\n"), class: Builds, rules: []string{"go-manifest"}},
	{change: edited("go.mod", plainModule, plainModule+"toolchain go1.99\n"), class: Builds, rules: []string{"go-manifest"}},
	{change: edited("go.mod", plainModule, plainModule+"replace x => ../../y\n"), class: Suspicious, rules: []string{"go-manifest"}},
	{change: edited("go.mod", plainModule, plainModule+"replace (\n\tx => /tmp/y\n)\n"), class: Suspicious, rules: []string{"go-manifest"}},
	{change: edited("sub/go.mod", plainModule, plainModule+"replace x => ../y\n"), class: Builds, rules: []string{"go-manifest"}},
	{change: edited("go.mod", plainModule, plainModule+"replace b => example.com/b v1.0.1\n"), class: Builds, rules: []string{"go-manifest"}},
	{change: edited("go.mod", plainModule, plainModule+"tool b/cmd/x\n"), class: Builds, rules: []string{"go-manifest"}},

	{change: edited("Cargo.toml", plainCargo, plainCargo+"c = \"2\"\n"), class: Builds, rules: []string{"cargo-manifest"}},
	{change: edited("Cargo.toml", plainCargo, plainCargo+"c = {git = \"https://h.example/c\"}\n"), class: Suspicious, rules: []string{"cargo-manifest"}},
	{change: edited("Cargo.toml", plainCargo, plainCargo+"c = {path = \"../../c\"}\n"), class: Suspicious, rules: []string{"cargo-manifest"}},
	{change: edited("Cargo.toml", plainCargo, plainCargo+"\n[patch.crates-io]\nb = {git = \"https://h.example/b\"}\n"), class: Suspicious, rules: []string{"cargo-manifest"}},
	{change: edited("Cargo.toml", plainCargo, plainCargo+"\n[lib]\nproc-macro = true\n"), class: Builds, rules: []string{"cargo-manifest"}},
	{change: edited("Cargo.toml", plainCargo, "[package]\nname = \"a\"\nversion = \"0.2.0\"\n\n[dependencies]\nb = \"1\"\n")},

	{change: edited("pyproject.toml", plainPython, "[project]\nname = \"a\"\ndependencies = [\"b>=1\", \"c\"]\n"), class: Builds, rules: []string{"python-project"}},
	{change: edited("pyproject.toml", plainPython, "[project]\nname = \"a\"\ndependencies = [\"b @ git+https://h.example/b\"]\n"), class: Suspicious, rules: []string{"python-project"}},
	{change: edited("pyproject.toml", plainPython, plainPython+"\n[build-system]\nbuild-backend = \"x\"\n"), class: Builds, rules: []string{"python-project"}},
	{change: edited("pyproject.toml", plainPython, plainPython+"\n[[tool.uv.index]]\nurl = \"https://r.example\"\n"), class: Suspicious, rules: []string{"python-project"}},
	{change: edited("pyproject.toml", plainPython, plainPython+"\n[[tool.poetry.source]]\nurl = \"https://r.example\"\n"), class: Suspicious, rules: []string{"python-project"}},
	{change: edited("pyproject.toml", plainPython, plainPython+"\n[tool.ruff]\nline-length = 100\n")},
	{change: edited("requirements.txt", "a==1\n", "a==2\n"), class: Builds, rules: []string{"requirements"}},
	{change: edited("requirements.txt", "a==1\n", "--extra-index-url https://r.example\na==1\n"), class: Suspicious, rules: []string{"requirements-source"}},
	{change: edited("requirements.txt", "a==1\n", "a==1\ngit+https://h.example/b\n"), class: Builds, rules: []string{"requirements-url"}},
	{change: Change{Path: "pip.conf", New: file("[global]\nindex-url = https://r.example\n")}, class: Suspicious, rules: []string{"registry"}},
	{change: Change{Path: "poetry.toml", New: file("[virtualenvs]\nin-project = true\n")}},
	{change: Change{Path: "uv.toml", New: file("[[index]]\nurl = \"https://r.example\"\n")}, class: Suspicious, rules: []string{"registry"}},
	{change: packageWith("5"), class: Suspicious, rules: []string{"package-script"}},
	{change: packageWith("[[]]")},
	{change: edited("package-lock.json", "5", "[1]"), class: Suspicious},
	{change: edited("Pipfile.lock", "{}", "5"), class: Suspicious, rules: []string{"lock-source"}},
	{change: edited("pnpm-lock.yaml", "5", "[1]"), class: Builds},
	{change: Change{Path: "NuGet.config", New: file("<configuration/>\n")}, class: Suspicious, rules: []string{"registry"}},
	{change: edited("Makefile", "a:\n", "export GOPROXY=https://r.example\na:\n"), class: Suspicious, rules: []string{"registry-line"}},
	{change: edited("composer.json", `{"require": {"a/b": "1"}}`, `{"require": {"a/b": "2"}}`), class: Builds, rules: []string{"composer-manifest"}},
	{change: edited("composer.json", `{"require": {"a/b": "1"}}`, `{"require": {"a/b": "1"}, "repositories": [{"type": "vcs", "url": "https://h.example"}]}`), class: Suspicious, rules: []string{"composer-manifest"}},
}

func TestManifests(t *testing.T) { evaluate(t, manifestCases) }

// TestInstallScriptAlone checks that what an installation runs by itself is asked about by itself.
func TestInstallScriptAlone(t *testing.T) {
	r, err := Classify(t.Context(), Input{Changes: []Change{packageWith(`{"name": "a", "scripts": {"test": "x", "postinstall": "y"}, "dependencies": {"b": "^1.2.0"}}`)}})
	if err != nil {
		t.Fatal(err)
	}
	if f := r.Verdicts[0].Findings[0]; !f.Alone || f.Key != "scripts.postinstall" || f.Detail != "y" {
		t.Errorf("finding = %+v; want the script, alone", f)
	}
}
