package screen

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// written writes text to s in pieces of n bytes and returns all that it came to.
func written(s *Screen, text string, n int) Output {
	var sum Output
	for len(text) > 0 {
		k := min(n, len(text))
		out := s.Write([]byte(text[:k]))
		text = text[k:]
		sum.All = append(sum.All, out.All...)
		sum.Shown = append(sum.Shown, out.Shown...)
		sum.Only = append(sum.Only, out.Only...)
		sum.Queries = append(sum.Queries, out.Queries...)
		sum.Bell = sum.Bell || out.Bell
		if out.Notice != "" {
			sum.Notice = out.Notice
		}
	}
	return sum
}

func TestScreenWrite(t *testing.T) {
	for _, tt := range []struct {
		name, in, shown string
		want            Output // beside All and Shown
		title           string
	}{
		{name: "text", in: "a\r\nä日\x1b[1;31mred\x1b[0m", shown: "a\r\nä日\x1b[1;31mred\x1b[0m"},
		{name: "bell", in: "a\ab", shown: "ab", want: Output{Bell: true}},
		{name: "title, whose BEL is no bell", in: "\x1b]2;tï\atle\a", shown: "\x1b]2;tï\atle", want: Output{Bell: true}, title: "tï"},
		{name: "title with ST", in: "\x1b]0;a\x1b\\b", shown: "\x1b]0;a\x1b\\b", title: "a"},
		{name: "title with controls", in: "\x1b]0;a\nb\x01\u202ec\a", shown: "\x1b]0;a\nb\x01\u202ec\a", title: "a b  c"},
		{name: "link", in: "\x1b]8;;https://x\x1b\\x\x1b]8;;\a", shown: "\x1b]8;;https://x\x1b\\x\x1b]8;;\a"},
		{name: "notification", in: "\x1b]9;done\a", want: Output{Notice: "done"}},
		{name: "progress is none", in: "\x1b]9;4;1;50\a"},
		{name: "notification of urxvt", in: "\x1b]777;notify;Claude;asks\x1b\\", want: Output{Notice: "Claude: asks"}},
		{name: "notification of kitty", in: "\x1b]99;i=1;Hello\x1b\\", want: Output{Notice: "Hello"}},
		{name: "clipboard", in: "\x1b]52;c;aGk=\ax", shown: "x"},
		{name: "colour asked for", in: "\x1b]11;?\ax", shown: "x"},
		{name: "questions", in: "\x1b[c\x1b[0c\x1b[5n\x1b[6n\x1b[>q\x1b[?u\x1b[>c\x1bZ\x1b[?2026$p\x05x", shown: "x", want: Output{Queries: []Query{QueryAttributes, QueryAttributes, QueryStatus, QueryCursor}}},
		{name: "window", in: "\x1b[18t\x1b[8;50;100tx", shown: "x"},
		{name: "scrolled lines stay", in: "\x1b[2J\x1b[3J\x1b[H", shown: "\x1b[2J\x1b[H"},
		{name: "picture", in: "\x1bPq#0\x1b\\\x1b_Gf=100;AAAA\x1b\\x", shown: "x"},
		{name: "cancelled", in: "\x1b[31\x18x\x1b]2;t\x1ay", shown: "xy"},
		{name: "begun anew", in: "\x1b[31\x1b[1mx\x1b]2;t\x1b[0my", shown: "\x1b[1mx\x1b[0my"},
		{name: "C1 as characters", in: "a\u009b6nb\u00a0", shown: "a6nb\u00a0"},
		{name: "C2 before a sequence", in: "a\xc2\x1b[1mb\xc2c\xc2\xc2\xa0", shown: "a\xc2\x1b[1mb\xc2c\xc2\xc2\xa0"},
		{name: "long text is not kept", in: "\x1b]52;c;" + strings.Repeat("A", 3*maxSequence) + "\ax", shown: "x"},
		{name: "long and begun anew", in: "\x1b]52;" + strings.Repeat("A", maxSequence) + "\x1b[31my\x1b[1mx", shown: "y\x1b[1mx"},
		{name: "long control sequence", in: "\x1b[" + strings.Repeat("1;", maxSequence) + "mx", shown: "x"},
	} {
		for _, n := range []int{1 << 20, 1, 3} {
			var s Screen
			got := written(&s, tt.in, n)
			if string(got.All) != tt.in {
				t.Errorf("%s, by %d: All = %.200q; want %.200q", tt.name, n, got.All, tt.in)
			}
			if string(got.Shown) != tt.shown {
				t.Errorf("%s, by %d: Shown = %.200q; want %.200q", tt.name, n, got.Shown, tt.shown)
			}
			got.All, got.Shown, got.Only = nil, nil, nil
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("%s, by %d: -want +got:\n%s", tt.name, n, d)
			}
			if s.Title() != tt.title {
				t.Errorf("%s, by %d: Title() = %q; want %q", tt.name, n, s.Title(), tt.title)
			}
		}
	}
}

