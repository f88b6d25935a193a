package grid

import (
	"bytes"
)

// escape takes a whole control sequence.
func (g *Grid) escape(seq []byte) {
	if len(seq) < 2 {
		return
	}
	switch seq[1] {
	case '[':
		if len(seq) > 2 {
			g.control(seq)
		}
	case ']':
		if !bytes.HasPrefix(seq, []byte("\x1b]8;")) { // links: their text is enough
			g.pass = append(g.pass, seq...)
		}
	case '(', ')':
		g.cursor.graphics[seq[1]-'('] = seq[len(seq)-1] == '0'
	case '#':
		if seq[len(seq)-1] == '8' {
			for i := range g.cells {
				g.cells[i] = cell{r: 'E'}
			}
		}
	case 'c':
		g.reset()
		g.pass = append(g.pass, seq...)
	case '7':
		g.saved[g.screen()] = g.cursor
	case '8':
		g.restore()
	case 'D':
		g.lineFeed()
	case 'E':
		g.cursor.x = 0
		g.lineFeed()
	case 'M':
		g.reverseLineFeed()
	case 'H':
		g.tabs[g.cursor.x] = true
	case '=', '>':
		g.pass = append(g.pass, seq...)
	}
}

func (g *Grid) restore() {
	c := g.saved[g.screen()]
	// The terminal may have been larger.
	c.x, c.y = min(c.x, g.cols-1), min(c.y, g.rows-1)
	c.wraps = c.wraps && c.x == g.cols-1
	g.cursor = c
}

// maxParams bounds the parameters of a sequence, and maxParam each.
const (
	maxParams = 32
	maxParam  = 1 << 16
)

// params are those of a control sequence. Those behind a colon belong to the one before.
type params struct {
	value [maxParams]int
	sub   [maxParams]bool
	n     int
}

// get returns the parameter i, or def if it is not there or 0.
func (p *params) get(i, def int) int {
	if i < p.n && p.value[i] > 0 {
		return p.value[i]
	}
	return def
}

// parse reads ESC [ … .
func parse(seq []byte) (private, intermediate, final byte, p params) {
	seq, final = seq[2:len(seq)-1], seq[len(seq)-1]
	if len(seq) > 0 && seq[0] >= '<' && seq[0] <= '?' {
		private, seq = seq[0], seq[1:]
	}
	p.n = 1
	for _, b := range seq {
		switch {
		case b >= '0' && b <= '9':
			if v := &p.value[p.n-1]; *v < maxParam {
				*v = *v*10 + int(b-'0')
			}
		case b == ';' || b == ':':
			if p.n == maxParams {
				return private, intermediate, final, p
			}
			p.sub[p.n] = b == ':'
			p.n++
		case b >= 0x20 && b <= 0x2f:
			intermediate = b
		}
	}
	return private, intermediate, final, p
}

