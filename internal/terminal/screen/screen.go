// Package screen follows what a program writes on a terminal, so that another terminal
// can show the same, and the first can be given back.
package screen

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

const (
	// maxSequence bounds a control sequence in bytes. A longer one, a picture
	// say, goes to who looks on, and is not kept.
	maxSequence = 4096
	// maxText bounds a title and the text of a notification.
	maxText = 256
)

// Screen follows the output of a program on a terminal.
//
// It is no terminal emulator and does not know what is shown. It remembers the
// last output, and the modes that the terminal had before it, so that another
// terminal can be brought to the same state, and the first one back to its own.
// What a program asks its terminal, rings and notifies is left out of what is
// remembered: nobody is to answer or hear it twice.
//
// The output is hostile. Whatever it is, the memory is bounded, and what is
// remembered is a whole number of control sequences.
type Screen struct {
	history history
	modes   modes
	title   string
	// inLine says that the cursor may be behind something in its line.
	inLine bool

	state     state
	seq       []byte // the sequence that has begun
	sequences bool   // there was one
	overlong  bool   // it was longer than maxSequence, and is not kept
	c2        bool   // the last byte is the first of a character in two that may be a control

	out Output // of this Write
}

// Output is what one Write of a program comes to.
type Output struct {
	All     []byte  // everything, in whole sequences
	Shown   []byte  // All without what is only for one terminal
	Only    []byte  // what is, in whole sequences that are not too long
	Bell    bool    // the program rang
	Notice  string  // the last notification
	Queries []Query // what it asked and might wait for
}

// Query is a question of a program to its terminal.
type Query byte

// The questions that programs wait for an answer to. There are others.
const (
	QueryAttributes Query = iota // what kind of terminal it is
	QueryStatus                  // whether it works
	QueryCursor                  // where the cursor is
)

// Answer returns what a terminal answers of which nobody sees anything.
func (q Query) Answer() string {
	return map[Query]string{
		QueryAttributes: "\x1b[?62;22c", // a VT220 with colours
		QueryStatus:     "\x1b[0n",
		QueryCursor:     "\x1b[1;1R", // as good as any: there is no cursor
	}[q]
}

// maxQueries bounds Output.Queries.
const maxQueries = 16

// state is where in a control sequence the output is.
type state byte

const (
	ground       state = iota
	escape             // after ESC
	control            // CSI
	command            // OSC, which BEL may end
	text               // DCS, SOS, PM, APC
	commandESC         // ESC in OSC
	textESC            // ESC in the others
	intermediate       // ESC and a space, or one of !"#$%&'()*+,-./
)

// Write takes output of the program. What it returns is valid until the next.
func (s *Screen) Write(p []byte) Output {
	s.out.All, s.out.Shown, s.out.Only, s.out.Queries = s.out.All[:0], s.out.Shown[:0], s.out.Only[:0], s.out.Queries[:0]
	s.out.Bell, s.out.Notice = false, ""
	for len(p) > 0 {
		if s.state == ground {
			n := plain(p)
			if n > 0 {
				s.plain(p[:n])
				p = p[n:]
				continue
			}
		}
		s.step(p[0])
		p = p[1:]
	}
	return s.out
}

// plain returns how many bytes of p mean themselves.
func plain(p []byte) int {
	for i, b := range p {
		if b == 0x1b || b == '\a' || b == 0x05 {
			return i
		}
	}
	return len(p)
}

// plain takes text. Some terminals take the characters U+0080 to U+009F for
// control sequences; they are shown as they are and not remembered.
func (s *Screen) plain(p []byte) {
	s.out.All = append(s.out.All, p...)
	rest := p
	if cr := bytes.LastIndexByte(p, '\r'); cr >= 0 {
		rest, s.inLine = p[cr:], false
	}
	if bytes.ContainsFunc(rest, func(r rune) bool { return r >= ' ' || r == '\t' }) {
		s.inLine = true
	}
	start := 0
	for i, b := range p {
		control := s.c2 && b >= 0x80 && b <= 0x9f
		if s.c2 && !control {
			// It was held back until now.
			s.show([]byte{0xc2})
		}
		s.c2 = b == 0xc2
		if control || s.c2 {
			if i > start {
				s.show(p[start:i])
			}
			start = i + 1
		}
	}
	if start < len(p) {
		s.show(p[start:])
	}
}

