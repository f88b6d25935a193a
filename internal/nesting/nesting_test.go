package nesting

import (
	"strings"
	"testing"
)

// Brackets nest, and the dots of TOML's keys do, but not those of strings and comments.
func TestShallow(t *testing.T) {
	for text, want := range map[string]bool{
		"a.b.c = 1": true, "a.b.c.d.e = 1": false, "[a.b.c]\nd.e.f = 1.5\n[a.b.d]": true, "[a.b.c.d]": false,
		"x = { a.b.c = 1, d.e.f = 2 }": true, "x = { a.b.c.d = 1 }": false, "a . b . c . d . e = 1": false,
		`"a.b.c.d.e" = "a.b.c.d.e" # a.b.c.d.e`: true, `'a'."b".c.d.e = 1`: false, "x = [1.5, 2.5, 3.5, 4.5]": true,
		"x = [[[[1]]]]": false, "x = [[[1]]]": true,
	} {
		if got := TOML([]byte(text), 3); got != want {
			t.Errorf("TOML(%q) = %t; want %t", text, got, want)
		}
	}
	if !JSON([]byte(`[1.5, 2.5`+strings.Repeat(".", 9)+`]`), 3) || JSON([]byte("[[[["), 3) {
		t.Error("JSON counts dots, or no brackets")
	}
}
