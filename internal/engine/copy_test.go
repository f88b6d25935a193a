package engine

import "testing"

// Paths in a machine begin where scp's do.
func TestGuestPath(t *testing.T) {
	for name, want := range map[string]string{
		"":              "/home/dev/",
		".":             "/home/dev/.",
		"~":             "/home/dev",
		"~/":            "/home/dev/",
		"~/.claude/":    "/home/dev/.claude/",
		"a/b":           "/home/dev/a/b",
		".cache":        "/home/dev/.cache",
		"/etc/hostname": "/etc/hostname",
		"~root/x":       "/home/dev/~root/x",
		"a/~/b":         "/home/dev/a/~/b",
	} {
		if got := guestPath("/home/dev", name); got != want {
			t.Errorf("guestPath(%q) = %q; want %q", name, got, want)
		}
	}
}
