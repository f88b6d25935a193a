package tomlquote

import (
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func TestString(t *testing.T) {
	for in, want := range map[string]string{
		"":                        `""`,
		`a "b" \c 'd' ü`:          `"a \"b\" \\c 'd' ü"`,
		"\n\t\r\x00\x7f":          `"\n\t\u000D\u0000\u007F"`,
		"\u202e\ue0b0\U000e0041🐱": `"\u202E\uE0B0\U000E0041🐱"`,
		"\xff":                    `"\uFFFD"`,
	} {
		if got := String(in); got != want {
			t.Errorf("String(%q) = %s; want %s", in, got, want)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"a\n\tb\\ \"c\"\n":    "'''\na\n\tb\\ \"c\"\n'''",
		"\n":                  "'''\n\n'''",
		"it's\n":              "'''\nit's\n'''",
		"a'":                  "\"\"\"\na'\"\"\"",
		"'''\n\\ \"\"\"":      "\"\"\"\n'''\n\\\\ \\\"\\\"\\\"\"\"\"",
		"PS1=\ue0b0\n\tb\r\n": "\"\"\"\nPS1=\\uE0B0\n\tb\\u000D\n\"\"\"",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %s; want %s", in, got, want)
		}
	}
}

// FuzzQuote lets go-toml read what was written.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", "a\nb", "\n", "'", "'''", `"""`, `\`, "\r\n", "\x00\x1b\u0085\u202e\ufeff\ufffd", "\xff\xed\xa0\x80", "a\\\n  b", "𝔸"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := string([]rune(s)) // U+FFFD for each byte that is not UTF-8
		for form, quoted := range map[string]string{"String": String(s), "Text": Text(s)} {
			var got struct{ V string }
			if err := toml.Unmarshal([]byte("v = "+quoted+"\n"), &got); err != nil || got.V != want {
				t.Errorf("%s(%q) = %s reads as %q, %v", form, s, quoted, got.V, err)
			}
			if shown := strings.ReplaceAll(quoted, "\t", ""); termsafe.Text(shown) != shown || form == "String" && shown != quoted {
				t.Errorf("%s(%q) = %q can control a terminal", form, s, quoted)
			}
		}
	})
}
