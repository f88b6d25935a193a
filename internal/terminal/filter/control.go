package filter

import (
	"bytes"
	"strconv"
	"strings"
)

// escapeSequence reports whether ESC and what follows it pass.
func (f *Filter) escapeSequence(seq []byte) bool {
	switch seq[1] {
	case '7', '8', 'D', 'E', 'H', 'M', '=', '>':
		return len(seq) == 2
	case 'c':
		// A full reset makes a window another size, forgets what was scrolled away, and more.
		f.out = append(f.out, softReset...)
		return false
	case '(', ')', '*', '+': // character sets
		return len(seq) == 3
	}
	return false
}

// softReset is what a full reset comes to: what is drawn next is drawn as on a new screen.
const softReset = "\x1b[0m\x1b(B\x0f\x1b[?6l\x1b[?7h\x1b[?25h\x1b[4l\x1b>\x1b[r\x1b[H\x1b[2J"

// sequence is a control sequence in its parts.
type sequence struct {
	private      string // of <=>?, at most one
	params       []byte
	intermediate string
	final        byte
}

// parse reads CSI …; ok is false for what is not one.
func parse(seq []byte) (c sequence, ok bool) {
	body := seq[2 : len(seq)-1]
	c.final = seq[len(seq)-1]
	if len(body) > 0 && body[0] >= '<' && body[0] <= '?' {
		c.private, body = string(body[:1]), body[1:]
	}
	n := 0
	for n < len(body) && body[n] >= '0' && body[n] <= ';' {
		n++
	}
	c.params, c.intermediate = body[:n], string(body[n:])
	for _, b := range body[n:] {
		if b < 0x20 || b > 0x2f {
			return c, false
		}
	}
	return c, true
}

// maxNumber bounds the numbers of a sequence: terminals have counted wrong with larger ones.
const maxNumber = 32767

// numbers returns the parameters, -1 for one that is empty. ok is false if they are more
// than there can be or too large.
func (c sequence) numbers() (all []int, ok bool) {
	if len(c.params) == 0 {
		return nil, true
	}
	for part := range bytes.SplitSeq(c.params, []byte(";")) {
		n := -1
		if len(part) > 0 {
			v, err := strconv.Atoi(string(part)) // not of a colon
			if err != nil || v > maxNumber {
				return nil, false
			}
			n = v
		}
		if all = append(all, n); len(all) > 32 {
			return nil, false
		}
	}
	return all, true
}

// one returns the only parameter, or the value of one that is left out.
func one(all []int, empty int) int {
	switch {
	case len(all) == 0, len(all) == 1 && all[0] < 0:
		return empty
	case len(all) == 1:
		return all[0]
	}
	return -1
}

const (
	// moves draw, move and erase, whatever their numbers are.
	moves = "@ABCDEFGHIJKLMPSXZ`adefrsu"
	// maxRepeat bounds REP, which draws the last character again: a screen full.
	maxRepeat = 1 << 14
)

// controlSequence reports whether CSI passes.
func (f *Filter) controlSequence(seq []byte) bool {
	c, ok := parse(seq)
	if !ok {
		return false
	}
	if c.private == "" && c.intermediate == "" && c.final == 'm' {
		return colours(c.params)
	}
	n, ok := c.numbers()
	if !ok {
		return false
	}
	switch c.private + c.intermediate {
	case "":
		return f.plainControl(c.final, n)
	case "?":
		switch c.final {
		case 'h', 'l':
			return f.modes(n, c.final)
		case 'J', 'K':
			return one(n, 0) >= 0
		case 'u':
			return len(n) == 0 && f.mayAsk()
		}
	case "?$": // what is a mode?
		return c.final == 'p' && passedModes[one(n, -1)] && f.mayAsk()
	case ">":
		switch c.final {
		case 'c', 'q':
			return one(n, 0) == 0 && f.mayAsk()
		case 'm': // modifyOtherKeys
			return len(n) >= 1 && len(n) <= 2 && n[0] == 4
		case 'n':
			return one(n, -1) == 4
		case 'u':
			return one(n, 0) >= 0
		}
	case "<":
		return c.final == 'u' && one(n, 1) >= 0
	case "=":
		return c.final == 'u' && len(n) <= 2
	case " ": // the cursor's shape
		return c.final == 'q' && one(n, 0) >= 0 && one(n, 0) <= 6
	}
	return false
}

// plainControl is for sequences with neither a private sign nor an intermediate.
func (f *Filter) plainControl(final byte, n []int) bool {
	switch final {
	case 'b':
		return one(n, 1) >= 0 && one(n, 1) <= maxRepeat
	case 'T': // with more numbers it tracks the mouse
		return one(n, 1) >= 0
	case 'g':
		return one(n, 0) == 0 || one(n, 0) == 3
	case 'h', 'l': // insert mode
		if one(n, -1) != 4 {
			return false
		}
		f.tidy.insert = final == 'h'
		return true
	case 'c':
		return one(n, 0) == 0 && f.mayAsk()
	case 'n':
		return (one(n, 0) == 5 || one(n, 0) == 6) && f.mayAsk()
	case 't': // sizes
		v := one(n, 0)
		return (v == 14 || v == 16 || v == 18) && f.mayAsk()
	}
	return strings.IndexByte(moves, final) >= 0
}

// colours reports whether the parameters of SGR are numbers.
func colours(params []byte) bool {
	digits := 0
	for _, b := range params {
		if b >= '0' && b <= '9' {
			digits++
		} else {
			digits = 0
		}
		if digits > 5 {
			return false
		}
	}
	return true
}

// passedModes are the private modes that programs on a whole screen need. Each is
// followed by the one who gives the terminal back; see package screen.
var passedModes = map[int]bool{
	1: true, 6: true, 7: true, 12: true, 25: true, 47: true, 1047: true, 1049: true,
	1000: true, 1002: true, 1003: true, 1004: true, 1005: true, 1006: true, 1007: true, 1015: true, 1016: true,
	2004: true, 2026: true, 2027: true, 2031: true, 2048: true,
}

// modes passes a sequence that switches private modes; of several only those that may be.
func (f *Filter) modes(n []int, final byte) bool {
	var passed []string
	for _, v := range n {
		if passedModes[v] {
			passed = append(passed, strconv.Itoa(v))
		}
		if v == 12 {
			f.tidy.blink = final == 'h'
		}
	}
	if len(passed) == len(n) && len(n) > 0 {
		return true
	}
	if len(passed) > 0 {
		f.out = append(f.out, "\x1b[?"+strings.Join(passed, ";")+string(final)...)
	}
	return false
}
