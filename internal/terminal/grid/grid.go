// Package grid is a terminal that nobody sees: what a program writes goes in, and what
// another terminal, which is larger, has to be sent to show the same comes out.
//
// It takes what package screen lets all terminals have: whole control sequences, with
// no questions in them. It knows what programs with a screen use. Its memory is bounded
// by its size.
package grid

import (
	"bytes"
	"unicode/utf8"
)

// MaxCells bounds the size of a terminal that is followed.
const MaxCells = 1 << 16

// cell is what is at one place.
type cell struct {
	r    rune // 0 for nothing
	mark rune // one that combines with r; 0 for none
	half half
	pen  pen
}

// half is which half of a wide character a cell holds, if it holds one.
type half byte

const (
	whole half = iota
	left
	right
)

// cursor is what a program can keep, and take back.
type cursor struct {
	x, y     int
	wraps    bool // the next character begins a new line
	pen      pen
	origin   bool
	graphics [2]bool // G0 and G1 are for drawing lines
	shifted  int     // which of them holds
}

// Grid is the terminal. Its zero value is of no use.
type Grid struct {
	rows, cols  int
	cells       []cell    // of the screen that is shown
	other       []cell    // of the other one
	alternate   bool      // the alternate screen is shown
	saved       [2]cursor // of both
	cursor      cursor
	top, bottom int // rows that scroll, the first and the last
	noWrap      bool
	insert      bool
	tabs        []bool
	last        rune // that was written, to be repeated
	rest        []byte

	drawn []cell // what the other terminal shows
	pass  []byte // what it is to get as it is
}

// New returns an empty terminal. The size must be one that Fits.
func New(rows, cols int) *Grid {
	g := &Grid{}
	g.size(rows, cols)
	return g
}

// Fits reports whether a terminal of that size is followed.
func Fits(rows, cols int) bool { return rows > 0 && cols > 0 && rows*cols <= MaxCells }

func (g *Grid) size(rows, cols int) {
	fit := func(old []cell) []cell {
		cells := make([]cell, rows*cols)
		for y := range min(rows, g.rows) {
			row := cells[y*cols : (y+1)*cols]
			copy(row, old[y*g.cols:(y+1)*g.cols])
			if last := &row[cols-1]; last.half == left {
				*last = cell{pen: last.pen}
			}
		}
		return cells
	}
	g.cells, g.other, g.drawn = fit(g.cells), fit(g.other), make([]cell, rows*cols)
	g.rows, g.cols = rows, cols
	g.top, g.bottom = 0, rows-1
	g.tabs = make([]bool, cols)
	for x := 8; x < cols; x += 8 {
		g.tabs[x] = true
	}
	g.cursor.x, g.cursor.y = min(g.cursor.x, cols-1), min(g.cursor.y, rows-1)
	g.cursor.wraps = false
}

// Resize makes the terminal another size. What is cut off is lost. A terminal that shows
// it has to be drawn on from the beginning.
func (g *Grid) Resize(rows, cols int) { g.size(rows, cols) }

// Write takes output.
func (g *Grid) Write(p []byte) {
	if len(g.rest) > 0 {
		p = append(g.rest, p...)
		g.rest = nil
	}
	for len(p) > 0 {
		if p[0] == 0x1b {
			n := sequence(p)
			g.escape(p[:n])
			p = p[n:]
			continue
		}
		if p[0] < utf8.RuneSelf {
			g.char(rune(p[0]))
			p = p[1:]
			continue
		}
		if !utf8.FullRune(p) {
			g.rest = bytes.Clone(p)
			return
		}
		r, n := utf8.DecodeRune(p)
		g.char(r)
		p = p[n:]
	}
}

// sequence returns the length of the control sequence that p begins with. It is whole.
func sequence(p []byte) int {
	if len(p) < 2 {
		return len(p)
	}
	switch b := p[1]; {
	case b == '[':
		for i, b := range p[2:] {
			if b >= 0x40 && b <= 0x7e {
				return i + 3
			}
		}
		return len(p)
	case b == ']':
		bell, st := bytes.IndexByte(p, '\a'), bytes.Index(p, []byte("\x1b\\"))
		switch {
		case bell >= 0 && (st < 0 || bell < st):
			return bell + 1
		case st >= 0:
			return st + 2
		}
		return len(p)
	case b >= 0x20 && b <= 0x2f:
		for i, b := range p[2:] {
			if b >= 0x30 {
				return i + 3
			}
		}
		return len(p)
	}
	return 2
}

// char takes one character.
func (g *Grid) char(r rune) {
	c := &g.cursor
	switch {
	case r == '\r':
		c.x, c.wraps = 0, false
	case r == '\n' || r == '\v' || r == '\f':
		g.lineFeed()
	case r == '\b':
		c.x, c.wraps = max(c.x-1, 0), false
	case r == '\t':
		g.tab(1)
	case r == 0x0e || r == 0x0f:
		c.shifted = int(0x0f - r)
	case r < ' ' || r >= 0x7f && r < 0xa0:
	default:
		if c.graphics[c.shifted] && r >= 0x60 && r <= 0x7e {
			r = lines[r-0x60]
		}
		g.print(r)
	}
}