// show takes what is for all terminals, now and later.
func (s *Screen) show(p []byte) {
	s.out.Shown = append(s.out.Shown, p...)
	s.history.add(p, &s.modes)
}

// step takes one byte that may belong to a control sequence.
func (s *Screen) step(b byte) {
	if s.state == ground {
		if s.c2 {
			s.c2 = false
			s.show([]byte{0xc2})
		}
		switch b {
		case 0x1b:
			s.begin(escape, b)
		case '\a':
			s.out.Bell = true
			s.out.All, s.out.Only = append(s.out.All, b), append(s.out.Only, b)
		case 0x05:
			s.out.All, s.out.Only = append(s.out.All, b), append(s.out.Only, b)
		}
		return
	}
	if b == 0x18 || b == 0x1a { // cancels what has begun
		s.collect(b)
		s.drop()
		return
	}
	switch s.state {
	case escape:
		s.collect(b)
		switch {
		case b == '[':
			s.state = control
		case b == ']':
			s.state = command
		case b == 'P' || b == 'X' || b == '^' || b == '_':
			s.state = text
		case b == 0x1b:
			s.restart()
		case b >= 0x20 && b <= 0x2f:
			s.state = intermediate
		case b >= 0x30:
			s.end(s.endEscape)
		}
	case intermediate:
		s.collect(b)
		switch {
		case b == 0x1b:
			s.restart()
		case b >= 0x30:
			s.end(s.endEscape)
		}
	case control:
		s.collect(b)
		switch {
		case b == 0x1b:
			s.restart()
		case b >= 0x40:
			s.end(s.endControl)
		}
	case command, text:
		s.collect(b)
		switch {
		case b == 0x1b && s.state == command:
			s.state = commandESC
		case b == 0x1b:
			s.state = textESC
		case b == '\a' && s.state == command:
			s.end(s.endCommand)
		}
	case commandESC, textESC:
		if b == '\\' {
			s.collect(b)
			if s.state == commandESC {
				s.end(s.endCommand)
			} else {
				if !s.overlong && (bytes.HasPrefix(s.seq, []byte("\x1bP+")) || bytes.HasPrefix(s.seq, []byte("\x1bP$"))) {
					s.out.Only = append(s.out.Only, s.seq...) // a question, and no picture
				}
				s.drop()
			}
			return
		}
		// The ESC ended the text and begins another sequence.
		if !s.overlong {
			s.out.All = append(s.out.All, s.seq[:len(s.seq)-1]...)
			s.begin(escape, 0x1b)
		} else {
			s.begin(escape, 0x1b)
			s.seq = s.seq[:0] // the ESC has gone out
			s.overlong = true
		}
		s.step(b)
	}
}

func (s *Screen) begin(st state, b byte) {
	s.state, s.seq, s.overlong, s.sequences = st, append(s.seq[:0], b), false, true
}

// collect takes one more byte of a sequence.
func (s *Screen) collect(b byte) {
	if !s.overlong && len(s.seq) < maxSequence {
		s.seq = append(s.seq, b)
		return
	}
	if !s.overlong {
		s.out.All = append(s.out.All, s.seq...)
		s.seq, s.overlong = s.seq[:0], true
	}
	s.out.All = append(s.out.All, b)
}

// restart is for an ESC in the middle of a sequence, which begins a new one.
func (s *Screen) restart() {
	if !s.overlong {
		s.out.All = append(s.out.All, s.seq[:len(s.seq)-1]...)
		s.begin(escape, 0x1b)
		return
	}
	s.state = escape // and goes on being too long, since its ESC has gone out
}

// end ends a sequence. Of one that was too long nothing is kept.
func (s *Screen) end(take func(seq []byte) (shown bool)) {
	if s.overlong {
		s.drop()
		return
	}
	seq := s.seq
	s.state = ground
	s.out.All = append(s.out.All, seq...)
	before := s.modes
	if take(seq) {
		s.out.Shown = append(s.out.Shown, seq...)
		s.history.add(seq, &before)
	} else {
		s.out.Only = append(s.out.Only, seq...)
	}
}

// drop ends a sequence that is not remembered.
func (s *Screen) drop() {
	if !s.overlong {
		s.out.All = append(s.out.All, s.seq...)
	}
	s.state, s.overlong = ground, false
}

func (s *Screen) endEscape(seq []byte) bool {
	switch string(seq[1:]) {
	case "c":
		s.inLine = false
		s.modes = modes{}
		s.history.clear(&s.modes)
	case "=", ">":
		s.modes.keypad = seq[1] == '='
	case "8":
		s.inLine = true // or not: it is where it was kept
	case "Z":
		return false // asks what kind of terminal it is
	}
	return true
}

