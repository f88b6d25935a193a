package grid

import "strconv"

// color is 0 for the terminal's own, or one of 256, or one of all.
type color uint32

const (
	indexed color = 1 << 24
	direct  color = 2 << 24
)

// pen is how characters look.
type pen struct {
	fore, back, under color
	attrs             uint16 // bit n for what SGR n switches on, 1 to 9
	line              byte   // the shape of the line below, 0 to 5
	over              bool   // there is one above
}

// set takes the parameters of SGR.
func (p *pen) set(in *params) {
	for i := 0; i < in.n; i++ {
		n := in.value[i]
		subs := 0
		for i+subs+1 < in.n && in.sub[i+subs+1] {
			subs++
		}
		switch {
		case n == 0:
			*p = pen{}
		case n == 4:
			p.line = 1
			if subs > 0 {
				p.line = byte(min(in.value[i+1], 5))
			}
		case n >= 1 && n <= 9:
			p.attrs |= 1 << n
		case n == 21:
			p.line = 2
		case n == 22:
			p.attrs &^= 1<<1 | 1<<2
		case n == 24:
			p.line = 0
		case n == 25:
			p.attrs &^= 1<<5 | 1<<6
		case n >= 23 && n <= 29:
			p.attrs &^= 1 << (n - 20)
		case n == 53 || n == 55:
			p.over = n == 53
		case n >= 30 && n <= 37:
			p.fore = indexed + color(n-30)
		case n >= 40 && n <= 47:
			p.back = indexed + color(n-40)
		case n >= 90 && n <= 97:
			p.fore = indexed + color(n-90+8)
		case n >= 100 && n <= 107:
			p.back = indexed + color(n-100+8)
		case n == 39:
			p.fore = 0
		case n == 49:
			p.back = 0
		case n == 59:
			p.under = 0
		case n == 38 || n == 48 || n == 58:
			c, used := in.color(i+1, subs)
			switch n {
			case 38:
				p.fore = c
			case 48:
				p.back = c
			default:
				p.under = c
			}
			i += used
		}
		i += subs
	}
}

// color reads a colour that begins at parameter i, with so many parameters behind colons, and
// returns how many others it has.
func (in *params) color(i, subs int) (c color, used int) {
	at := func(k int) color {
		if k < in.n {
			return color(min(in.value[k], 255))
		}
		return 0
	}
	switch {
	case i < in.n && in.value[i] == 5:
		if subs == 0 {
			used = 2
		}
		return indexed + at(i+1), used
	case i < in.n && in.value[i] == 2:
		first := i + 1
		if subs == 0 {
			used = 4
		} else if subs >= 5 {
			first++ // the colour space
		}
		return direct + at(first)<<16 + at(first+1)<<8 + at(first+2), used
	}
	return 0, 0
}

// appendPen appends what makes a terminal write with p, whatever it wrote with before.
func appendPen(b []byte, p pen) []byte {
	b = append(b, "\x1b[0"...)
	for n := 1; n <= 9; n++ {
		if p.attrs&(1<<n) != 0 {
			b = append(b, ';', byte('0'+n))
		}
	}
	switch {
	case p.line == 1:
		b = append(b, ";4"...)
	case p.line > 1:
		b = append(b, ";4:"...)
		b = append(b, '0'+p.line)
	}
	if p.over {
		b = append(b, ";53"...)
	}
	b = appendColor(b, 38, p.fore)
	b = appendColor(b, 48, p.back)
	b = appendColor(b, 58, p.under)
	return append(b, 'm')
}

func appendColor(b []byte, kind int64, c color) []byte {
	if c == 0 {
		return b
	}
	b = strconv.AppendInt(append(b, ';'), kind, 10)
	if c < direct {
		return strconv.AppendInt(append(b, ";5;"...), int64(c&0xff), 10)
	}
	b = append(b, ";2"...)
	for _, shift := range []int{16, 8, 0} {
		b = strconv.AppendInt(append(b, ';'), int64(c>>shift&0xff), 10)
	}
	return b
}

func appendMode(b []byte, number int, on bool) []byte {
	b = strconv.AppendInt(append(b, "\x1b[?"...), int64(number), 10)
	if on {
		return append(b, 'h')
	}
	return append(b, 'l')
}
