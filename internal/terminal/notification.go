package terminal

import (
	"strings"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// maxNotification bounds a notification in bytes.
const maxNotification = 200

// Notification returns what shows a notification on the terminal that the environment
// tells of, in the terminal's own form. One that knows none rings.
func Notification(getenv func(string) string, title, text string) string {
	plain := func(s string) string {
		// What separates the parts of a notification is in none of them.
		return strings.ReplaceAll(termsafe.Line(termsafe.Clip(s, maxNotification)), ";", ",")
	}
	title, text = plain(title), plain(text)
	sequence := "\a"
	switch program, term := getenv("TERM_PROGRAM"), getenv("TERM"); {
	case getenv("KITTY_WINDOW_ID") != "", strings.Contains(term, "kitty"):
		sequence = "\x1b]99;;" + title + ": " + text + "\x1b\\"
	case program == "ghostty", program == "WezTerm", getenv("VTE_VERSION") != "",
		strings.HasPrefix(term, "foot"), strings.HasPrefix(term, "rxvt"), strings.Contains(term, "ghostty"):
		sequence = "\x1b]777;notify;" + title + ";" + text + "\x1b\\"
	case program == "iTerm.app", getenv("WT_SESSION") != "":
		sequence = "\x1b]9;" + title + ": " + text + "\a"
	}
	if getenv("TMUX") != "" && sequence != "\a" {
		// tmux passes it on if its option allow-passthrough says so, and else drops it.
		sequence = "\x1bPtmux;" + strings.ReplaceAll(sequence, "\x1b", "\x1b\x1b") + "\x1b\\\a"
	}
	return sequence
}