// endCommand takes an operating system command: ESC ] NUMBER ; TEXT and its end.
func (s *Screen) endCommand(seq []byte) bool {
	body := bytes.TrimSuffix(bytes.TrimSuffix(seq[2:], []byte{'\a'}), []byte("\x1b\\"))
	number, rest, _ := bytes.Cut(body, []byte(";"))
	switch string(number) {
	case "0", "2":
		s.title = clean(rest)
		return true
	case "1", "8": // name of the icon; link
		return true
	case "9":
		// ConEmu's progress has the same number, and a number of its own.
		if kind, _, ok := bytes.Cut(rest, []byte(";")); !ok || len(kind) != 1 || kind[0] < '1' || kind[0] > '9' {
			s.notice(rest)
		}
	case "777":
		if note, ok := bytes.CutPrefix(rest, []byte("notify;")); ok {
			s.notice(bytes.ReplaceAll(note, []byte(";"), []byte(": ")))
		}
	case "99":
		if _, note, ok := bytes.Cut(rest, []byte(";")); ok && len(note) > 0 {
			s.notice(note)
		}
	}
	return false
}

func (s *Screen) notice(b []byte) {
	if s.out.Notice = clean(b); s.out.Notice == "" {
		s.out.Notice = "…"
	}
}

// clean makes text of what should be one.
func clean(b []byte) string {
	if len(b) > maxText {
		b = b[:maxText]
		for len(b) > 0 && !utf8.RuneStart(b[len(b)-1]) {
			b = b[:len(b)-1]
		}
		b = b[:max(len(b)-1, 0)]
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !termsafe.Printable(r) {
			return ' '
		}
		return r
	}, string(b)))
}

// Title is what the program calls its window.
func (s *Screen) Title() string { return s.title }

// Pastes reports whether the program wants to know what is pasted.
func (s *Screen) Pastes() bool { return s.modes.on(2004) }

// Replay returns what brings a terminal with that many rows to the program's
// screen. It is exact when the program has cleared its screen within what is
// remembered and the terminals are of one size; else it is near it, and the
// program should be made to draw anew.
func (s *Screen) Replay(rows int) []byte {
	m, out := s.history.since(s.modes.alternate())
	b := append([]byte(m.enter(rows)), out...)
	if s.title != "" {
		b = append(b, "\x1b]2;"+s.title+"\a"...)
	}
	return b
}

// Enter returns what makes a terminal with that many rows one with the modes of the
// program's and an empty screen, on which the program's screen is to be drawn by others: it
// wraps, and has no margins.
func (s *Screen) Enter(rows int) []byte {
	m := s.modes
	m.top, m.bottom = 0, 0
	m.changed[originMode], m.changed[wrapMode] = false, false
	b := []byte(m.enter(rows))
	if s.title != "" {
		b = append(b, "\x1b]2;"+s.title+"\a"...)
	}
	return b
}

// Last returns the last output, as far back as the screen was last empty or as it is
// remembered.
func (s *Screen) Last() []byte {
	_, out := s.history.since(s.modes.alternate())
	return bytes.Clone(out)
}

// Leave returns what gives a terminal that got all of the output back to what
// was there before. The next prompt comes below everything.
func (s *Screen) Leave() []byte {
	return append(s.leave(), "\x1b[999;1H\r\n"...)
}

// LeaveEnded is Leave for a program that has ended by itself. Its last words are where
// it left them, which may be the first line: the next prompt comes below its cursor,
// as in the shell that it might have been started from.
func (s *Screen) LeaveEnded() []byte {
	m := &s.modes
	if m.alternate() == 1 || m.bottom > 0 || m.changed[originMode] {
		return s.Leave() // the cursor is not where it left it
	}
	b := s.leave()
	if s.inLine {
		b = append(b, "\r\n"...)
	}
	return b
}

// Restore returns what gives a terminal its modes back, and leaves the cursor where it is.
// It is empty for a program that wrote nothing but text.
func (s *Screen) Restore() []byte {
	if !s.sequences && s.state == ground {
		return nil
	}
	return s.leave()
}

func (s *Screen) leave() []byte {
	var b []byte
	if s.state != ground {
		b = append(b, 0x18) // ends what was cut off
	}
	return append(b, s.modes.leave()...)
}