// A second terminal gets the modes of the first, and the first loses them.
func TestScreenModes(t *testing.T) {
	const begin, end = "\x1b[0m\x1b(B\x0f", "\x1b[999;1H\r\n"
	for _, tt := range []struct{ name, in, enter, leave string }{
		{"nothing", "", "\n\n\x1b[H\x1b[2J", ""},
		{"alternate screen", "shell\x1b[?1049hx", "\x1b[?1049h\x1b[H\x1b[2J", "\x1b[?1049l"},
		{"and back", "\x1b[?1049hx\x1b[?1049l", "\n\n\x1b[H\x1b[2J", ""},
		{"paste, mouse, cursor", "\x1b[?2004h\x1b[?1000;1006h\x1b[?25l\x1b[?1h\x1b=", "\n\n\x1b[H\x1b[2J\x1b=\x1b[?1h\x1b[?1000h\x1b[?1006h\x1b[?25l\x1b[?2004h", "\x1b[?1l\x1b[?1000l\x1b[?1006l\x1b[?25h\x1b[?2004l\x1b>"},
		{"keyboard", "\x1b[>1u\x1b[>5u\x1b[=2;2u\x1b[>4;2m", "\n\n\x1b[H\x1b[2J\x1b[>4;2m\x1b[>1u\x1b[>7u", "\x1b[<2u\x1b[>4;0m"},
		{"keyboard, popped", "\x1b[>1u\x1b[<u\x1b[<9u\x1b[>4m", "\n\n\x1b[H\x1b[2J", ""},
		{"keyboards of both screens", "\x1b[>1u\x1b[?1049h\x1b[>3u", "\x1b[?1049h\x1b[H\x1b[2J\x1b[>3u", "\x1b[<1u\x1b[?1049l\x1b[<1u"},
		{"shape and margins", "\x1b[5 q\x1b[3;20r", "\n\n\x1b[H\x1b[2J\x1b[3;20r\x1b[5 q", "\x1b[0 q\x1b[r"},
		{"reset", "\x1b[?1049h\x1b[?2004h\x1b=\x1bc", "\n\n\x1b[H\x1b[2J", ""},
		{"soft reset", "\x1b[?1h\x1b[?25l\x1b[3;20r\x1b[!p", "\n\n\x1b[H\x1b[2J", ""},
	} {
		var s Screen
		s.Write([]byte(tt.in))
		if got := s.modes.enter(2); got != begin+tt.enter {
			t.Errorf("%s: enter() = %q; want %q", tt.name, got, begin+tt.enter)
		}
		if got := string(s.Leave()); got != begin+tt.leave+end {
			t.Errorf("%s: Leave() = %q; want %q", tt.name, got, begin+tt.leave+end)
		}
		// Whoever follows the replay comes to the same.
		var other Screen
		other.Write(s.Replay(2))
		if d := cmp.Diff(s.modes.changed, other.modes.changed); d != "" {
			t.Errorf("%s: the modes after Replay() differ: %s", tt.name, d)
		}
		other.Write(s.Leave())
		if other.modes.changed != (modes{}).changed || other.modes.kitty[0].depth != 0 {
			t.Errorf("%s: after Leave() the modes are %+v", tt.name, other.modes)
		}
	}
}

func TestScreenLeavesSequence(t *testing.T) {
	var s Screen
	s.Write([]byte("\x1b]2;cut o"))
	if got := s.Leave(); got[0] != 0x18 {
		t.Errorf("Leave() = %q; want CAN first", got)
	}
}

