package cli

import (
	"strings"
	"testing"
)

// A terminal is given back wherever the output was cut off, and left alone when
// there was none.
func TestShownTerminal(t *testing.T) {
	var out strings.Builder
	shown := &shownTerminal{to: &out}
	shown.leave()
	if out.Len() > 0 {
		t.Errorf("without output leave() wrote %q", out.String())
	}
	shown.Write([]byte("\x1b[?1049h\x1b[?2004h\x1b]2;cut o"))
	written := out.Len()
	shown.leave()
	got := out.String()[written:]
	for _, want := range []string{"\x18", "\x1b[?1049l", "\x1b[?2004l", "\x1b[23;2t"} {
		if !strings.Contains(got, want) {
			t.Errorf("leave() wrote %q; want %q in it", got, want)
		}
	}
}
