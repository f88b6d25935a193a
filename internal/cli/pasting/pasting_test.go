package pasting

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/cli/hint"
)

const png = "\x89PNG\r\n\x1a\nrest"

func TestNewItem(t *testing.T) {
	for _, tt := range []struct{ source, data, want string }{
		{"", png, "png"},
		{"a.txt", png, "png"},
		{"a.PNG", "no picture", "txt"},
		{"", "\xff\xd8\xff\xe0", "jpg"},
		{"", "GIF89a", "gif"},
		{"", "RIFF\x00\x00\x00\x00WEBPVP8 ", "webp"},
		{"", "RIFF\x00\x00\x00\x00WAVE", "bin"},
		{"x", "%PDF-1.7", "pdf"},
		{"/a/notes.Md", "# text", "md"},
		{"/a/x.tar.gz", "\x1f\x8b", "gz"},
		{"/a/x.$(reboot)", "text", "txt"},
		{"/a/x.é", "text", "txt"},
		{"/a/x.averyverylongone", "a\x00b", "bin"},
		{"/a.b/x", "\xff", "bin"},
		{"", "plain", "txt"},
	} {
		if got := NewItem(tt.source, []byte(tt.data)).Extension; got != tt.want {
			t.Errorf("NewItem(%q, %q) has the extension %q; want %q", tt.source, tt.data, got, tt.want)
		}
	}
}

// fake puts a program into PATH that has on the clipboard what content maps its types to.
func fake(t *testing.T, program string, content map[string]string) (getenv func(string) string) {
	dir := t.TempDir()
	var types []string
	for kind, data := range content {
		types = append(types, kind)
		if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(kind, "/", "_")), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`#!/bin/sh
for kind; do :; done
case $kind in
--list-types|TARGETS) printf '%%s' '%[1]s'; [ -n '%[1]s' ] || exit 1;;
*) cat "%[2]s/$(echo "$kind" | tr / _)";;
esac
`, strings.Join(types, "\n"), dir)
	if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return variables{"WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":0"}.get
}

type variables map[string]string

func (v variables) get(name string) string { return v[name] }

func TestClipboard(t *testing.T) {
	files := t.TempDir()
	write := func(name, data string) string {
		p := filepath.Join(files, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	picture, key := write("a b.png", png), write(".ssh/id", "secret")
	if err := os.Symlink(key, filepath.Join(files, "link")); err != nil {
		t.Fatal(err)
	}
	list := func(paths ...string) string {
		var b strings.Builder
		for _, p := range paths {
			b.WriteString("file://" + strings.ReplaceAll(p, " ", "%20") + "\r\n")
		}
		return b.String()
	}
	for _, tt := range []struct {
		name    string
		content map[string]string
		want    string // of each item its extension and its length; or the error
	}{
		{"a picture before all else", map[string]string{"text/plain": "t", "text/uri-list": list(picture), "image/png": png}, "png 12"},
		{"another picture", map[string]string{"text/html": "<img>", "image/jpeg": "\xff\xd8\xff"}, "jpg 3"},
		{"none under that name", map[string]string{"image/png": "text"}, "what is on the clipboard as image/png is none"},
		{"files", map[string]string{"text/uri-list": "# comment\r\n" + list(picture, picture), "text/plain": "a"}, "png 12, png 12"},
		{"a link of a browser", map[string]string{"text/uri-list": "https://example.org/a.png\n", "text/plain": "https://example.org/a.png"}, "txt 25"},
		{"a path as a text stays a text", map[string]string{"text/plain": picture}, fmt.Sprint("txt ", len(picture))},
		{"a hidden file", map[string]string{"text/uri-list": list(key)}, "is hidden"},
		{"a link to one", map[string]string{"text/uri-list": list(filepath.Join(files, "link"))}, "is hidden"},
		{"one that is not there", map[string]string{"text/uri-list": list(filepath.Join(files, "none"))}, "no such file"},
		{"a directory", map[string]string{"text/uri-list": list(files)}, "not a regular file"},
		{"too many", map[string]string{"text/uri-list": strings.Repeat(list(picture), maxFiles+1)}, "17 files on the clipboard"},
		{"a text", map[string]string{"text/plain;charset=utf-8": "grüße", "STRING": "gr?e"}, "txt 7"},
		{"too much", map[string]string{"text/plain": strings.Repeat("x", MaxBytes+1)}, "has more than 32768 KiB"},
		{"an empty text", map[string]string{"text/plain": ""}, "there is nothing on the clipboard"},
		{"nothing", nil, "there is nothing on the clipboard"},
		{"something else", map[string]string{"application/x-colour": "red"}, "there is neither a picture, nor a file, nor a text"},
	} {
		for _, program := range []string{"wl-paste", "xclip"} {
			t.Run(tt.name+" by "+program, func(t *testing.T) {
				getenv := fake(t, program, tt.content)
				items, err := Clipboard(t.Context(), getenv)
				if err != nil {
					if !strings.Contains(err.Error(), tt.want) {
						t.Errorf("Clipboard() = %v; want %s", err, tt.want)
					}
					return
				}
				var got []string
				for _, i := range items {
					got = append(got, fmt.Sprint(i.Extension, " ", len(i.Data)))
				}
				if s := strings.Join(got, ", "); s != tt.want {
					t.Errorf("Clipboard() = %s; want %s", s, tt.want)
				}
			})
		}
	}
}

// Without a clipboard, or what reads it, the error says what to do.
func TestNoClipboard(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, tt := range []struct {
		env  variables
		want string
	}{
		{nil, "mayfly paste NAME FILE"},
		{variables{"WAYLAND_DISPLAY": "w", "DISPLAY": ":0"}, "sudo apt install wl-clipboard, or mayfly paste NAME FILE"},
		{variables{"DISPLAY": ":0"}, "sudo apt install xclip, or mayfly paste NAME FILE"},
	} {
		if _, err := Clipboard(t.Context(), tt.env.get); hint.Of(err) != tt.want {
			t.Errorf("with %v: %v, hint %q; want %q", tt.env, err, hint.Of(err), tt.want)
		}
	}
}

// Only files of this host are taken from a list of URLs, by absolute and clean paths.
func FuzzFilePaths(f *testing.F) {
	f.Add("file:///a/b.png\r\nfile://localhost/c\n# x\nfile://elsewhere/d\nhttps://e/f\nfile:///a/../%2e%2e/g%00\nfile:h")
	f.Fuzz(func(t *testing.T, list string) {
		paths := filePaths(list)
		if len(paths) > strings.Count(list, "file:") && len(paths) > strings.Count(strings.ToLower(list), "file:") {
			t.Errorf("%q are more than %q has", paths, list)
		}
		for _, p := range paths {
			if !filepath.IsAbs(p) || filepath.Clean(p) != p {
				t.Errorf("%q of %q is no clean absolute path", p, list)
			}
		}
	})
}

func TestFilePaths(t *testing.T) {
	list := "# x\nfile:///a/b%20c.png\r\nfile://localhost/c\nfile://elsewhere/d\nhttps://e/f\nfile:h\nfile:///i?j\nfile:///%zz\n/k\n\n"
	if got := fmt.Sprintf("%q", filePaths(list)); got != `["/a/b c.png" "/c"]` {
		t.Errorf("filePaths(%q) = %s", list, got)
	}
}
