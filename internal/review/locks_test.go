package review

import (
	"strings"
	"testing"
)

const (
	npmOld = `{"lockfileVersion": 3, "packages": {"": {"name": "a"},
"node_modules/b": {"version": "1.0.0", "resolved": "https://r.example/b.tgz", "integrity": "sha512-AAAA"},
"node_modules/c": {"version": "1.0.0", "resolved": "https://r.example/c.tgz", "integrity": "sha512-BBBB"}}}`
	yarnOld = "# yarn lockfile v1\n\n\"b@^1.0.0\":\n  version \"1.0.0\"\n  resolved \"https://r.example/b.tgz#aaaa\"\n  integrity sha512-AAAA\n"
	goOld   = "b v1.0.0 h1:AAAA=\nb v1.0.0/go.mod h1:BBBB=\n"
	uvOld   = "version = 1\n\n[[package]]\nname = \"b\"\nversion = \"1.0\"\nsource = { registry = \"https://r.example/simple\" }\nsdist = { url = \"https://f.example/b-1.0.tar.gz\", hash = \"sha256:aaaa\" }\n"
	carOld  = "version = 3\n\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\nsource = \"registry+https://r.example/index\"\nchecksum = \"aaaa\"\n"
	comOld  = `{"packages": [{"name": "a/b", "version": "1.0", "source": {"type": "git", "url": "https://g.example/b.git", "reference": "abc"}, "dist": {"type": "zip", "url": "https://r.example/b.zip", "reference": "abc"}}]}`
	pnpmOld = "lockfileVersion: '9.0'\npackages:\n  b@1.0.0:\n    resolution: {integrity: sha512-AAAA}\n"
)

func npmWith(old, fresh string) Change {
	return edited("package-lock.json", npmOld, strings.Replace(npmOld, old, fresh, 1))
}

func lockWith(name, content, old, fresh string) Change {
	return edited(name, content, strings.Replace(content, old, fresh, 1))
}

var withPackage = []Change{{Path: "package.json", Old: file(`{"name": "a"}`), New: file(`{"name": "a", "dependencies": {"d": "1"}}`)}}

