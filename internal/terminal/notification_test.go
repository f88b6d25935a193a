package terminal

import (
	"strings"
	"testing"
)

// A notification is in the form of the terminal, and nothing in it ends it.
func TestNotification(t *testing.T) {
	for _, tt := range []struct{ env, want string }{
		{"", "\a"},
		{"TERM=xterm-256color", "\a"},
		{"TERM=xterm-kitty", "\x1b]99;;web: a, b??c\x1b\\"},
		{"TERM=foot", "\x1b]777;notify;web;a, b??c\x1b\\"},
		{"TERM=xterm-256color TERM_PROGRAM=WezTerm", "\x1b]777;notify;web;a, b??c\x1b\\"},
		{"TERM_PROGRAM=iTerm.app", "\x1b]9;web: a, b??c\a"},
		{"TERM=tmux-256color TMUX=/tmp/x TERM_PROGRAM=tmux", "\a"},
		{"TERM=tmux-256color TMUX=/tmp/x VTE_VERSION=7600", "\x1bPtmux;\x1b\x1b]777;notify;web;a, b??c\x1b\x1b\\\x1b\\\a"},
	} {
		env := make(map[string]string)
		for _, kv := range strings.Fields(tt.env) {
			key, value, _ := strings.Cut(kv, "=")
			env[key] = value
		}
		if got := Notification(func(key string) string { return env[key] }, "web", "a; b\x1b\x07c"); got != tt.want {
			t.Errorf("with %s: %q; want %q", tt.env, got, tt.want)
		}
		if got := Notification(func(key string) string { return env[key] }, "web", strings.Repeat("x\x1b", 1<<20)); len(got) > 500 {
			t.Errorf("with %s a long text becomes %d bytes", tt.env, len(got))
		}
	}
}