// A replay begins where the screen was last empty.
func TestScreenReplay(t *testing.T) {
	filler := strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n", 1024) // 64 KiB
	for _, tt := range []struct {
		name, in, want string // want is the end of the replay, after the modes
	}{
		{"all of little", "hello\r\n", "\x1b[2Jhello\r\n"},
		{"since cleared", "old\x1b[H\x1b[2Jnew", "\x1b[2J\x1b[2Jnew"},
		{"since the alternate screen", "old\x1b[?1049hnew", "\x1b[2J\x1b[?1049hnew"},
		{"the main screen again", "main\x1b[?1049hother\x1b[2Jx\x1b[?1049l", "\x1b[2Jmain\x1b[?1049hother\x1b[2Jx\x1b[?1049l"},
		{"bells and questions not again", "a\a\x1b[6n\x1b]9;n\ab", "\x1b[2Jab"},
		{"title", "a\x1b]2;t\ab", "a\x1b]2;t\ab\x1b]2;t\a"},
		{"since cleared, long ago", "old\x1b[2J" + filler + "new", "\x1b[2J\x1b[2J" + filler + "new"},
	} {
		var s Screen
		s.Write([]byte(tt.in))
		if got := string(s.Replay(1)); !strings.HasSuffix(got, tt.want) {
			t.Errorf("%s: Replay() = …%.100q; want …%.100q", tt.name, got, tt.want)
		}
	}

	// What was forgotten is not made up for, but the modes are those of then.
	var s Screen
	s.Write([]byte("\x1b[?2004h\x1b[2Jfirst"))
	for range 16 {
		s.Write([]byte(filler))
	}
	s.Write([]byte("\x1b[?2004llast"))
	got := s.Replay(1)
	if len(got) < historySize-2*markEvery || len(got) > historySize+historySlack+1000 {
		t.Errorf("Replay() has %d bytes; want about %d", len(got), historySize)
	}
	if bytes.Contains(got, []byte("first")) || !bytes.Contains(got, []byte("\x1b[?2004llast")) || !bytes.Contains(got[:100], []byte("\x1b[?2004h")) {
		t.Errorf("Replay() = %.100q…", got)
	}
	if n := len(s.history.marks); n > (historySize+historySlack)/markEvery+2 {
		t.Errorf("%d marks are kept", n)
	}
}

// Whatever the output: nothing of it is lost, what is kept is bounded and asks
// nothing, and a terminal that follows the replay ends with the same modes.
func FuzzScreen(f *testing.F) {
	for _, seed := range []string{
		"hello\r\n\x1b[1;31mred\x1b[0m", "\x1b[?1049h\x1b[2J\x1b[H\x1b[?25l\x1b[?2004hx\x1b[?1049l", "\x1b]2;title\a\x1b]9;note\x1b\\\a",
		"\x1b[c\x1b[6n\x1b[>q\x05\x1bZ", "\x1bPq\x1b\\\x1b_G\x1b\\\x1b]52;c;QQ==\a", "\x1b[>1u\x1b[=3;2u\x1b[<u\x1b[>4;2m\x1b[?u", "\xc2\x9b6n\xc2\xa0\xc2",
		"\x1b[99999999999999999999;;;:::m\x1b[1;2;3;4;5;6;7;8;9;10;11;12;13;14;15;16;17;18h", "\x1b]2;\x1b\x1b\\\x18\x1a\x1b\x1b[", "\x1b[!p\x1bc\x1b[2J\x1b[3J\x1b[5;3r",
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		var s Screen
		out := written(&s, string(data), int(piece)+1)
		all := append(out.All, s.seq...)
		if s.state == ground || s.overlong {
			all = out.All
		}
		if !bytes.Equal(all, data) {
			t.Errorf("of %q came %q", data, all)
		}
		if len(s.title) > maxText*3 || len(out.Notice) > maxText*3 || len(s.seq) > maxSequence {
			t.Errorf("too much is kept of %q", data)
		}
		var whole Screen
		one := whole.Write(data)
		if !bytes.Equal(one.Shown, out.Shown) {
			t.Errorf("in one piece %q is shown as %q; in pieces as %q", data, one.Shown, out.Shown)
		}
		replay := s.Replay(24)
		var other Screen
		again := other.Write(replay)
		if len(again.Queries) > 0 || again.Bell || again.Notice != "" {
			t.Errorf("Replay() of %q asks, rings or notifies: %q", data, replay)
		}
		if other.modes.changed != s.modes.changed {
			t.Errorf("Replay() of %q leads to other modes: %q", data, replay)
		}
		other.Write(s.Leave())
		if other.modes.changed != (modes{}).changed {
			t.Errorf("Leave() of %q leaves modes", data)
		}
	})
}