var lockCases = []evalCase{
	{change: npmWith("https://r.example/b.tgz", "https://e.example/b.tgz"), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: npmWith("https://r.example/b.tgz", "http://r.example/b.tgz"), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: npmWith(`, "integrity": "sha512-AAAA"`, ""), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: npmWith("sha512-AAAA", "sha512-CCCC"), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: npmWith("sha512-AAAA", "sha1-CCCC"), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: npmWith(`"resolved": "https://r.example/b.tgz"`, `"resolved": "git+ssh://git@h.example/b.git#abc"`), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: npmWith(`"node_modules/b": {"version"`, `"node_modules/b": {"name": "evil", "version"`), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: npmWith(`"": {"name": "a"},`, `"": {"name": "a"}, "node_modules/d": {"version": "1.0.0", "resolved": "https://e.example/d.tgz", "integrity": "sha512-DDDD"},`), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: npmWith(`"": {"name": "a"},`, `"": {"name": "a"}, "node_modules/d": {"version": "1.0.0", "resolved": "https://r.example/d.tgz"},`), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: npmWith(`"": {"name": "a"},`, `"": {"name": "a"}, "node_modules/x/node_modules/b": {"version": "1.0.0", "resolved": "https://r.example/b.tgz", "integrity": "sha512-XXXX"},`), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: npmWith(`"resolved": "https://r.example/b.tgz"`, `"resolved": "https://e.example/b.tgz", "Resolved": "https://r.example/b.tgz"`), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: npmWith("}}}", "}}"), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{
		change: npmWith(`"": {"name": "a"},`, `"": {"name": "a"}, "node_modules/d": {"version": "1.0.0", "resolved": "https://r.example/d.tgz", "integrity": "sha512-DDDD"}, "node_modules/e": {"version": "1.0.0", "resolved": "https://r.example/e.tgz", "integrity": "sha512-EEEE"},`),
		more:   withPackage, class: Builds, rules: []string{"lock"},
	},
	{change: npmWith(`"1.0.0", "resolved": "https://r.example/b.tgz", "integrity": "sha512-AAAA"`, `"1.0.1", "resolved": "https://r.example/b1.tgz", "integrity": "sha512-EEEE"`), class: Suspicious, rules: []string{"lock-alone"}},
	{change: npmWith(`"lockfileVersion": 3`, `"lockfileVersion": 2`), class: Builds, rules: []string{"lock"}},
	{change: Change{Path: "package-lock.json", New: file(npmOld)}, more: withPackage, class: Builds, rules: []string{"lock"}},
	{change: Change{Path: "package-lock.json", New: file(strings.Replace(npmOld, "https://r.example/b.tgz", "http://r.example/b.tgz", 1))}, more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: Change{Path: "package-lock.json", Old: file(npmOld)}, class: Builds, rules: []string{"lock-deleted"}},

	{change: lockWith("yarn.lock", yarnOld, "r.example", "e.example"), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: lockWith("yarn.lock", yarnOld, "  integrity sha512-AAAA\n", "  integrity sha512-CCCC\n"), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: edited("yarn.lock", yarnOld, yarnOld+"\n\"@s/d@^1.0.0\", \"@s/d@^1.1.0\":\n  version \"1.1.0\"\n  resolved \"https://r.example/d.tgz#dd\"\n  integrity sha512-DDDD\n"), more: withPackage, class: Builds, rules: []string{"lock"}},
	{change: edited("yarn.lock", yarnOld, yarnOld+"\n\"d@npm:other@^1.0.0\":\n  version \"1.1.0\"\n  resolved \"https://r.example/d.tgz#dd\"\n  integrity sha512-DDDD\n"), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},

	{change: edited("go.sum", goOld, goOld+"c v1.0.0 h1:CCCC=\nc v1.0.0/go.mod h1:DDDD=\n"), class: Builds, rules: []string{"lock"}},
	{change: lockWith("go.sum", goOld, "h1:AAAA=", "h1:XXXX="), class: Suspicious, rules: []string{"lock-source"}},
	{change: lockWith("Cargo.lock", carOld, "aaaa", "bbbb"), class: Suspicious, rules: []string{"lock-source"}},
	{change: lockWith("Cargo.lock", carOld, "registry+https://r.example/index", "git+https://e.example/b#abc"), class: Suspicious, rules: []string{"lock-source"}},
	{change: lockWith("Cargo.lock", carOld, "1.0.0", "1.0.1"), class: Builds, rules: []string{"lock"}},
	{change: lockWith("uv.lock", uvOld, "f.example", "e.example"), class: Suspicious, rules: []string{"lock-source"}},
	{change: lockWith("uv.lock", uvOld, "sha256:aaaa", "sha256:bbbb"), class: Suspicious, rules: []string{"lock-source"}},
	{change: lockWith("uv.lock", uvOld, `registry = "https://r.example/simple"`, `registry = "https://e.example/simple"`), class: Suspicious, rules: []string{"lock-source"}},
	{change: lockWith("composer.lock", comOld, "https://r.example/b.zip", "https://e.example/b.zip"), class: Suspicious, rules: []string{"lock-source"}},
	{change: lockWith("composer.lock", comOld, "https://g.example/b.git", "https://e.example/b.git"), class: Suspicious, rules: []string{"lock-source"}},
	{change: lockWith("pnpm-lock.yaml", pnpmOld, "sha512-AAAA", "sha512-CCCC"), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: lockWith("pnpm-lock.yaml", pnpmOld, "{integrity: sha512-AAAA}", "{integrity: sha512-AAAA, tarball: https://e.example/b.tgz}"), more: withPackage, class: Suspicious, rules: []string{"lock-source"}},
	{change: edited("Gemfile.lock", "GEM\n  remote: https://r.example/\n  specs:\n    a (1.0)\n", "GEM\n  remote: https://e.example/\n  specs:\n    a (1.0)\n"), more: []Change{{Path: "Gemfile", New: file("x\n")}}, class: Suspicious, rules: []string{"lock-source"}},
}

func TestLocks(t *testing.T) { evaluate(t, lockCases) }

// TestLockDetail checks what a lock file's change is said to bring.
func TestLockDetail(t *testing.T) {
	c := npmWith(`"": {"name": "a"},`, `"": {"name": "a"}, "node_modules/d": {"version": "1.0.0", "resolved": "https://r.example/d.tgz", "integrity": "sha512-DDDD"},`)
	r, err := Classify(t.Context(), Input{Changes: append([]Change{c}, withPackage...)})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Verdicts[0].Findings[0].Detail; got != "+1 −0 ~0 packages: new d" {
		t.Errorf("detail = %q", got)
	}
}

// FuzzLock has every parser of lock files read whatever comes.
func FuzzLock(f *testing.F) {
	for name, content := range map[string]string{"package-lock.json": npmOld, "yarn.lock": yarnOld, "go.sum": goOld, "uv.lock": uvOld, "cargo.lock": carOld, "composer.lock": comOld, "pnpm-lock.yaml": pnpmOld, "gemfile.lock": goOld} {
		f.Add(name, content)
	}
	f.Fuzz(func(t *testing.T, name, content string) {
		format, known := lockFormats[name]
		if !known || len(content) > 1<<16 {
			return
		}
		all, err := format.parse([]byte(content))
		if err != nil {
			return
		}
		c := comparison{before: all}
		c.compare(all, all)
		if len(c.added) > 0 {
			t.Errorf("the same file adds %+v", c.added)
		}
	})
}
