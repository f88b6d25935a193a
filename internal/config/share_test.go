package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseShare(t *testing.T) {
	for text, want := range map[string]Share{
		"~/x":                           {Source: "~/x"},
		"~":                             {Source: "~"},
		"/a b":                          {Source: "/a b"},
		"/a:ro":                         {Source: "/a", ReadOnly: true},
		"/a:/b":                         {Source: "/a", Path: "/b"},
		"/a:~/b:ro":                     {Source: "/a", Path: "~/b", ReadOnly: true},
		"/ro:/ro/ro:ro":                 {Source: "/ro", Path: "/ro/ro", ReadOnly: true},
		"":                              {},
		":/b":                           {},
		"a":                             {},
		"/a:b":                          {},
		"/a:":                           {},
		"/a:/b:rw":                      {},
		"/a:/b:ro:ro":                   {},
		"/a:ro:/b":                      {},
		"/a\x00":                        {},
		"/" + strings.Repeat("a", 4096): {},
	} {
		got, err := ParseShare(text)
		if !cmp.Equal(got, want) && err == nil || (err == nil) != (want.Source != "") {
			t.Errorf("ParseShare(%.40q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
}

// FuzzParseShare: no panic; what is accepted is read again as itself.
func FuzzParseShare(f *testing.F) {
	for _, s := range []string{"~/x", "/a:ro", "/a:/b:ro", "/a::ro", ":", "/a:/b:/c", "/\xff:ro"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseShare(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x1b\x00") {
				t.Errorf("ParseShare(%q): %q cannot be printed on one line", text, err)
			}
			return
		}
		if again, err := ParseShare(s.String()); err != nil || !cmp.Equal(again, s) {
			t.Errorf("ParseShare(%q) = %+v, which is read as %+v, %v", text, s, again, err)
		}
	})
}
