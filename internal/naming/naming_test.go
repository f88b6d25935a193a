package naming

import (
	"regexp"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name   string
		ok     bool
		better string
	}{
		{"a", true, ""},
		{"go-protobuf2", true, ""},
		{strings.Repeat("a", 63), true, ""},
		{strings.Repeat("a", 64), false, strings.Repeat("a", 63)},
		{"", false, ""},
		{"-a", false, "a"},
		{"My Project", false, "my-project"},
		{"a.b", false, "a-b"},
		{"..", false, ""},
		{"../x", false, "x"},
		{"a\n", false, "a"},
	}
	for _, tt := range tests {
		err := Check(tt.name)
		better := ""
		if f, ok := fault.Of(err); ok {
			better = f.Args["better"]
		}
		if (err == nil) != tt.ok || better != tt.better {
			t.Errorf("Check(%q) = %v with better %q; want ok %v, better %q", tt.name, err, better, tt.ok, tt.better)
		}
	}
}

// FuzzValid compares the rules with what they are as patterns.
func FuzzValid(f *testing.F) {
	rules := []struct {
		valid   func(string) bool
		pattern *regexp.Regexp
	}{
		{Valid, regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)},
		{ValidProfile, regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)},
		{ValidVolume, regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)},
		{ValidSession, regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)},
	}
	for _, s := range []string{"", "a", "a-", "-a", "é", "a\n", "A", "var", strings.Repeat("a", 32), strings.Repeat("a", 33), strings.Repeat("9", 63), strings.Repeat("9", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for i, rule := range rules {
			if got, want := rule.valid(s), rule.pattern.MatchString(s); got != want {
				t.Errorf("rule %d: %q is valid: %v; want %v", i, s, got, want)
			}
		}
		if better := similar(s); better != "" && !Valid(better) {
			t.Errorf("similar(%q) = %q, which is not valid", s, better)
		}
	})
}
