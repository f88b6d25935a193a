package filter

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// filtered returns what a terminal gets of out, which comes in pieces of n bytes.
func filtered(o Options, out string, n int) string {
	var got strings.Builder
	f := New(&got, o)
	for len(out) > n {
		f.Write([]byte(out[:n]))
		out = out[n:]
	}
	f.Write([]byte(out))
	return got.String()
}

// passes are sequences that reach the terminal as they are.
var passes = []string{
	"plain text\r\n\ttab\bback\a", "größe → 日本 🇩🇪", "\x0e\x0f",
	"\x1b[m", "\x1b[0;1;38;5;196m", "\x1b[38:2::1:2:3m", "\x1b[4:3m", "\x1b[58:2::1:2:3m",
	"\x1b[A", "\x1b[10;20H", "\x1b[999;1H", "\x1b[2J", "\x1b[3J", "\x1b[K", "\x1b[5L\x1b[5M\x1b[2P\x1b[2@\x1b[3X",
	"\x1b[3;20r", "\x1b[S\x1b[T", "\x1b[s\x1b[u", "\x1b7\x1b8", "\x1bD\x1bE\x1bM", "\x1bH\x1b[g\x1b[3g", "\x1b=\x1b>", "\x1b(B\x1b(0\x1b)0",
	"\x1b[ q", "\x1b[6 q", "\x1b[80b", "\x1b[4h\x1b[4l",
	"\x1b[?1049h", "\x1b[?1000;1002;1003;1006h", "\x1b[?2004h", "\x1b[?2026h\x1b[?2026l", "\x1b[?25l\x1b[?25h", "\x1b[?12h", "\x1b[?1l",
	"\x1b[>1u\x1b[<u\x1b[=1;2u\x1b[?u", "\x1b[>4;2m\x1b[>4m\x1b[>4;0m",
	"\x1b[c", "\x1b[0c", "\x1b[>c", "\x1b[>0q", "\x1b[5n", "\x1b[6n", "\x1b[14t", "\x1b[16t", "\x1b[18t", "\x1b[?2026$p",
	"\x1b]8;;\a", "\x1b]8;;https://example.org/a?b=c\x1b\\link\x1b]8;;\x1b\\", "\x1b]8;id=1;mailto:a@b\alink\x1b]8;;\a",
	"\x1b]9;4;1;50\a", "\x1b]9;4;0\a", "\x1b]10;?\a", "\x1b]11;?\x1b\\", "\x1b]4;1;?\a", "\x1b]4;1;rgb:11/22/33\a", "\x1b]12;#ff0000\a", "\x1b]112\a", "\x1b]104;1;2\a",
	"\x1b]22;pointer\a", "\x1b]66;w=1; \x1b\\", "\x1b]66;s=2; \x1b\\",
}

func TestPasses(t *testing.T) {
	for _, out := range passes {
		for n := 1; n <= len(out); n++ {
			if got := filtered(Options{}, out, n); got != out {
				t.Errorf("in pieces of %d bytes %q became %q", n, out, got)
			}
		}
	}
}

// dropped never reach the terminal, and leave the text around them.
var dropped = []string{
	// Reports of what the program wrote before.
	"\x1b[20t", "\x1b[21t", "\x1bZ", "\x05", "\x1bP$qm\x1b\\", "\x1bP+q4d73\x1b\\", "\x1b[?6n", "\x1b[=c", "\x1b[x",
	// Windows, printers, files.
	"\x1b[1t", "\x1b[8;1;1t", "\x1b[22;2t", "\x1b[23t", "\x1b[9;1t", "\x1b[i", "\x1b[5i", "\x1b[?5i", "\x1b#8",
	"\x1b]50;fixed\a", "\x1b]46;/tmp/log\a", "\x1b]3;X=1\a", "\x1b]51;x\a", "\x1b]60;x\a", "\x1b]1337;File=name=eA==:eA==\a", "\x1b]1337;Capabilities\a",
	"\x1b]5113;ac=send\a", "\x1b]5522;type=read\x1b\\", "\x1b]21;foreground=?\a", "\x1b]30001\x1b\\", "\x1b]66;w=2;text\a",
	// Directories and shells' marks.
	"\x1b]7;file:///etc\a", "\x1b]133;C\a", "\x1b]633;E;rm -rf\a",
	// Rectangles, protection, margins, languages of their own.
	"\x1b[1;1;2;2;1;1;1;1$v", "\x1b[1\"q", "\x1b[!p", "\x1b[61\"p", "\x1b[?69h", "\x1b[?3h", "\x1b[?1048h", "\x1b[?66h", "\x1b[20h", "\x1b[2h", "\x1b[?1006s", "\x1b[>1t", "\x1b[>2p", "\x1b[1;2;3;4;5T",
	"\x1bPq#0~\x1b\\", "\x1bP1000p\x1b\\", "\x1bPtmux;\x1b\x1b]52;c;?\a\x1b\\", "\x1b_Gi=1,a=q;AAAA\x1b\\", "\x1b^privacy\x1b\\", "\x1bXstring\x1b\\", "\x1bkname\x1b\\", "\x1bP@kitty-cmd{}\x1b\\",
	"\x1b%@", "\x1b%G", "\x1b F", "\x1b G", "\x1bn", "\x1b|", "\x1bl", "\x1b6",
	// The clipboard.
	"\x1b]52;c;?\a", "\x1b]52;c;aGk=\a", "\x1b]52;s0;aGk=\a",
	// C1, in one byte and in two.
	"\u009b20t"[:2], "\u0090"[:2], "\x9b", "\x9d", "\x85", "\u0085",
	// Numbers that terminals have counted wrong with, what is no sequence, what is too long.
	"\x1b[99999999999999A", "\x1b[99999999b", "\x1b[20000b", "\x1b[1 A", "\x1b[1\x01A", "\x1b[\x80A"[:3], "\x1b[1?25h",
	"\x1b[" + strings.Repeat("1;", 3000) + "m", "\x1b]0;" + strings.Repeat("x", 5000) + "\a",
	"\x1b[38;5;999999m", "\x1b]10;evil\x01\a", "\x1b]22;<svg>\a", "\x1b]8", "\x1b]9;9;/etc\a", "\x1b]9;2;box\a", "\x1b]99;i=1:p=?;\x1b\\", "\x1b]99;e=1;!!\a",
}

