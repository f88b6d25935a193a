package bundle

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

var example = Bundle{
	Machines: []File{
		{"api", []byte("version = 1\nprofiles = [\"go-work\", \"claude\"]\n\n[workspace]\npath = \"~/src/api\"\n")},
		{"web", []byte("# it's a 'comment'\nversion = 1\n[home]\nshell_init = '''\nexport A=1\n'''\n")},
	},
	Profiles: []File{{"go-work", []byte("\n\nversion = 1\r\n[image]\npackages = [\"jq\"]\t# \"tabs\" and \\ and ü\n")}},
}

func TestEncodeRead(t *testing.T) {
	data, err := example.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(data)
	if d := cmp.Diff(example, got); err != nil || d != "" {
		t.Errorf("Read(Encode) = %v (-want +got)\n%s\n%s", err, d, data)
	}
	turned := Bundle{Machines: []File{example.Machines[1], example.Machines[0]}, Profiles: example.Profiles}
	again, err := turned.Encode()
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("Encode of the files in another order: %v\n%s", err, cmp.Diff(string(data), string(again)))
	}
}

func TestEncodeErrors(t *testing.T) {
	for _, f := range []File{
		{"../x", []byte("version = 1\n")},
		{"x", nil},
		{"x", []byte("version = 1 # \xff")},
		{"x", bytes.Repeat([]byte("#"), 65<<10)},
	} {
		if data, err := (Bundle{Machines: []File{f}}).Encode(); err == nil {
			t.Errorf("Encode(%.40q) = %.200q; want an error", f, data)
		}
	}
}

