package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNamedErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"[[volume]]\nname = \"var\"", `f.toml:2: volume: the volume var has no mount, the directory where it appears in the machine`},
		{"[[volume]]\nname = \"a b\"\nmount = \"/var\"", `f.toml:2: volume: "a b" is not a volume's name`},
		{"[[volume]]\nname = \"a\"\nmount = \"/\"", `f.toml:2: volume: mount is "/"`},
		{"[[volume]]\nname = \"a\"\nmount = \"/var/../etc\"", `f.toml:2: volume: mount is "/var/../etc"`},
		{"[[volume]]\nname = \"a\"\nmount = \"/proc/x\"", `f.toml:2: volume: mount is "/proc/x", which a machine does not start without`},
		{"[[volume]]\nname = \"a\"\nmount = \"/a\"\nsize = \"1TiB\"", `f.toml:2: volume.size: is "1TiB"`},
		{"[[volume]]\nname = \"a\"\nmount = \"/a\"\nsize = \"65GiB\"", `f.toml:2: volume.size: is "65GiB"; must be between 16MiB and 64GiB`},
		{"[[volume]]\nname = \"a\"\nmount = \"/a\"\n[[volume]]\nname = \"a\"\nmount = \"/b\"", `f.toml:5: volume: there is a volume a already`},
		{"[[volume]]\nname = \"a\"\nmount = \"/a\"\n[[volume]]\nname = \"b\"\nmount = \"/a\"", `f.toml:5: volume: the volume a is mounted on /a already`},
		{"[[volume]]\nnam = \"a\"", `f.toml:2: volume.nam: unknown key (did you mean "name"?)`},
		{"[workspace]\nclone = [{ ur = \"x\" }]", `f.toml:3: workspace.clone.ur: unknown key (did you mean "url"?)`},
		{"[workspace]\nclone = [\"--upload-pack=x\"]", `f.toml:3: workspace.clone: "--upload-pack=x" is neither`},
		{"[home]\nhistory = \"long\"", `f.toml:3: home.history: must be true or false, not the string "long"`},
		{"[home]\ndotfiles = [\"dots\"]", `f.toml:3: home.dotfiles: "dots" must be a directory`},
	}
	for _, tt := range tests {
		_, err := Load(Sources{Files: []File{file("f.toml", "version = 1\n"+tt.text)}})
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("Load(%q) = %v; want %s", tt.text, err, tt.want)
		}
	}
}

// A machine's file may have been written by an agent, or elsewhere.
func TestPortableFileCarriesNoCommand(t *testing.T) {
	const text = "version = 1\n[secrets.TOKEN]\nfrom = \"cmd:touch /tmp/x\"\nhosts = [\"example.org\"]"
	f := file("f.toml", text)
	if _, err := Load(Sources{Files: []File{f}}); err != nil {
		t.Fatal(err)
	}
	f.Portable = true
	const want = "f.toml:3: secrets.TOKEN.from: is a command for this computer"
	if _, err := Load(Sources{Files: []File{f}}); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Load = %v; want %s", err, want)
	}
}

// Nor does it send secrets of the user's own elsewhere.
func TestPortableFileRedirectsNoSecret(t *testing.T) {
	user := file("config.toml", "version = 1\n[secrets.TOKEN]\nfrom = \"cmd:pass show token\"\nhosts = [\"example.org\"]")
	for _, text := range []string{"hosts = [\"evil.example\"]", "foreign_credentials = \"allow\"", "from = \"env:TOKEN\""} {
		f := file("f.toml", "version = 1\n[secrets.TOKEN]\n"+text)
		f.Portable = true
		const want = "f.toml:3: secrets.TOKEN."
		if _, err := Load(Sources{Files: []File{user, f}}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Load(%s) = %v; want %s…", text, err, want)
		}
	}
	own := file("f.toml", "version = 1\n[secrets.TOKEN]\nfrom = \"env:TOKEN\"\nhosts = [\"example.org\"]")
	own.Portable = true
	if _, err := Load(Sources{Files: []File{user, own}}); err != nil {
		t.Error(err)
	}
}