func TestDropped(t *testing.T) {
	for _, seq := range dropped {
		end := "\x18" // ends what is not ended
		for n := 1; n <= len(seq)+3; n++ {
			if n > 40 {
				n = len(seq)
			}
			if got := filtered(Options{}, "a"+seq+end+"b", n); got != "ab" {
				t.Errorf("in pieces of %d bytes %.60q came through as %q", n, seq, got)
				break
			}
			if n == len(seq) {
				break
			}
		}
	}
}

// What becomes of what is neither passed nor dropped.
func TestChanged(t *testing.T) {
	now := time.Unix(1e9, 0)
	yes := func() bool { return true }
	o := Options{Name: "m", Workspace: "/home/u/p", Clipboard: yes, Now: func() time.Time { return now }}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, tt := range []struct{ out, want string }{
		{"\x1b]0;title\a", "\x1b[22;2t\x1b]0;m: title\a"},
		{"\x1b]2;a\u009b\u202eb\x1b\\", "\x1b[22;2t\x1b]2;m: a  b\x1b\\"},
		{"\x1b]0;\a", "\x1b[22;2t\x1b]0;\a"},
		{"\x1b]0;" + strings.Repeat("é", 200) + "\a", "\x1b[22;2t\x1b]0;m: " + strings.Repeat("é", 128) + "\a"},
		{"\x1b]9;done\a", "\x1b]9;m: done\a"},
		{"\x1b]777;notify;t;b\a", "\x1b]9;m: t: b\a"},
		{"\x1b]99;i=1:d=0;hi\x1b\\", "\x1b]9;m: hi\a"},
		{"\x1b]99;e=1;" + b64("hi\x1b[20t") + "\x1b\\", "\x1b]9;m: hi [20t\a"},
		{"\x1b]8;;ssh://x\alink\x1b]8;;\a", "\x1b]8;;\alink\x1b]8;;\a"},
		{"\x1b]8;;file:///etc/passwd\al", "\x1b]8;;\al"},
		{"\x1b]8;;file:///home/u/p/../../x\al", "\x1b]8;;\al"},
		{"\x1b]8;;file:///home/u/p/a.go\al", "\x1b]8;;file:///home/u/p/a.go\al"},
		{"\x1b]8;;https://u:p@x/\al", "\x1b]8;;\al"},
		{"\x1b]52;c;" + b64("hi") + "\a", "\x1b]52;c;" + b64("hi") + "\a"},
		{"\x1b]52;c;" + b64("a\x1b[201~b\nc") + "\a", "\x1b]52;c;" + b64("a[201~b\nc") + "\a"},
		{"\x1bcx", softReset + "x"},
		{"\x1b[?25;69;2004h", "\x1b[?25;2004h"},
		{"\x1b[?69;3h", ""},
		{"\xe9t\xe9", "\xe9t"}, // Latin-1; the last may begin a character
		{"\xc2\x1b[20t\x9bx", "\xc2x"},
		{"\xe2\x9bx", "\xe2x"},
		{"\x1b]0;a\x1b[31mb", "\x1b[31mb"},
		{"\x1b[3\x1b[31mb", "\x1b[31mb"},
		{"\x1b\x1b[31mb", "\x1b[31mb"},
		{"\x1b[3\n1mtext", "text"},
	} {
		for n := 1; n <= len(tt.out); n++ {
			if got := filtered(o, tt.out, n); got != tt.want {
				t.Errorf("in pieces of %d bytes %.80q became %q, want %q", n, tt.out, got, tt.want)
				break
			}
		}
	}
}

