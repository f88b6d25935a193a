package apt

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReadMirrors(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  Mirrors
	}{
		{"none", nil, Mirrors{}},
		{
			"debian 12 container",
			map[string]string{"sources.list.d/debian.sources": `Types: deb
# http://snapshot.example/archive/debian/20250520T000000Z
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`},
			Mirrors{"http://mirror.example/debian", "http://mirror.example/debian-security"},
		},
		{
			"one-line format with options, comments and cdrom",
			map[string]string{"sources.list": `
# deb http://old.example/debian trixie main
deb cdrom:[Debian GNU/Linux 13 _Trixie_]/ trixie main
deb-src http://src.example/debian trixie main
deb [ arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ] https://near.example/debian/ trixie main contrib # near
deb [trusted=yes] http://near.example/debian-security trixie-security main
`},
			Mirrors{"https://near.example/debian", "http://near.example/debian-security"},
		},
		{
			"other archives whose suites are named after Debian's",
			map[string]string{
				"sources.list.d/a.list":    "deb [signed-by=/usr/share/keyrings/hashicorp.gpg] https://apt.other.example bookworm main\n",
				"sources.list.d/b.sources": "types: deb\nuris: https://third.example/apt\nsuites: bookworm\ncomponents: main\n",
				"sources.list.d/c.list":    "deb https://docker.example/linux/debian bookworm stable\n",
				"sources.list.d/d.sources": "Types: deb\nURIs: https://deb.example/debian\nSuites: bookworm\nComponents: main\n",
			},
			Mirrors{Archive: "https://deb.example/debian"},
		},
		{
			"ubuntu",
			map[string]string{"sources.list.d/ubuntu.sources": "Types: deb\nURIs: http://u.example/ubuntu\nSuites: noble noble-updates\nComponents: main universe\n"},
			Mirrors{},
		},
		{
			"disabled stanza, inline key, second stanza used, other file names ignored",
			map[string]string{
				"sources.list.d/x.sources": `Enabled: no
Types: deb
URIs: http://no.example/debian
Suites: trixie
Components: main

Types: deb deb-src
URIs: http://yes.example/debian
Suites: trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
`,
				"sources.list.d/y.sources.bak": "Types: deb\nURIs: http://bak.example/debian\nSuites: trixie\nComponents: main\n",
			},
			Mirrors{Archive: "http://yes.example/debian"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := ReadMirrors(dir); got != tt.want {
				t.Errorf("ReadMirrors = %+v; want %+v", got, tt.want)
			}
		})
	}
}

func TestParseMirrors(t *testing.T) {
	want := Mirrors{"http://mirror.example/debian", "http://mirror.example/debian-security"}
	for _, text := range []string{
		"deb http://mirror.example/debian trixie main\n" +
			"deb http://mirror.example/debian trixie-updates main\n" +
			"deb http://mirror.example/debian-security trixie-security main\n\n",
		"Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie trixie-updates\nComponents: main\n\n" +
			"Types: deb\nURIs: http://mirror.example/debian-security\nSuites: trixie-security\nComponents: main\n",
		"deb http://mirror.example/debian trixie main\n\n" +
			"Types: deb\nURIs: http://mirror.example/debian-security\nSuites: trixie-security\nComponents: main\n",
	} {
		if got := ParseMirrors(text); got != want {
			t.Errorf("ParseMirrors(%q) = %+v; want %+v", text, got, want)
		}
	}
	if got := ParseMirrors("I: nothing to see\n"); got != (Mirrors{}) {
		t.Errorf("ParseMirrors of no sources = %+v; want none", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("deb [a=b] http://x/debian bookworm main\n")
	f.Add("Types: deb\nURIs: http://x\n y\n\n#c\n")
	f.Add("deb [")
	f.Fuzz(func(t *testing.T, text string) {
		ParseMirrors(text)
		parseDepends(text)
		if files, err := parseURIs(text); err == nil {
			for _, x := range files {
				if x.name != filepath.Base(x.name) {
					t.Errorf("parseURIs gives the file name %q", x.name)
				}
			}
		}
	})
}
