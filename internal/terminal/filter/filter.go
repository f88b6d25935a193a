// Package filter keeps from a terminal what the output of a machine must not do to it.
//
// A terminal is a program with an old and large language. Parts of it type into the shell
// that the user returns to, read and write the clipboard and files, open programs, or print.
// The filter is an allow list: text, colours, movements of the cursor and the modes that
// programs on a whole screen need pass, byte for byte, and all else is dropped. A sequence
// goes out whole or not at all, however the output is split, so nothing that follows can
// continue it.
//
// The grammar is that of ECMA-48, in the form that terminals agree on (vt100.net's parser
// for DEC-compatible terminals); the numbers are xterm's ctlseqs.
package filter

import (
	"crypto/sha256"
	"io"
	"time"
	"unicode/utf8"
)

// Options are what the filter asks of its surroundings. All may be left out.
type Options struct {
	// Name stands before the titles and notifications of the machine.
	Name string
	// Workspace is the directory below which links may lead to files, "" for none.
	Workspace string
	// Clipboard reports whether the program may set the clipboard now. nil is never.
	Clipboard func() bool
	// Now is the clock. nil is time.Now.
	Now func() time.Time
}

const (
	// maxSequence bounds a sequence in bytes. A longer one is dropped.
	maxSequence = 4096
	// maxClipboard bounds what sets the clipboard, in bytes of base64.
	maxClipboard = 140 << 10
	// maxTitle bounds a title, and the text of a notification, in characters.
	maxTitle = 128
	// maxQueries bounds the questions to the terminal in each queryTime. Their answers
	// are input, which the shell gets if the program ends before it reads them.
	maxQueries = 64
	queryTime  = time.Second
)

// Filter passes on what a terminal may get. Its methods are for one goroutine.
type Filter struct {
	to io.Writer
	o  Options

	state state
	seq   []byte // the sequence that has begun, or the beginning of a character
	kind  byte   // of a string: the byte after ESC
	long  bool   // the sequence is longer than it may be, and is dropped

	out []byte // of this Write

	queries int       // in the time since asked
	asked   time.Time // the first of these
	tidy    tidy
	stats   Stats
	copied  map[[sha256.Size]byte]bool // texts that were put into the clipboard
}

// Stats is what was done that the user may want to know.
type Stats struct {
	Clipboard int       // how often the clipboard was set
	Refused   int       // how often that was refused
	Asked     time.Time // when the terminal was last asked something; zero for never
}

// state is where in a sequence the output is.
type state byte

const (
	ground state = iota
	escape
	escapeIntermediate
	control       // CSI
	controlBroken // CSI that is no sequence any more, until its end
	text          // OSC, DCS, APC, PM, SOS and the title of screen(1)
	textEscape    // ESC in it
)

// New returns a filter in front of the terminal to.
func New(to io.Writer, o Options) *Filter {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Filter{to: to, o: o}
}

// Stats returns what was done so far.
func (f *Filter) Stats() Stats { return f.stats }

