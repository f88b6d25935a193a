package grid

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Update returns what brings another terminal, which got all that was returned before, to
// show what this one shows, at its top left. It leaves the rest of it alone.
func (g *Grid) Update() []byte {
	b := g.pass
	g.pass = nil
	return append(b, g.draw()...)
}

// All returns what brings a terminal to show this one, that is empty, has the default
// colours, and the modes that it needs. Those that follow Update need it at the same time.
func (g *Grid) All() []byte {
	g.pass = nil
	g.forget()
	return g.draw()
}

// draw returns what changes a terminal from drawn to cells.
func (g *Grid) draw() []byte {
	var b []byte
	var now pen
	for y := range g.rows {
		old, row := g.drawn[y*g.cols:(y+1)*g.cols], g.row(y)
		first, end := 0, g.cols
		for first < end && old[first] == row[first] {
			first++
		}
		for end > first && old[end-1] == row[end-1] {
			end--
		}
		if first == end {
			continue
		}
		// Half a character cannot be written, nor one that was half there kept.
		for first > 0 && (row[first].half == right || old[first].half == right) {
			first--
		}
		for end < g.cols && (row[end].half == right || old[end].half == right) {
			end++
		}
		b = appendMove(b, first, y)
		for _, c := range row[first:end] {
			if c.half == right {
				continue
			}
			if c.pen != now {
				now = c.pen
				b = appendPen(b, now)
			}
			if c.r == 0 {
				c.r = ' '
			}
			b = utf8.AppendRune(b, c.r)
			if c.mark != 0 {
				b = utf8.AppendRune(b, c.mark)
			}
		}
		copy(old, row)
	}
	if now != (pen{}) {
		b = appendPen(b, pen{})
	}
	return appendMove(b, g.cursor.x, g.cursor.y)
}

// String returns the text that is shown, without what is empty at the ends.
func (g *Grid) String() string {
	var rows []string
	for y := range g.rows {
		var b []byte
		for _, c := range g.row(y) {
			switch {
			case c.half == right:
			case c.r == 0:
				b = append(b, ' ')
			default:
				b = utf8.AppendRune(b, c.r)
				if c.mark != 0 {
					b = utf8.AppendRune(b, c.mark)
				}
			}
		}
		rows = append(rows, strings.TrimRight(string(b), " "))
	}
	return strings.TrimRight(strings.Join(rows, "\n"), "\n")
}

func appendMove(b []byte, x, y int) []byte {
	b = strconv.AppendInt(append(b, "\x1b["...), int64(y+1), 10)
	b = strconv.AppendInt(append(b, ';'), int64(x+1), 10)
	return append(b, 'H')
}

// Width returns how many cells a character takes, as terminals and wcwidth(3) have it.
func Width(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) || r >= 0x1160 && r <= 0x11ff:
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// wide are the characters of two cells: those of East Asia and the emoji that are shown as
// such, East Asian Width W and F of Unicode.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x1100, 0x115f, 1}, {0x231a, 0x231b, 1}, {0x2329, 0x232a, 1}, {0x23e9, 0x23ec, 1}, {0x23f0, 0x23f0, 1}, {0x23f3, 0x23f3, 1},
		{0x25fd, 0x25fe, 1}, {0x2614, 0x2615, 1}, {0x2648, 0x2653, 1}, {0x267f, 0x267f, 1}, {0x2693, 0x2693, 1}, {0x26a1, 0x26a1, 1},
		{0x26aa, 0x26ab, 1}, {0x26bd, 0x26be, 1}, {0x26c4, 0x26c5, 1}, {0x26ce, 0x26ce, 1}, {0x26d4, 0x26d4, 1}, {0x26ea, 0x26ea, 1},
		{0x26f2, 0x26f3, 1}, {0x26f5, 0x26f5, 1}, {0x26fa, 0x26fa, 1}, {0x26fd, 0x26fd, 1}, {0x2705, 0x2705, 1}, {0x270a, 0x270b, 1},
		{0x2728, 0x2728, 1}, {0x274c, 0x274c, 1}, {0x274e, 0x274e, 1}, {0x2753, 0x2755, 1}, {0x2757, 0x2757, 1}, {0x2795, 0x2797, 1},
		{0x27b0, 0x27b0, 1}, {0x27bf, 0x27bf, 1}, {0x2b1b, 0x2b1c, 1}, {0x2b50, 0x2b50, 1}, {0x2b55, 0x2b55, 1}, {0x2e80, 0x303e, 1},
		{0x3041, 0x33ff, 1}, {0x3400, 0x4dbf, 1}, {0x4e00, 0xa4cf, 1}, {0xa960, 0xa97f, 1}, {0xac00, 0xd7a3, 1}, {0xf900, 0xfaff, 1},
		{0xfe10, 0xfe19, 1}, {0xfe30, 0xfe6f, 1}, {0xff00, 0xff60, 1}, {0xffe0, 0xffe6, 1},
	},
	R32: []unicode.Range32{
		{0x16fe0, 0x18cff, 1}, {0x1aff0, 0x1b2ff, 1}, {0x1f004, 0x1f004, 1}, {0x1f0cf, 0x1f0cf, 1}, {0x1f18e, 0x1f18e, 1}, {0x1f191, 0x1f19a, 1},
		{0x1f200, 0x1f320, 1}, {0x1f32d, 0x1f335, 1}, {0x1f337, 0x1f37c, 1}, {0x1f37e, 0x1f393, 1}, {0x1f3a0, 0x1f3ca, 1}, {0x1f3cf, 0x1f3d3, 1},
		{0x1f3e0, 0x1f3f0, 1}, {0x1f3f4, 0x1f3f4, 1}, {0x1f3f8, 0x1f43e, 1}, {0x1f440, 0x1f440, 1}, {0x1f442, 0x1f4fc, 1}, {0x1f4ff, 0x1f53d, 1},
		{0x1f54b, 0x1f54e, 1}, {0x1f550, 0x1f567, 1}, {0x1f57a, 0x1f57a, 1}, {0x1f595, 0x1f596, 1}, {0x1f5a4, 0x1f5a4, 1}, {0x1f5fb, 0x1f64f, 1},
		{0x1f680, 0x1f6c5, 1}, {0x1f6cc, 0x1f6cc, 1}, {0x1f6d0, 0x1f6d2, 1}, {0x1f6d5, 0x1f6d7, 1}, {0x1f6dc, 0x1f6df, 1}, {0x1f6eb, 0x1f6ec, 1},
		{0x1f6f4, 0x1f6fc, 1}, {0x1f7e0, 0x1f7eb, 1}, {0x1f7f0, 0x1f7f0, 1}, {0x1f90c, 0x1f93a, 1}, {0x1f93c, 0x1f945, 1}, {0x1f947, 0x1f9ff, 1},
		{0x1fa70, 0x1faff, 1}, {0x20000, 0x3fffd, 1},
	},
}