// What is written is what is read.
func TestEncode(t *testing.T) {
	settings := []Setting{
		{Key: "profiles", Value: []string{"go", "claude"}},
		{Key: "machine.vcpus", Value: int64(4)},
		{Key: "machine.memory", Value: "4GiB"},
		{Key: "machine.autostart", Value: true},
		{Key: "image.packages", Value: []string{"jq"}},
		{Key: "image.packages", Value: []string{"fzf"}},
		{Key: "workspace.path", Value: "~/microvm/a b"},
		{Key: "workspace.clone", Value: []any{map[string]any{"url": "https://example.org/a.git", "ref": "v1"}}},
		{Key: "volume", Value: []string{"var:/var:12GiB", "cache:~/.cache"}},
		{Key: "share", Value: []string{"~/agents", "/srv/data:~/data:ro"}},
		{Key: "network.allow", Value: []string{"example.org", "*.golang.org"}},
		{Key: "home.shell_init", Value: "export A=1\nexport B='\"'\n"},
		{Key: "env.QUOTED", Value: "a\"b\\c$$d\n\x01ä"},
		{Key: "secrets.TOKEN.from", Value: "env:TOKEN"},
		{Key: "secrets.TOKEN.hosts", Value: []string{"example.org"}},
	}
	data, err := Encode("A machine.\nIts second line.", settings)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(Sources{Files: []File{{Path: "f.toml", Data: data, Portable: true}}})
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	want, err := Load(Sources{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Load(Encode(s)) differs from Load(s) (-want +got):\n%s\n%s", d, data)
	}
	if !strings.HasPrefix(string(data), "# A machine.\n# Its second line.\nversion = 1\nprofiles = [\"go\", \"claude\"]\n\n[machine]\n") {
		t.Errorf("Encode:\n%s", data)
	}
}

// A proxy is the user's own: it has no password in a file, and no file of another's names
// one.
func TestProxy(t *testing.T) {
	for text, want := range map[string]bool{
		"none": true, "http://proxy.example:3128": true, "https://proxy.example": true, "socks5://127.0.0.1:1080": true,
		"": false, "proxy.example:3128": false, "http://user:s3cret@proxy.example": false, "ftp://proxy.example": false,
		"http://": false, "http://s3cret@%zz": false, "http://proxy.example/path": false,
	} {
		for _, portable := range []bool{false, true} {
			data := fmt.Appendf(nil, "version = 1\n[network]\nproxy = %q\n", text)
			c, err := Load(Sources{Files: []File{{Path: "f.toml", Data: data, Portable: portable}}})
			if ok := want && (!portable || text == "none"); (err == nil) != ok || ok && c.Network.Proxy != text || err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("proxy = %q, portable %v: %q, %v; want %v", text, portable, c.Network.Proxy, err, ok)
			}
		}
	}
}

// Only the user's own file says what goes from their terminal into a machine.
func TestAttachIsTheUsersAlone(t *testing.T) {
	text := []byte("version = 1\n[attach]\npaste_pictures = false\n")
	if cfg, err := Load(Sources{Files: []File{{Path: "config.toml", Data: text, Own: true}}}); err != nil || cfg.Attach.PastePictures {
		t.Errorf("Load() = %+v, %v; want no pictures", cfg.Attach, err)
	}
	for _, f := range []File{{Path: "mayfly.toml", Data: text}, {Path: "m.toml", Data: text, Portable: true}} {
		if _, err := Load(Sources{Files: []File{f}}); err == nil || !strings.Contains(err.Error(), "only config.toml can") {
			t.Errorf("of %s the error is %v", f.Path, err)
		}
	}
}

// Only the user's own file says how changes are judged: a project's, a machine's and a
// profile could judge what comes out of them.
func TestReviewIsTheUsersAlone(t *testing.T) {
	text := []byte("version = 1\n[review]\nmax_memory = \"1GiB\"\nordinary = [\"Makefile\"]\nbuilds = [\"deploy/*.sh\"]\nruns = [\"bin/**\"]\nsuspicious = [\"*.pem\"]\n")
	cfg, err := Load(Sources{Files: []File{{Path: "config.toml", Data: text, Own: true}}})
	want := Review{1024, []string{"Makefile"}, []string{"deploy/*.sh"}, []string{"bin/**"}, []string{"*.pem"}}
	if err != nil || !reflect.DeepEqual(cfg.Review, want) {
		t.Errorf("Load() = %+v, %v; want %+v", cfg.Review, err, want)
	}
	const why = "only config.toml can"
	for _, f := range []File{{Path: "mayfly.toml", Data: text}, {Path: "m.toml", Data: text, Portable: true}} {
		if _, err := Load(Sources{Files: []File{f}}); err == nil || strings.Count(err.Error(), why) != 5 {
			t.Errorf("of %s the error is %v, want five that say %q", f.Path, err, why)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.toml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	own := File{Path: "config.toml", Data: []byte("version = 1\nprofiles = [\"p\"]\n"), Own: true}
	if _, err := Load(Sources{Files: []File{own}, ProfileDir: dir}); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("of a profile the error is %v, want one that says %q", err, why)
	}
	for _, path := range []string{"*.go", "/etc", "../x", "a//b"} {
		bad := File{Path: "config.toml", Data: []byte("version = 1\n[review]\nordinary = [\"" + path + "\"]\n"), Own: true}
		if _, err := Load(Sources{Files: []File{bad}}); err == nil {
			t.Errorf("review.ordinary takes %q", path)
		}
	}
}
