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
	shown.Leave(true)
	if out.Len() > 0 {
		t.Errorf("without output Leave() wrote %q", out.String())
	}
	shown.Write([]byte("\x1b[?1049h\x1b[?2004h\x1b]2;cut o"))
	written := out.Len()
	shown.Leave(false)
	got := out.String()[written:]
	for _, want := range []string{"\x18", "\x1b[?1049l", "\x1b[?2004l", "\x1b[23;2t"} {
		if !strings.Contains(got, want) {
			t.Errorf("Leave() wrote %q; want %q in it", got, want)
		}
	}
}

// What a program says in one line is seen when it has ended: the terminal is not scrolled.
func TestShownLastWords(t *testing.T) {
	for said, want := range map[string]string{
		"codex-cli 0.169.0\r\n": "",
		"hi":                    "\r\n",
		"hi\x1b[K":              "\r\n",
		"> \x1b[2K\x1b[1G\x1b[?25hdone\r\n\x1b[0m": "",
		"\x1b[10;1H":                       "",
		"\x1b[10;5H":                       "\r\n",
		"a\ttab":                           "\r\n",
		"\x1b[?1049hvim\x1b[?1049lbye\r\n": "",
		"\x1b[?1049hkilled":                "\x1b[999;1H\r\n",
		"\x1b[3;20rmargins":                "\x1b[999;1H\r\n",
	} {
		var out strings.Builder
		shown := NewShown(&out)
		shown.Write([]byte(said))
		written := out.Len()
		shown.Leave(true)
		got := strings.TrimSuffix(out.String()[written:], "\x1b[23;2t")
		end := got[strings.LastIndexByte(got, 0x0f)+1:]
		if strings.Contains(want, "999") != strings.Contains(end, "999") || !strings.HasSuffix(end, want) || want == "" && strings.Contains(end, "\n") {
			t.Errorf("after %q a terminal gets %q; want %q at its end", said, end, want)
		}
	}
}
