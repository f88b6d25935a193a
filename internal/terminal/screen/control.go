package screen

// sequence is a control sequence: CSI, a private sign, parameters, intermediates
// and a letter, ECMA-48 section 5.4.
type sequence struct {
	private      byte // one of <=>?, or 0
	params       [16]int
	n            int // of params that are there
	intermediate byte
	final        byte
}

// parse reads ESC [ … . What does not fit is not there.
func parse(seq []byte) sequence {
	var c sequence
	seq = seq[2:]
	c.final = seq[len(seq)-1]
	seq = seq[:len(seq)-1]
	if len(seq) > 0 && seq[0] >= '<' && seq[0] <= '?' {
		c.private, seq = seq[0], seq[1:]
	}
	sub := false // after a colon: belongs to the parameter before
	for _, b := range seq {
		switch {
		case b >= '0' && b <= '9':
			if c.n == 0 {
				c.n = 1
			}
			if p := &c.params[c.n-1]; !sub && *p < 1<<16 {
				*p = *p*10 + int(b-'0')
			}
		case b == ':':
			sub = true
		case b == ';':
			sub = false
			if c.n == 0 {
				c.n = 1
			}
			if c.n == len(c.params) {
				return c
			}
			c.n++
		case b >= 0x20 && b <= 0x2f:
			c.intermediate = b
		}
	}
	return c
}

// simple are the letters of sequences without a private sign that change what is
// shown and nothing else, and ask nothing.
const simple = "@ABCDEFGHIJKLMPSTXZ`abdefglhmrsu"

// endControl takes a control sequence and tells whether it is for all terminals.
// What is not known is not: it could be a question.
func (s *Screen) endControl(seq []byte) bool {
	c := parse(seq)
	m := &s.modes
	first := c.params[0]
	switch {
	case c.private == '?' && c.intermediate == 0 && (c.final == 'h' || c.final == 'l'):
		before := m.alternate()
		if before == 0 && c.final == 'h' {
			entered := *m
			for _, number := range c.params[:c.n] {
				entered.set(number, true)
			}
			if entered.alternate() == 1 {
				s.history.enterAlternate(m)
			}
		}
		for _, number := range c.params[:c.n] {
			m.set(number, c.final == 'h')
		}
		return true
	case c.private == '?' && c.intermediate == 0 && (c.final == 'J' || c.final == 'K' || c.final == 'r' || c.final == 's'):
		return true // erases what is not protected; keeps modes and takes them back
	case c.private == '>' && c.final == 'm' && c.intermediate == 0:
		if first == 4 {
			m.otherKeys = c.params[1] // 0 where it is not there
		}
		return true
	case c.final == 'u' && c.private != 0 && c.private != '?' && c.intermediate == 0:
		k := &m.kitty[m.alternate()]
		switch c.private {
		case '>':
			k.push(first)
		case '<':
			k.pop(max(first, 1))
		case '=':
			k.set(first, c.params[1])
		}
		return true
	case c.private == 0 && c.intermediate == ' ' && c.final == 'q':
		m.cursor = first
		return true
	case c.private == 0 && c.intermediate == '!' && c.final == 'p':
		m.reset()
		return true
	case c.private != 0 || c.intermediate != 0:
		return false
	}
	switch c.final {
	case 'G', '`':
		s.inLine = first > 1
	case 'H', 'f':
		s.inLine = c.params[1] > 1
	case 'E', 'F':
		s.inLine = false
	case 'C', 'I', 'a', 'u':
		s.inLine = true
	case 'J':
		if first == 3 {
			return false // forgets what was scrolled away: only where it was asked for
		}
		if first == 2 {
			s.history.clear(m)
		}
	case 'r':
		m.top, m.bottom = max(first, 1), c.params[1]
	case 'c':
		if first == 0 {
			s.query(QueryAttributes)
		}
	case 'n':
		switch first {
		case 5:
			s.query(QueryStatus)
		case 6:
			s.query(QueryCursor)
		}
	}
	for i := range len(simple) {
		if simple[i] == c.final {
			return true
		}
	}
	return false
}

func (s *Screen) query(q Query) {
	if len(s.out.Queries) < maxQueries {
		s.out.Queries = append(s.out.Queries, q)
	}
}

// reset is a soft reset, DECSTR.
func (m *modes) reset() {
	for _, number := range []int{1, 6} {
		m.set(number, false)
	}
	for _, number := range []int{7, 25} {
		m.set(number, true)
	}
	m.keypad, m.top, m.bottom = false, 0, 0
}
