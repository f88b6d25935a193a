package grid

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly/internal/terminal/screen"
)

// What xterm shows.
func TestGrid(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"text", "ab\r\ncd", "ab\ncd"},
		{"wraps at the end", "0123456789ab", "0123456789\nab"},
		{"only when more comes", "0123456789\r\nab", "0123456789\nab"},
		{"does not wrap", "\x1b[?7l0123456789ab", "012345678b"},
		{"scrolls", "1\r\n2\r\n3\r\n4\r\n5", "2\n3\n4\n5"},
		{"scrolls in margins", "1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3;1H\nx", "1\n3\nx\n4"},
		{"back in margins", "1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[2;1H\x1bMx", "1\nx\n2\n4"},
		{"origin", "\x1b[2;3r\x1b[?6h\x1b[9;2Hx\x1b[?6l\x1b[4;1Hy", "\n\n x\ny"},
		{"moves", "\x1b[2;3Ha\x1b[Ab\x1b[2Bc\x1b[5Dd\x1b[Ge\x1b[4dg", "   b\n  a\ne   c\n g"},
		{"erases", "0123456789\x1b[5D\x1b[K\x1b[2;1Habc\x1b[1K\x1b[3;1Habcdef\x1b[3D\x1b[2X", "0123\n\nabc  f"},
		{"erases lines", "a\r\nb\r\nc\x1b[2;1H\x1b[1J", "\n\nc"},
		{"inserts and deletes", "abcdef\x1b[3G\x1b[2@\x1b[2;1Habcdef\x1b[3G\x1b[2P", "ab  cdef\nabef"},
		{"insert mode", "abc\x1b[1G\x1b[4hxy\x1b[4lz", "xyzbc"},
		{"lines", "1\r\n2\r\n3\r\n4\x1b[2;1H\x1b[L\x1b[4;1H\x1b[M", "1\n\n2"},
		{"scrolled up and down", "1\r\n2\r\n3\r\n4\x1b[S\x1b[2T", "\n\n2\n3"},
		{"tabs", "a\tb\x1b[1G\x1b[Ix\x1b[Zy", "a       y"},
		{"repeats", "ab\x1b[3b", "abbbb"},
		{"wide", "日本\x1b[2Gx\x1b[2;9Ha日", " x本\n        a\n日"},
		{"a wide one over", "ab日\x1b[1G日", "日日"},
		{"combines", "e\u0301x", "e\u0301x"},
		{"combines at the end", "012345678e\u0301", "012345678e\u0301"},
		{"lines are drawn", "\x1b(0lqk\x1b(Bq\x0e\x1b)0x\x0fx", "┌─┐q│x"},
		{"kept", "ab\x1b7\x1b[3;3Hc\x1b8d", "abd\n\n  c"},
		{"alternate", "main\x1b[?1049halt\x1b[?1049l!", "main!"},
		{"in the alternate", "main\x1b[?1049h\x1b[Halt", "alt"},
		{"reset", "ab\x1b[2;3r\x1bcx", "x"},
		{"links and titles", "\x1b]8;;http://x\x1b\\a\x1b]2;t\ab", "ab"},
		{"in pieces", "\xe6\x97\xa5", "日"},
	} {
		g, pieces := New(4, 10), New(4, 10)
		g.Write([]byte(tt.in))
		if got := g.String(); got != tt.want {
			t.Errorf("%s: shows\n%q; want\n%q", tt.name, got, tt.want)
		}
		if !strings.Contains(tt.in, "\x1b") {
			for i := range len(tt.in) {
				pieces.Write([]byte(tt.in[i : i+1]))
			}
			if got := pieces.String(); got != tt.want {
				t.Errorf("%s, in pieces: shows %q; want %q", tt.name, got, tt.want)
			}
		}
	}
}

func TestPen(t *testing.T) {
	for in, want := range map[string]string{
		"1;31":                 "\x1b[0;1;38;5;1m",
		"4:3;58:5:9":           "\x1b[0;4:3;58;5;9m",
		"38;2;1;2;3;48;5;200":  "\x1b[0;38;2;1;2;3;48;5;200m",
		"38:2::1:2:3;7":        "\x1b[0;7;38;2;1;2;3m",
		"38:2:1:2:3;9":         "\x1b[0;9;38;2;1;2;3m",
		"97;104;53":            "\x1b[0;53;38;5;15;48;5;12m",
		"1;2;3;5;22;23;25;4;0": "\x1b[0m",
		"21;38;5":              "\x1b[0;4:2;38;5;0m",
		"38;2;999;0;0":         "\x1b[0;38;2;255;0;0m",
	} {
		g := New(1, 1)
		g.Write([]byte("\x1b[" + in + "m"))
		if got := string(appendPen(nil, g.cursor.pen)); got != want {
			t.Errorf("%s comes to %q; want %q", in, got, want)
		}
	}
}