// A flood of questions is no flood of answers.
func TestQueries(t *testing.T) {
	now := time.Unix(1e9, 0)
	var got bytes.Buffer
	f := New(&got, Options{Now: func() time.Time { return now }})
	for range 10000 {
		f.Write([]byte("\x1b[6n"))
	}
	if n := strings.Count(got.String(), "\x1b[6n"); n != maxQueries {
		t.Errorf("%d questions came through in a moment, want %d", n, maxQueries)
	}
	now = now.Add(queryTime)
	if f.Write([]byte("\x1b[c")); !strings.HasSuffix(got.String(), "\x1b[c") {
		t.Error("later a question did not come through")
	}
}

// What a program leaves is taken back, and what was cut off is forgotten.
func TestTidy(t *testing.T) {
	var got bytes.Buffer
	f := New(&got, Options{})
	f.Write([]byte("\x1b[4h\x1b[?12h\x1b]11;#000000\a\x1b]4;1;red\a\x1b]22;wait\a\x1b]0;x\a\x1b]0;cut o"))
	want := "\x1b[4l\x1b[?12l\x1b]111\a\x1b]104\a\x1b[23;2t\x1b]22;default\a"
	if b := string(f.Tidy()); b != want {
		t.Errorf("Tidy() = %q, want %q", b, want)
	}
	got.Reset()
	f.Write([]byte("ff\a"))
	if got.String() != "ff\a" {
		t.Errorf("after it came %q", got.String())
	}
}

// The user's keys are told from the terminal's answers, which a program can ask for.
func TestKeys(t *testing.T) {
	for in, want := range map[string]bool{
		"a": true, "\r": true, "\x1b[A": true, "\x1b[97;5u": true, "\x1b[<0;1;1M": true, "\x1bOP": true, "\x1ba": true, "é": true, "\x1b[200~": true,
		"\x1b[1;1R": false, "\x1b[?62;22c": false, "\x1b[>1;2;3c": false, "\x1b[0n": false, "\x1b[?2026;2$y": false, "\x1b[8;24;80t": false,
		"\x1b[I": false, "\x1b[O": false, "\x1b[?0u": false, "\x1b]11;rgb:0/0/0\a": false, "\x1b]11;rgb:0/0/0\x1b\\": false, "\x1bP>|xterm\x1b\\": false, "": false,
		"\x1b[6;1R\x1b[?1;2cx": true,
	} {
		for n := 1; n <= max(1, len(in)); n++ {
			k := &Keys{Now: func() time.Time { return time.Unix(1e9, 0) }}
			for rest := in; len(rest) > 0; {
				m := min(n, len(rest))
				k.Write([]byte(rest[:m]))
				rest = rest[m:]
			}
			if got := k.Since() < time.Hour; got != want {
				t.Errorf("in pieces of %d bytes %q counts as the user: %v, want %v", n, in, got, want)
			}
		}
	}
}

// harmless is all that may come out, in the form of a grammar that is not the filter's.
var harmless = regexp.MustCompile(`^(?:[\x07-\x0f\x20-\x7e]|[\x{a0}-\x{10ffff}]|` +
	`\x1b[78DEHM=>]|\x1b[()*+][0-~]|` +
	`\x1b\[[0-9:;]*m|\x1b\[[0-9;]*[@A-MPSTXZ` + "`" + `abdefghlrsu]|\x1b\[0*c|\x1b\[0*[56]n|\x1b\[0*1[468]t|\x1b\[2[23];2t|` +
	`\x1b\[\?[0-9;]*[hlJKu]|\x1b\[\?[0-9]+\$p|\x1b\[>0*[cq]|\x1b\[>[0-9;]*[mnu]|\x1b\[<[0-9]*u|\x1b\[=[0-9;]*u|\x1b\[0*[0-6]? q|` +
	`\x1b\](?:[012]|4|8|9|1[01279]|1[01][0-9]|22|66);[^\x00-\x1f\x7f-\x{9f}]*(?:\x07|\x1b\\)|\x1b\]1(?:04|1[0-79])(?:\x07|\x1b\\)|` +
	`\x1b\]52;[cp]*;[A-Za-z0-9+/=]*(?:\x07|\x1b\\))*$`)

// However the output is split, what comes out is the same, and has nothing in it that is
// not allowed.
func FuzzFilter(f *testing.F) {
	for _, s := range passes {
		f.Add([]byte(s), uint8(3))
	}
	for _, s := range dropped {
		f.Add([]byte(s), uint8(2))
	}
	f.Add(bytes.Repeat([]byte("\x1bc"), 6), uint8(2))
	f.Fuzz(func(t *testing.T, out []byte, n uint8) {
		now := time.Unix(1e9, 0)
		o := Options{Clipboard: func() bool { return true }, Now: func() time.Time { return now }}
		whole := filtered(o, string(out), len(out)+1)
		if pieces := filtered(o, string(out), int(n)+1); pieces != whole {
			t.Fatalf("in pieces of %d bytes %q became %q, and whole %q", n+1, out, pieces, whole)
		}
		// A reset, of two bytes, becomes forty, which reset less.
		if len(whole) > 20*len(out)+128 {
			t.Fatalf("%d bytes became %d", len(out), len(whole))
		}
		if utf8.ValidString(whole) && !harmless.MatchString(whole) {
			t.Fatalf("%q came out of %q", whole, out)
		}
	})
}