func TestReadErrors(t *testing.T) {
	data, err := example.Encode()
	if err != nil {
		t.Fatal(err)
	}
	change := func(old, new string) string {
		t.Helper()
		if !strings.Contains(string(data), old) {
			t.Fatalf("the bundle does not hold %q", old)
		}
		return strings.Replace(string(data), old, new, 1)
	}
	tests := []struct{ name, text, want string }{
		{"nothing", "", "it has no `version = 1`"},
		{"a machine's file", "[workspace]\npath = \"x\"\n", "is it a set-up?"},
		{"a page", "<!DOCTYPE html>\n<html>", "read the set-up: line 1: "},
		{"another version", change("version = 1", "version = 2"), "its version is 2"},
		{"a changed content", change("~/src/api", "~/src/evil"), `machine "api": its content is not what its sha256 says`},
		{"a changed hash", change(`sha256 = "`, `sha256 = "0`), "its content is not what its sha256 says"},
		{"no hash", "version = 1\n[[machine]]\nname = \"a\"\ncontent = \"version = 1\"\n", "its content is not what its sha256 says"},
		{"another key", change("[[profile]]", "[[profile]]\nrun = \"rm\""), `line 5: unknown key "profile.run"`},
		{"another table", change("[[profile]]", "[[hook]]"), "unknown key"},
		{"a path as a name", change(`name = "api"`, `name = "../api"`), `machine "../api": is no name for one`},
		{"a name twice", change(`name = "web"`, `name = "api"`), `machine "api": is there twice`},
		{"a large content", "version = 1\n[[machine]]\nname = \"a\"\ncontent = \"" + strings.Repeat("x", 65<<10) + "\"\n", "larger than 64 KiB"},
		{"no machine", "version = 1\n", "it holds no machine"},
		{"too many", "version = 1\n" + strings.Repeat("[[machine]]\nname = \"a\"\n", 65), "more than 64 of [[machine]]"},
		{"too large", strings.Repeat("#", MaxSize+1), "larger than 4 MiB"},
		{"control characters", "version = 1\n\"\\u001b[2J\" = 1\n", `unknown key "\x1b[2J"`},
		{"a wrong type", "version = 1\nmachine = 7\n", "line 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Read([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Read = %v, %v; want %q", b, err, tt.want)
			} else if strings.ContainsAny(err.Error(), "\x1b") {
				t.Errorf("Read: %q is not for a terminal", err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	data, err := example.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("version = 1\n[[machine]]\nname = \"a\"\nsha256 = \"\"\ncontent = '''x'''\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Read(data)
		if err != nil {
			if s := err.Error(); !termsafe.Is(strings.ReplaceAll(s, "\n", "")) {
				t.Errorf("Read: %q is not for a terminal", s)
			}
			return
		}
		again, err := b.Encode()
		if err != nil {
			t.Fatalf("Encode of what was read: %v", err)
		}
		back, err := Read(again)
		if d := cmp.Diff(b, back); err != nil || d != "" {
			t.Errorf("Read(Encode) = %v (-want +got)\n%s", err, d)
		}
	})
}

func TestParseSource(t *testing.T) {
	sum := strings.Repeat("0a", 32)
	tests := []struct {
		text string
		want Source
		err  string
	}{
		{"setup.toml", Source{Kind: SourceFile, Location: "setup.toml"}, ""},
		{"/a b/c:d.toml#sha256=" + sum, Source{Kind: SourceFile, Location: "/a b/c:d.toml", SHA256: sum}, ""},
		{"https://example.org/s.toml?x=y#sha256=" + strings.ToUpper(sum), Source{Kind: SourceURL, Location: "https://example.org/s.toml?x=y", SHA256: sum}, ""},
		{"https://example.org/s.git", Source{Kind: SourceGit, Location: "https://example.org/s.git", Path: "setup.toml"}, ""},
		{"git+https://example.org/s#ref=v1.2&file=a/b.toml&sha256=" + sum, Source{SourceGit, "https://example.org/s", "v1.2", "a/b.toml", sum}, ""},
		{"git+ssh://git@example.org/s", Source{Kind: SourceGit, Location: "ssh://git@example.org/s", Path: "setup.toml"}, ""},
		{"ssh://git@example.org:2222/s#ref=main", Source{Kind: SourceGit, Location: "ssh://git@example.org:2222/s", Ref: "main", Path: "setup.toml"}, ""},
		{"git@example.org:me/s.git", Source{Kind: SourceGit, Location: "git@example.org:me/s.git", Path: "setup.toml"}, ""},
		{"", Source{}, "neither a file nor a URL"},
		{"-x", Source{}, "looks like an option"},
		{"ext::sh -c id", Source{}, "only https:// and ssh:// repositories"},
		{"git+ext::sh", Source{}, "only https:// and ssh:// repositories"},
		{"http://example.org/s.toml", Source{}, "can be changed on its way"},
		{"git://example.org/s.git", Source{}, "can be changed on its way"},
		{"file:///etc/passwd", Source{}, "comes from a file, https:// or a git repository"},
		{"git+file:///x", Source{}, "comes from a file, https:// or a git repository"},
		{"ssh://-oProxyCommand=id/x", Source{}, "is no URL"},
		{"ssh://-x@example.org/x", Source{}, "is no URL"},
		{"https:///x", Source{}, "is no URL"},
		{"https://me:secret@example.org/x", Source{}, "has a user's name or password in it"},
		{"https://token@example.org/x", Source{}, "has a user's name or password in it"},
		{"s.toml#sha256=abc", Source{}, "64 hexadecimal digits"},
		{"s.toml#ref=main", Source{}, "are for a git repository"},
		{"s.toml#md5=1", Source{}, "behind # may stand"},
		{"git+https://example.org/s#ref=--upload-pack=x", Source{}, "is no branch"},
		{"git+https://example.org/s#file=../x", Source{}, "is no file in the repository"},
		{"git+https://example.org/s#file=/etc/passwd", Source{}, "is no file in the repository"},
		{"https://example.org/\x1b[2J", Source{}, "neither a file nor a URL"},
		{strings.Repeat("a", 5000), Source{}, "neither a file nor a URL"},
	}
	for _, tt := range tests {
		got, err := ParseSource(tt.text)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "secret") {
				t.Errorf("ParseSource(%.60q) = %+v, %v; want %q", tt.text, got, err, tt.err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("ParseSource(%.60q) = %+v, %v; want %+v", tt.text, got, err, tt.want)
		}
	}
}

func TestSourceCheck(t *testing.T) {
	data := []byte("version = 1\n")
	for _, tt := range []struct {
		sum string
		ok  bool
	}{{"", true}, {Sum(data), true}, {Sum(nil), false}} {
		if err := (Source{Location: "x", SHA256: tt.sum}).Check(data); (err == nil) != tt.ok {
			t.Errorf("Check with the pin %q = %v; want ok %v", tt.sum, err, tt.ok)
		}
	}
}

func FuzzParseSource(f *testing.F) {
	f.Add("git+https://example.org/s#ref=v1&file=a.toml")
	f.Add("git@example.org:a/b.git")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSource(text)
		if err != nil {
			return
		}
		if strings.HasPrefix(s.Location, "-") || strings.HasPrefix(s.Ref, "-") || strings.HasPrefix(s.Path, "-") || strings.Contains(s.Location, "::") {
			t.Errorf("ParseSource(%q) = %+v: may be taken for an option or a helper", text, s)
		}
	})
}

func TestEncodeControlsNoTerminal(t *testing.T) {
	b := Bundle{Machines: []File{{"m", []byte("version = 1\n# a\u009b2J\u202e\x7f\U000e0041ä\n")}}}
	data, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(string(data), func(r rune) bool { return !unicode.IsGraphic(r) && r != '\n' && r != '\t' }); i >= 0 {
		t.Errorf("Encode() has %q", data[i:])
	}
	got, err := Read(data)
	if d := cmp.Diff(b, got); err != nil || d != "" {
		t.Errorf("Read(Encode()) = %v (-want +got):\n%s", err, d)
	}
}