func (g *Grid) control(seq []byte) {
	private, intermediate, final, p := parse(seq)
	switch {
	case private == '?' && (final == 'h' || final == 'l'):
		for _, number := range p.value[:p.n] {
			g.mode(number, final == 'h')
		}
		return
	case private == '?' && (final == 'J' || final == 'K'):
		private = 0
	case intermediate == '!' && final == 'p':
		g.cursor.origin, g.noWrap, g.insert, g.top, g.bottom = false, false, false, 0, g.rows-1
		g.cursor.pen, g.cursor.graphics, g.cursor.shifted = pen{}, [2]bool{}, 0
	}
	if private != 0 || intermediate != 0 {
		g.pass = append(g.pass, seq...)
		return
	}
	c := &g.cursor
	n := p.get(0, 1)
	first := 0 // the rows that the cursor moves in
	last := g.rows - 1
	if c.y >= g.top && c.y <= g.bottom {
		first, last = g.top, g.bottom
	}
	switch final {
	case 'A', 'k':
		c.y, c.wraps = max(c.y-n, first), false
	case 'B', 'e':
		c.y, c.wraps = min(c.y+n, last), false
	case 'C', 'a':
		c.x, c.wraps = min(c.x+n, g.cols-1), false
	case 'D', 'j':
		c.x, c.wraps = max(c.x-n, 0), false
	case 'E':
		c.x, c.y, c.wraps = 0, min(c.y+n, last), false
	case 'F':
		c.x, c.y, c.wraps = 0, max(c.y-n, first), false
	case 'G', '`':
		c.x, c.wraps = min(n, g.cols)-1, false
	case 'H', 'f':
		g.move(p.get(1, 1), n)
	case 'd':
		g.move(c.x+1, n)
	case 'I':
		g.tab(n)
	case 'Z':
		g.tab(-n)
	case 'J':
		g.eraseScreen(p.value[0])
	case 'K':
		g.eraseLine(p.value[0])
	case 'X':
		g.erase(c.y, c.x, c.x+n)
		c.wraps = false
	case '@':
		g.shift(c.x, n)
		c.wraps = false
	case 'P':
		g.shift(c.x, -n)
		c.wraps = false
	case 'L', 'M':
		if c.y >= g.top && c.y <= g.bottom {
			if final == 'L' {
				n = -n
			}
			g.scroll(c.y, g.bottom, n)
			c.x, c.wraps = 0, false
		}
	case 'S':
		g.scroll(g.top, g.bottom, n)
	case 'T':
		g.scroll(g.top, g.bottom, -n)
	case 'b':
		for range min(n, g.rows*g.cols) {
			if g.last != 0 {
				g.print(g.last)
			}
		}
	case 'g':
		switch p.value[0] {
		case 0:
			g.tabs[c.x] = false
		case 3:
			clear(g.tabs)
		}
	case 'h', 'l':
		for _, number := range p.value[:p.n] {
			if number == 4 {
				g.insert = final == 'h'
			}
		}
	case 'm':
		c.pen.set(&p)
	case 'r':
		top, bottom := n-1, min(p.get(1, g.rows), g.rows)-1
		if top < bottom {
			g.top, g.bottom = top, bottom
			g.move(1, 1)
		}
	case 's':
		g.saved[g.screen()] = *c
	case 'u':
		g.restore()
	}
}

// move sets the cursor, counted from 1.
func (g *Grid) move(x, y int) {
	c := &g.cursor
	c.x, c.y, c.wraps = min(x, g.cols)-1, min(y, g.rows)-1, false
	if c.origin {
		c.y = min(g.top+y-1, g.bottom)
	}
}

func (g *Grid) eraseScreen(how int) {
	c := &g.cursor
	switch how {
	case 0:
		g.erase(c.y, c.x, g.cols)
		for y := c.y + 1; y < g.rows; y++ {
			g.erase(y, 0, g.cols)
		}
	case 1:
		for y := range c.y {
			g.erase(y, 0, g.cols)
		}
		g.erase(c.y, 0, c.x+1)
	case 2:
		g.clear()
	}
	c.wraps = false
}

func (g *Grid) eraseLine(how int) {
	c := &g.cursor
	switch how {
	case 0:
		g.erase(c.y, c.x, g.cols)
	case 1:
		g.erase(c.y, 0, c.x+1)
	case 2:
		g.erase(c.y, 0, g.cols)
	}
	c.wraps = false
}

// away brings what is on a terminal to where it can be scrolled back to. No terminal has
// more rows.
var away = append([]byte("\x1b[999;1H"), bytes.Repeat([]byte("\n"), 500)...)

// mode switches a private mode. What does not change how output is shown the other
// terminal gets.
func (g *Grid) mode(number int, on bool) {
	switch number {
	case 6:
		g.cursor.origin = on
		g.move(1, 1)
		return
	case 7:
		g.noWrap = !on
		return
	case 69: // margins at the sides
		return
	case 1048:
		if on {
			g.saved[g.screen()] = g.cursor
		} else {
			g.restore()
		}
		return
	case 47, 1047, 1049:
		g.switchTo(number, on)
		return
	}
	g.pass = appendMode(g.pass, number, on)
}

func (g *Grid) switchTo(number int, on bool) {
	was := g.alternate
	switch {
	case on && number == 1049:
		if !was {
			g.saved[0] = g.cursor
		}
		g.show(true)
		g.clear()
	case on:
		g.show(true)
	default:
		if number == 1047 && was {
			g.clear()
		}
		g.show(false)
		if number == 1049 {
			g.restore()
		}
	}
	if was == on {
		return
	}
	g.pass = appendMode(g.pass, number, on)
	if !on {
		g.pass = append(g.pass, away...)
	}
	g.pass = append(g.pass, "\x1b[0m\x1b[H\x1b[2J"...)
	g.forget()
}