// lines are the characters of DEC's set for drawing lines, from 0x60.
var lines = [...]rune{
	'◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─', '⎼', '⎽', '├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
}

// print writes a character at the cursor.
func (g *Grid) print(r rune) {
	c := &g.cursor
	w := Width(r)
	if w == 0 {
		x := c.x - 1
		if c.wraps {
			x = c.x
		}
		if x >= 0 && g.at(x, c.y).half == right {
			x--
		}
		if x >= 0 {
			g.at(x, c.y).mark = r
		}
		return
	}
	if w > g.cols {
		return
	}
	if c.wraps || c.x+w > g.cols {
		if g.noWrap {
			c.x = g.cols - w
		} else {
			c.x = 0
			g.lineFeed()
		}
		c.wraps = false
	}
	if g.insert {
		g.shift(c.x, w)
	}
	g.last = r
	g.put(c.x, c.y, cell{r: r, pen: c.pen})
	if w == 2 {
		g.put(c.x+1, c.y, cell{pen: c.pen})
		g.at(c.x, c.y).half, g.at(c.x+1, c.y).half = left, right
	}
	if c.x += w; c.x >= g.cols {
		c.x, c.wraps = g.cols-1, true
	}
}

func (g *Grid) at(x, y int) *cell { return &g.cells[y*g.cols+x] }

func (g *Grid) row(y int) []cell { return g.cells[y*g.cols : (y+1)*g.cols] }

// put sets a cell. Of a wide character that it breaks nothing is left.
func (g *Grid) put(x, y int, to cell) {
	g.split(x, y)
	g.split(x+1, y)
	*g.at(x, y) = to
}

// split breaks the wide character that begins before x and ends behind it.
func (g *Grid) split(x, y int) {
	if x <= 0 || x >= g.cols || g.at(x, y).half != right {
		return
	}
	for _, c := range []*cell{g.at(x-1, y), g.at(x, y)} {
		*c = cell{pen: c.pen}
	}
}

// blank is what erases: the colour behind stays.
func (g *Grid) blank() cell { return cell{pen: pen{back: g.cursor.pen.back}} }

// erase empties the cells of row y from x to end.
func (g *Grid) erase(y, x, end int) {
	x, end = max(x, 0), min(end, g.cols)
	if x >= end {
		return
	}
	g.split(x, y)
	g.split(end, y)
	for i := x; i < end; i++ {
		*g.at(i, y) = g.blank()
	}
}

// shift moves what is from x on by n to the right, or to the left if n is negative.
func (g *Grid) shift(x, n int) {
	y := g.cursor.y
	row := g.row(y)
	n = max(min(n, g.cols-x), x-g.cols)
	g.split(x, y)
	if n < 0 {
		g.split(x-n, y)
		copy(row[x:], row[x-n:])
		g.erase(y, g.cols+n, g.cols)
		return
	}
	g.split(g.cols-n, y)
	copy(row[x+n:], row[x:])
	// What was there is a copy now.
	for i := x; i < x+n; i++ {
		row[i] = g.blank()
	}
}

// scroll moves the rows from top to bottom up by n, or down if n is negative.
func (g *Grid) scroll(top, bottom, n int) {
	height := bottom - top + 1
	n = max(min(n, height), -height)
	region := g.cells[top*g.cols : (bottom+1)*g.cols]
	from, to := bottom+1-n, bottom+1
	if n > 0 {
		copy(region, region[n*g.cols:])
	} else {
		copy(region[-n*g.cols:], region)
		from, to = top, top-n
	}
	for y := from; y < to; y++ {
		for x := range g.cols {
			*g.at(x, y) = g.blank()
		}
	}
}

func (g *Grid) lineFeed() {
	c := &g.cursor
	c.wraps = false
	switch {
	case c.y == g.bottom:
		g.scroll(g.top, g.bottom, 1)
	case c.y < g.rows-1:
		c.y++
	}
}

func (g *Grid) reverseLineFeed() {
	c := &g.cursor
	c.wraps = false
	switch {
	case c.y == g.top:
		g.scroll(g.top, g.bottom, -1)
	case c.y > 0:
		c.y--
	}
}

// tab goes to the n-th stop, to the left if n is negative.
func (g *Grid) tab(n int) {
	step := 1
	if n < 0 {
		step, n = -1, -n
	}
	c := &g.cursor
	c.wraps = false
	for n = min(n, g.cols); n > 0; n-- {
		for c.x += step; c.x > 0 && c.x < g.cols-1 && !g.tabs[c.x]; c.x += step {
		}
		c.x = max(min(c.x, g.cols-1), 0)
	}
}

// show shows the alternate screen, or the main one.
func (g *Grid) show(alternate bool) {
	if g.alternate != alternate {
		g.alternate = alternate
		g.cells, g.other = g.other, g.cells
	}
	g.cursor.wraps = false
}

func (g *Grid) clear() {
	for y := range g.rows {
		g.erase(y, 0, g.cols)
	}
}

func (g *Grid) screen() int {
	if g.alternate {
		return 1
	}
	return 0
}

// forget says that the other terminal shows nothing.
func (g *Grid) forget() { clear(g.drawn) }

// reset makes the terminal a new one.
func (g *Grid) reset() {
	fresh := New(g.rows, g.cols)
	fresh.pass = g.pass
	*g = *fresh
}
