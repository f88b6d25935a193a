package terminal

import (
	"strings"
	"testing"
)

// A terminal is given back wherever the output was cut off, and left alone when
// there was none.
func TestShownTerminal(t *testing.T) {
	var out strings.Builder
	shown := NewShown(&out)
	shown.Leave()
	if out.Len() > 0 {
		t.Errorf("without output Leave() wrote %q", out.String())
	}
	shown.Write([]byte("\x1b[?1049h\x1b[?2004h\x1b]2;cut o"))
	written := out.Len()
	shown.Leave()
	got := out.String()[written:]
	for _, want := range []string{"\x18", "\x1b[?1049l", "\x1b[?2004l", "\x1b[23;2t"} {
		if !strings.Contains(got, want) {
			t.Errorf("Leave() wrote %q; want %q in it", got, want)
		}
	}
}
