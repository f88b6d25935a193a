package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProbeMirrors(t *testing.T) {
	const home = "home/me/"
	tests := []struct {
		name  string
		files map[string]string
		env   map[string]string
		want  []Mirror
	}{
		{"nothing", nil, nil, nil},
		{"apt", map[string]string{
			"etc/apt/sources.list.d/debian.sources": "Types: deb\nURIs: http://User:pw@Mirror.example:8080/debian\nSuites: trixie\nComponents: main\n\n" +
				"Types: deb\nURIs: http://mirror.example:8080/debian-security\nSuites: trixie-security\nComponents: main\n",
		}, nil, []Mirror{{Preset: "apt", URL: "http://mirror.example:8080/debian", Host: "mirror.example", Port: 8080}}},
		{"apt, a directory", map[string]string{
			"etc/apt/sources.list": "deb file:///srv/debian trixie main\n",
		}, nil, nil},
		{"npm", map[string]string{
			"etc/npmrc": "registry=https://global.example/\n@a:registry=https://scope.example\n",
			home + ".npmrc": "; a comment\n//user.example/:_authToken=secret\nregistry = \"https://u:secret@${HOST}/npm/?token=secret\"\n" +
				"@b:registry=https://scope.example/b\nproxy=http://proxy.example\n",
		}, map[string]string{"HOST": "user.example"}, []Mirror{
			{Preset: "npm", URL: "https://user.example/npm/", Host: "user.example", Port: 443, Env: map[string]string{"npm_config_registry": "https://user.example/npm/"}},
			{Preset: "npm", URL: "https://scope.example", Host: "scope.example", Port: 443},
		}},
		{"npm, its prefix and a variable", map[string]string{
			"opt/node/bin/npm*":  "",
			"opt/node/etc/npmrc": "@a:registry=http://10.1.2.3:4873\n",
		}, map[string]string{"NPM_CONFIG_REGISTRY": "https://Env.example./"}, []Mirror{
			{Preset: "npm", URL: "https://env.example./", Host: "env.example", Port: 443, Env: map[string]string{"npm_config_registry": "https://env.example./"}},
			{Preset: "npm", URL: "http://10.1.2.3:4873", Host: "10.1.2.3", Port: 4873},
		}},
		{"npm, no host", map[string]string{home + ".npmrc": "registry=https://exa mple/\n@a:registry=file:///x"}, nil, nil},
		{"go, as it came", map[string]string{
			"usr/lib/go/bin/go*": "",
			"usr/bin/go":         "->../lib/go/bin/go",
			"usr/lib/go/go.env":  "# defaults\nGOPROXY=https://proxy.example,direct\nGOSUMDB=sum.example\n",
		}, nil, []Mirror{
			{Preset: "go", URL: "https://proxy.example", Host: "proxy.example", Port: 443},
			{Preset: "go", URL: "https://sum.example", Host: "sum.example", Port: 443},
		}},
		{"go, the user's", map[string]string{
			home + ".config/go/env": "GOPROXY=https://u:secret@a.example/go|https://b.example,file:///srv/go,direct\nGOSUMDB=sum.example+key https://u:secret@c.example\nGOPRIVATE=*.corp.example\nGOFLAGS=-mod=mod\n",
		}, map[string]string{"GONOSUMDB": "x.example"}, []Mirror{
			{Preset: "go", URL: "https://a.example/go", Host: "a.example", Port: 443, Env: map[string]string{
				"GOPROXY": "https://a.example/go|https://b.example,direct", "GOSUMDB": "sum.example+key https://c.example",
				"GOPRIVATE": "*.corp.example", "GONOSUMDB": "x.example",
			}},
			{Preset: "go", URL: "https://b.example", Host: "b.example", Port: 443},
			{Preset: "go", URL: "https://c.example", Host: "c.example", Port: 443},
		}},
		{"go, none", map[string]string{home + ".config/go/env": "GOPROXY=https://a.example\n"},
			map[string]string{"GOENV": "off", "GOPROXY": "direct", "GOSUMDB": "off"},
			[]Mirror{{Preset: "go", Env: map[string]string{"GOPROXY": "direct", "GOSUMDB": "off"}}}},
		{"pip", map[string]string{
			"etc/pip.conf":                  "[global]\nindex-url = https://global.example/simple\ntrusted-host = extra.example\n",
			home + ".config/pip/pip.conf":   "[list]\nindex-url = https://no.example\n[install]\n# x\nindex_url: https://u:secret@pip.example/simple\n",
			home + ".pip/pip.conf":          "[global]\nextra-index-url =\n  http://extra.example/a\n  https://u:secret@more.example/b\n\n  file:///srv\ntimeout = 60\n",
			"named":                         "[global]\n",
			home + "project/pip.conf":       "[global]\nindex-url = https://project.example\n",
			home + ".config/pip/ignored.md": "",
		}, map[string]string{"PIP_CONFIG_FILE": "/named"}, []Mirror{
			{Preset: "pypi", URL: "https://pip.example/simple", Host: "pip.example", Port: 443, Env: map[string]string{
				"PIP_INDEX_URL": "https://pip.example/simple", "PIP_EXTRA_INDEX_URL": "http://extra.example/a https://more.example/b", "PIP_TRUSTED_HOST": "extra.example",
			}},
			{Preset: "pypi", URL: "http://extra.example/a", Host: "extra.example", Port: 80},
			{Preset: "pypi", URL: "https://more.example/b", Host: "more.example", Port: 443},
		}},
		{"pip, a variable and no files", map[string]string{"etc/pip.conf": "[global]\nindex-url = https://global.example\n"},
			map[string]string{"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": "https://env.example"},
			[]Mirror{{Preset: "pypi", URL: "https://env.example", Host: "env.example", Port: 443, Env: map[string]string{"PIP_INDEX_URL": "https://env.example"}}}},
		{"cargo", map[string]string{
			home + ".cargo/config.toml": "[source.crates-io]\nreplace-with = 'a'\n[source.a]\nreplace-with = 'my-mirror'\n[source.my-mirror]\nregistry = 'sparse+https://crates.example/index/'\n" +
				"[registries.corp-x]\nindex = 'sparse+https://u:secret@corp.example/'\n[registries.git]\nindex = 'ssh://git.example/x'\n[registry]\ntoken = 'secret'\n",
		}, nil, []Mirror{
			{Preset: "crates", URL: "https://crates.example/index/", Host: "crates.example", Port: 443, Env: map[string]string{"CARGO_REGISTRIES_CORP_X_INDEX": "sparse+https://corp.example/"}},
			{Preset: "crates", URL: "https://corp.example/", Host: "corp.example", Port: 443},
		}},
		{"cargo, a ring", map[string]string{"cargo/config": "[source.crates-io]\nreplace-with = 'a'\n[source.a]\nreplace-with = 'crates-io'\n"},
			map[string]string{"CARGO_HOME": "/cargo"}, nil},
		{"cargo, no TOML", map[string]string{home + ".cargo/config.toml": "source = ["}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := map[string]string{"HOME": "/home/me", "PATH": "/usr/bin:/opt/node/bin"}
			for k, v := range tt.env {
				env[k] = v
			}
			got := probeMirrors(Options{Root: tree(t, tt.files), Getenv: func(k string) string { return env[k] }})
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("probeMirrors (-want +got):\n%s", d)
			}
			if text := fmt.Sprint(got); strings.Contains(text, "secret") || strings.Contains(text, "pw") {
				t.Errorf("probeMirrors = %s; it has a password in it", text)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	list := []Mirror{
		{Preset: "npm", Host: "a.example"}, {Preset: "go", Host: "a.example"}, {Preset: "npm", Host: "10.1.2.3"},
		{Preset: "npm", Host: "none.example"}, {Preset: "pypi", Host: "c.example"}, {Preset: "npm"},
	}
	asked := make(chan string, 10)
	got := resolve(list, []string{"npm"}, func(host string) ([]netip.Addr, error) {
		asked <- host
		if host == "none.example" {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.9"), netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("fd00::1")}, nil
	})
	if len(asked) != 2 {
		t.Errorf("resolve asked %d times; want once for a.example and none.example", len(asked))
	}
	want := [][]string{{"10.0.0.9", "fd00::1"}, nil, {"10.1.2.3"}, nil, nil, nil}
	for i, m := range got {
		if d := cmp.Diff(want[i], m.Addrs); d != "" {
			t.Errorf("addresses of %d, %s of %s (-want +got):\n%s", i, m.Host, m.Preset, d)
		}
	}
}

// TestAskNpm: npm is asked once, and again when it is another one.
func TestAskNpm(t *testing.T) {
	dir := t.TempDir()
	npm := filepath.Join(dir, "npm")
	answer := func(text string) {
		t.Helper()
		script := "#!/bin/sh\n[ \"$*\" = 'config get registry' ] && [ \"$PWD\" = / ] || exit 1\necho called >>" + dir + "/calls\n" + text + "\n"
		if err := os.WriteFile(npm+".new", []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(npm+".new", npm); err != nil {
			t.Fatal(err)
		}
	}
	calls := func() int {
		b, _ := os.ReadFile(filepath.Join(dir, "calls"))
		return strings.Count(string(b), "\n")
	}
	o := Options{Dirs: Dirs{Cache: filepath.Join(dir, "cache")}}
	facts := Facts{Npm: Tool{Path: npm}}
	ask := func(ctx context.Context) []Mirror { return ResolveMirrors(ctx, o, facts, []string{"npm"}) }
	want := func(host string) []Mirror {
		url := "http://" + host + "/"
		return []Mirror{{Preset: "npm", URL: url, Host: host, Port: 80, Addrs: []string{host}, Env: map[string]string{"npm_config_registry": url}}}
	}
	answer("echo http://10.0.0.1/")
	for range 2 {
		if d := cmp.Diff(want("10.0.0.1"), ask(t.Context())); d != "" || calls() != 1 {
			t.Errorf("ResolveMirrors after %d calls of npm (-want +got):\n%s", calls(), d)
		}
	}
	answer("echo http://u:pw@10.0.0.2/")
	if d := cmp.Diff(want("10.0.0.2"), ask(t.Context())); d != "" || calls() != 2 {
		t.Errorf("ResolveMirrors after %d calls of two npms (-want +got):\n%s", calls(), d)
	}
	answer("echo undefined")
	if got := ask(t.Context()); got != nil {
		t.Errorf("ResolveMirrors with an npm that says nothing = %v", got)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	answer("sleep 60")
	if got := ask(over); got != nil {
		t.Errorf("ResolveMirrors of a context that is over = %v", got)
	}
	facts.Npm.Path, facts.Mirrors = "", []Mirror{{Preset: "apt", Host: "10.0.0.3"}}
	if d := cmp.Diff(facts.Mirrors, ask(t.Context())); d != "" {
		t.Errorf("ResolveMirrors of another preset and without npm (-want +got):\n%s", d)
	}
}

// FuzzMirrorFiles: no panic, and nothing of a URL's user is kept.
func FuzzMirrorFiles(f *testing.F) {
	f.Add("registry=https://u:secret@a.example/?t=secret", "GOPROXY=https://u:secret@b.example|off", "[global]\nindex-url=https://u:secret@c.example", "[registries.x]\nindex='sparse+https://u:secret@d.example'")
	f.Add("@a:registry=${X}", "GOSUMDB=a+b c", "[x\n y", "source.crates-io.replace-with='crates-io'")
	f.Fuzz(func(t *testing.T, npmrc, goenv, pip, cargo string) {
		parseNpmrc(npmrc, func(string) string { return "" })
		parseGoEnv(goenv)
		parsePipConf(pip)
		for _, raw := range strings.Fields(npmrc + " " + goenv + " " + pip + " " + cargo) {
			clean := cleanURL(raw)
			if clean == "" {
				continue
			}
			if again := cleanURL(clean); again != clean {
				t.Errorf("cleanURL(%q) = %q, and of that %q", raw, clean, again)
			}
			authority, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(clean, "https://"), "http://"), "/")
			if strings.Contains(authority, "@") || strings.Contains(clean, "?") {
				t.Errorf("cleanURL(%q) = %q; it has a user or a query", raw, clean)
			}
		}
	})
}
