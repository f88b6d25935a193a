package screen

import (
	"fmt"
	"strings"
)

// tracked are the private modes of a terminal that a program may leave set, as
// xterm numbers them, with what a terminal begins with. The three that show the
// alternate screen are last: they are switched after and before all others.
var tracked = [...]struct {
	number  int
	initial bool
}{
	{1, false}, // cursor keys send application sequences
	{5, false}, // reverse video
	{6, false}, // origin
	{7, true},  // lines wrap
	{9, false}, // mouse, and its protocols and encodings
	{1000, false},
	{1001, false},
	{1002, false},
	{1003, false},
	{1005, false},
	{1006, false},
	{1015, false},
	{1016, false},
	{1004, false}, // the terminal says when it is in front
	{1007, false}, // the wheel sends arrow keys
	{25, true},    // the cursor is seen
	{66, false},   // keypad
	{2004, false}, // what is pasted comes in brackets
	{2026, false}, // output is shown later, all at once
	{2027, false}, // clusters of characters are as wide as they look
	{2031, false}, // the terminal tells of light and dark
	{2048, false}, // the terminal tells of its size
	{47, false}, {1047, false}, {1049, false},
}

const (
	firstAlternate = len(tracked) - 3
	originMode     = 2 // in tracked, as the next
	wrapMode       = 3
	kittyDepth     = 8 // of the stack of keyboard flags; terminals have no more
)

// modes is what a program has made of its terminal, beside what is shown. Its
// zero value is a terminal that nobody has used yet.
type modes struct {
	changed     [len(tracked)]bool // differs from tracked.initial
	keypad      bool               // sends application sequences
	top, bottom int                // rows that scroll; 0, 0 for all
	cursor      int                // its shape
	otherKeys   int                // xterm's modifyOtherKeys
	kitty       [2]keyboard        // of the main and the alternate screen
}

// keyboard is the stack of flags of kitty's keyboard protocol.
type keyboard struct {
	depth int
	flags [kittyDepth + 1]int // flags[depth] hold
}

// set switches the private mode number.
func (m *modes) set(number int, on bool) {
	for i, t := range tracked {
		if t.number != number {
			continue
		}
		if i >= firstAlternate && !on {
			clear(m.changed[firstAlternate:]) // each of the three takes the main screen back
			return
		}
		m.changed[i] = on != t.initial
	}
}

// on reports whether the private mode number, which is tracked, is set.
func (m *modes) on(number int) bool {
	for i, t := range tracked {
		if t.number == number {
			return m.changed[i] != t.initial
		}
	}
	return false
}

// alternate tells which screen is shown: 0 for the main one, 1 for the other.
func (m *modes) alternate() int {
	for _, on := range m.changed[firstAlternate:] {
		if on {
			return 1
		}
	}
	return 0
}

func (k *keyboard) push(flags int) {
	if k.depth == kittyDepth {
		copy(k.flags[:], k.flags[1:])
		k.depth--
	}
	k.depth++
	k.flags[k.depth] = flags
}

func (k *keyboard) pop(n int) {
	if n > k.depth {
		*k = keyboard{}
		return
	}
	k.depth -= n
}

func (k *keyboard) set(flags, how int) {
	switch how {
	case 2:
		flags |= k.flags[k.depth]
	case 3:
		flags = k.flags[k.depth] &^ flags
	}
	k.flags[k.depth] = flags
}

// enter returns what makes a terminal that has rows rows, and was used for other
// things, one with these modes and an empty screen.
func (m *modes) enter(rows int) string {
	var b strings.Builder
	b.WriteString("\x1b[0m\x1b(B\x0f")
	if m.alternate() == 0 {
		// What is there moves to where it can be scrolled back to.
		b.WriteString(strings.Repeat("\n", min(max(rows, 1), 500)))
	}
	m.switchAll(&b, firstAlternate, len(tracked), func(initial bool) bool { return !initial })
	b.WriteString("\x1b[H\x1b[2J")
	if m.bottom > 0 {
		fmt.Fprintf(&b, "\x1b[%d;%dr", m.top, m.bottom)
	}
	if m.keypad {
		b.WriteString("\x1b=")
	}
	if m.cursor != 0 {
		fmt.Fprintf(&b, "\x1b[%d q", m.cursor)
	}
	if m.otherKeys != 0 {
		fmt.Fprintf(&b, "\x1b[>4;%dm", m.otherKeys)
	}
	k := m.kitty[m.alternate()]
	if k.flags[0] != 0 {
		fmt.Fprintf(&b, "\x1b[=%du", k.flags[0])
	}
	for _, flags := range k.flags[1 : k.depth+1] {
		fmt.Fprintf(&b, "\x1b[>%du", flags)
	}
	m.switchAll(&b, 0, firstAlternate, func(initial bool) bool { return !initial })
	return b.String()
}

// leave returns what gives the terminal back to whoever used it before.
func (m *modes) leave() string {
	var b strings.Builder
	b.WriteString("\x1b[0m\x1b(B\x0f")
	alternate := m.alternate()
	m.kitty[alternate].leave(&b)
	initial := func(initial bool) bool { return initial }
	m.switchAll(&b, 0, firstAlternate, initial)
	if m.keypad {
		b.WriteString("\x1b>")
	}
	if m.cursor != 0 {
		b.WriteString("\x1b[0 q")
	}
	if m.otherKeys != 0 {
		b.WriteString("\x1b[>4;0m")
	}
	if m.bottom > 0 {
		b.WriteString("\x1b[r")
	}
	m.switchAll(&b, firstAlternate, len(tracked), initial)
	if alternate == 1 {
		m.kitty[0].leave(&b)
	}
	return b.String()
}

func (k *keyboard) leave(b *strings.Builder) {
	if k.depth > 0 {
		fmt.Fprintf(b, "\x1b[<%du", k.depth)
	}
	if k.flags[0] != 0 {
		b.WriteString("\x1b[=0u")
	}
}

// switchAll switches those of the modes from up to to that are changed to what
// to says.
func (m *modes) switchAll(b *strings.Builder, from, to int, value func(initial bool) bool) {
	for i := from; i < to; i++ {
		if !m.changed[i] {
			continue
		}
		letter := 'l'
		if value(tracked[i].initial) {
			letter = 'h'
		}
		fmt.Fprintf(b, "\x1b[?%d%c", tracked[i].number, letter)
	}
}