// Write passes on of p what the terminal may get, once it is whole.
func (f *Filter) Write(p []byte) (int, error) {
	f.out = f.out[:0]
	for rest := p; len(rest) > 0; {
		if f.state == ground && len(f.seq) == 0 {
			if n := plain(rest); n > 0 {
				f.out = append(f.out, rest[:n]...)
				rest = rest[n:]
				continue
			}
		}
		f.step(rest[0])
		rest = rest[1:]
	}
	if len(f.out) == 0 {
		return len(p), nil
	}
	if _, err := f.to.Write(f.out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// plain returns how many bytes at the beginning of p are printable ASCII or break lines.
func plain(p []byte) int {
	for i, b := range p {
		if (b < 0x20 || b > 0x7e) && b != '\n' && b != '\r' {
			return i
		}
	}
	return len(p)
}

// step takes one byte.
func (f *Filter) step(b byte) {
	switch {
	case f.state == ground:
		f.stepGround(b)
		return
	case b == 0x18 || b == 0x1a: // CAN and SUB end any sequence
		f.drop()
		return
	}
	switch f.state {
	case escape:
		f.stepEscape(b)
	case escapeIntermediate:
		switch {
		case b == 0x1b:
			f.begin()
		case b < 0x20 || b > 0x7e:
			f.drop()
			f.stepGround(b)
		default:
			f.collect(b)
			if b >= 0x30 {
				f.end(f.escapeSequence)
			}
		}
	case control, controlBroken:
		f.stepControl(b)
	case text:
		switch {
		case b == 0x1b:
			f.state = textEscape
		case b == '\a' && f.kind == ']':
			f.endText("\a")
		default:
			f.collect(b)
		}
	case textEscape:
		if b == '\\' {
			f.endText("\x1b\\")
			return
		}
		// The ESC ended the text, without what makes it one, and begins another sequence.
		f.begin()
		f.stepEscape(b)
	}
}

// stepGround takes a byte outside of sequences: text in UTF-8, controls, or ESC.
func (f *Filter) stepGround(b byte) {
	if len(f.seq) > 0 { // within a character
		f.seq = append(f.seq, b)
		switch {
		case utf8.FullRune(f.seq):
			f.character()
		case b < 0x80:
			f.character() // cut off
		}
		return
	}
	switch {
	case b == 0x1b:
		f.begin()
	case b < 0x20:
		if passedControl[b] {
			f.out = append(f.out, b)
		}
	case b < 0x7f:
		f.out = append(f.out, b)
	case b >= 0xc0:
		f.seq = append(f.seq, b)
	case b >= 0xa0: // no UTF-8, and no control for any terminal
		f.out = append(f.out, b)
	}
}

// passedControl are the controls that pass: BEL BS HT LF VT FF CR, SO and SI.
var passedControl = [32]bool{'\a': true, '\b': true, '\t': true, '\n': true, '\v': true, '\f': true, '\r': true, 0x0e: true, 0x0f: true}

// character takes the bytes of f.seq, which are a character or none.
func (f *Filter) character() {
	seq := f.seq
	r, n := utf8.DecodeRune(seq)
	if r != utf8.RuneError || n > 1 {
		if r < 0x80 || r > 0x9f { // C1 is there in two bytes, too
			f.out = append(f.out, seq[:n]...)
		}
		f.seq = f.seq[:0]
		return
	}
	// The first is no character's. The rest may be something of its own.
	rest := append([]byte(nil), seq[1:]...)
	if seq[0] >= 0xa0 {
		f.out = append(f.out, seq[0])
	}
	f.seq = f.seq[:0]
	for _, b := range rest {
		f.step(b)
	}
}

func (f *Filter) begin() {
	f.state, f.seq, f.long = escape, append(f.seq[:0], 0x1b), false
}

// drop forgets the sequence.
func (f *Filter) drop() { f.state, f.seq, f.long = ground, f.seq[:0], false }

func (f *Filter) collect(b byte) {
	most := maxSequence
	if f.kind == ']' && f.state == text && len(f.seq) > 4 && string(f.seq[1:5]) == "]52;" {
		most = maxClipboard
	}
	if len(f.seq) >= most {
		f.long = true
	}
	if !f.long {
		f.seq = append(f.seq, b)
	}
}

func (f *Filter) stepEscape(b byte) {
	switch {
	case b == 0x1b:
		f.begin()
	case b < 0x20 || b > 0x7e:
		f.drop()
		f.stepGround(b)
	case b == '[':
		f.collect(b)
		f.state = control
	case b == ']', b == 'P', b == 'X', b == '^', b == '_', b == 'k':
		f.collect(b)
		f.state, f.kind = text, b
	case b < 0x30:
		f.collect(b)
		f.state = escapeIntermediate
	default:
		f.collect(b)
		f.end(f.escapeSequence)
	}
}

// stepControl takes a byte of CSI. A control in the middle of one, which terminals carry
// out at once, makes it none.
func (f *Filter) stepControl(b byte) {
	switch {
	case b == 0x1b:
		f.begin()
	case b < 0x20 || b == 0x7f:
		f.state = controlBroken
	case b > 0x7e:
		f.drop()
		f.stepGround(b)
	case f.state == controlBroken:
		if b >= 0x40 {
			f.drop()
		}
	default:
		f.collect(b)
		if b >= 0x40 {
			f.end(f.controlSequence)
		}
	}
}

// end ends a sequence, which passes if take says so.
func (f *Filter) end(take func(seq []byte) bool) {
	if !f.long && take(f.seq) {
		f.out = append(f.out, f.seq...)
	}
	f.drop()
}

// endText ends a string; end is what it ended with.
func (f *Filter) endText(end string) {
	if !f.long && f.kind == ']' {
		f.command(f.seq[2:], end)
	}
	f.drop()
}

// mayAsk reports whether one more question may go to the terminal.
func (f *Filter) mayAsk() bool {
	if now := f.o.Now(); now.Sub(f.asked) >= queryTime {
		f.asked, f.queries = now, 0
	}
	f.queries++
	if f.queries > maxQueries {
		return false
	}
	f.stats.Asked = f.o.Now()
	return true
}