// follow compares what a larger terminal shows, which got what is drawn, with g.
func follow(t *testing.T, g, view *Grid, what string) {
	t.Helper()
	for y := range view.rows {
		for x := range view.cols {
			got, want := *view.at(x, y), cell{}
			if y < g.rows && x < g.cols {
				want = *g.at(x, y)
			}
			if want.r == 0 && want.half == whole {
				want.r = ' '
			}
			if got.r == 0 && got.half == whole {
				got.r = ' '
			}
			if got != want {
				t.Fatalf("%s: at %d, %d the larger terminal shows %+v; want %+v", what, x, y, got, want)
			}
		}
	}
	if view.cursor.x != g.cursor.x || view.cursor.y != g.cursor.y || view.alternate != g.alternate {
		t.Fatalf("%s: the cursor is at %d, %d; want %d, %d", what, view.cursor.x, view.cursor.y, g.cursor.x, g.cursor.y)
	}
}

// words are what programs write.
var words = []string{
	"hello ", "日本", "e\u0301", "\r\n", "\n", "\r", "\t", "\b", "a long line that wraps around at the end of a small terminal ",
	"\x1b[H", "\x1b[2J", "\x1b[J", "\x1b[1J", "\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[A", "\x1b[3B", "\x1b[5C", "\x1b[2D", "\x1b[4G", "\x1b[2d",
	"\x1b[3;7H", "\x1b[999;999H", "\x1b[2;5r", "\x1b[r", "\x1b[L", "\x1b[2M", "\x1b[3@", "\x1b[2P", "\x1b[4X", "\x1b[S", "\x1b[2T", "\x1bM", "\x1bD", "\x1bE",
	"\x1b7", "\x1b8", "\x1b[s", "\x1b[u", "\x1b[?1049h", "\x1b[?1049l", "\x1b[?47h", "\x1b[?47l", "\x1b[?6h", "\x1b[?6l", "\x1b[?7l", "\x1b[?7h", "\x1b[4h", "\x1b[4l",
	"\x1b[31m", "\x1b[1;4;48;5;17m", "\x1b[38;2;1;2;3m", "\x1b[m", "\x1b(0qqx\x1b(B", "\x1b[5b", "\x1b[I", "\x1b[Z", "\x1bH", "\x1b[3g",
	"\x1b[?25l", "\x1b[?25h", "\x1b[?2004h", "\x1b]2;title\a", "\x1b[>1u", "\x1b[<u", "\x1b[2 q", "\x1bc", "\x1b[!p", "\x1b#8", "👍", "\x1b[6n", "\a",
}

// Whatever a program writes, and however often terminals come and go, a larger terminal
// shows what the program's does, and nothing beside it.
func TestLarger(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		rows, cols := 2+rnd.IntN(12), 2+rnd.IntN(30)
		var s screen.Screen
		g := New(rows, cols)
		var view *Grid
		join := func() {
			view = New(rows+rnd.IntN(10), cols+rnd.IntN(20))
			view.Write([]byte("what was there before\r\n$ "))
			view.Write(s.Enter(view.rows))
			view.Write(g.All())
		}
		join()
		var log []string
		for range 60 {
			var out []byte
			for range 1 + rnd.IntN(5) {
				word := words[rnd.IntN(len(words))]
				log = append(log, word)
				out = append(out, word...)
			}
			g.Write(s.Write(out).Shown)
			view.Write(g.Update())
			follow(t, g, view, fmt.Sprintf("seed %d, %d×%d: %q", seed, rows, cols, log))
			switch rnd.IntN(12) {
			case 0:
				join()
			case 1:
				rows, cols = 2+rnd.IntN(12), 2+rnd.IntN(30)
				g.Resize(rows, cols)
				join()
			}
			follow(t, g, view, fmt.Sprintf("seed %d, begun anew, %d×%d: %q", seed, rows, cols, log))
		}
	}
}

// Hostile output neither breaks the terminal nor makes it hold more, and is followed.
func FuzzGrid(f *testing.F) {
	for i := range words {
		f.Add([]byte(words[i]+words[(i*7+3)%len(words)]+words[(i*5+1)%len(words)]), uint8(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		rows, cols := 1+int(size)%8, 1+int(size)/8
		var s screen.Screen
		g, view := New(rows, cols), New(rows+3, cols+5)
		view.Write(s.Enter(view.rows))
		view.Write(g.All())
		for _, piece := range bytes.SplitAfter(data, []byte("\n")) {
			g.Write(s.Write(piece).Shown)
			view.Write(g.Update())
		}
		if len(g.cells) != rows*cols || len(g.rest) >= utf8.UTFMax {
			t.Errorf("%d cells, %d bytes are left", len(g.cells), len(g.rest))
		}
		follow(t, g, view, "fuzz")
	})
}
