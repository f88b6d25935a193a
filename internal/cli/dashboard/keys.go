package dashboard

import (
	"bytes"
	"unicode/utf8"
)

// Key is what somebody typed: a character, or the name of a key, such as "up" or "enter".
// Pasted says that it came with a paste, which is no command.
type Key struct {
	Name   string
	Pasted bool
}

// Keys turns what a terminal sends into keys. The zero value is ready.
type Keys struct {
	rest   []byte // the beginning of a sequence
	pasted bool
}

// maxSequence bounds a sequence of a terminal that is waited for.
const maxSequence = 64

// controls are the characters that are no text and have a meaning.
var controls = map[byte]string{
	'\r': "enter", '\n': "enter", '\t': "tab", 0x7f: "backspace", '\b': "backspace",
	0x03: "ctrl-c", 0x04: "ctrl-d", 0x0c: "ctrl-l", 0x15: "ctrl-u", 0x1a: "ctrl-z", 0x0e: "down", 0x10: "up",
}

// sequences are what terminals send for keys, behind ESC.
var sequences = map[string]string{
	"[A": "up", "[B": "down", "OA": "up", "OB": "down", "[5~": "pgup", "[6~": "pgdn",
	"[H": "home", "[F": "end", "OH": "home", "OF": "end", "[1~": "home", "[4~": "end", "[7~": "home", "[8~": "end", "[3~": "backspace",
	"OM": "enter",
}

// Read returns the keys in p, which is what one read of the terminal gave. An ESC at its end
// is the key; the beginning of a sequence waits for the rest.
func (k *Keys) Read(p []byte) (keys []Key) {
	p = append(k.rest, p...)
	k.rest = nil
	for len(p) > 0 {
		name, n := next(p)
		if n == 0 {
			if len(p) < maxSequence {
				k.rest = bytes.Clone(p)
			}
			return keys
		}
		p = p[n:]
		switch name {
		case "":
		case "paste":
			k.pasted = true
		case "pasted":
			k.pasted = false
		default:
			keys = append(keys, Key{name, k.pasted})
		}
	}
	return keys
}

// next returns the first key in p, "" for none that is known, and its length: 0 if more must
// come.
func next(p []byte) (name string, n int) {
	b := p[0]
	switch {
	case b == 0x1b && len(p) == 1:
		return "esc", 1
	case b == 0x1b && p[1] == '[':
		end := bytes.IndexFunc(p[2:], func(r rune) bool { return r < 0x20 || r >= 0x40 })
		if end < 0 {
			return "", 0
		}
		n = 2 + end + 1
		switch string(p[1:n]) {
		case "[200~":
			return "paste", n
		case "[201~":
			return "pasted", n
		}
		return sequences[string(p[1:n])], n
	case b == 0x1b && p[1] == 'O':
		if len(p) == 2 {
			return "", 0
		}
		return sequences[string(p[1:3])], 3
	case b == 0x1b:
		return "esc", 1
	case b < 0x20 || b == 0x7f:
		return controls[b], 1
	case b < utf8.RuneSelf:
		return string(rune(b)), 1
	case !utf8.FullRune(p):
		return "", 0
	}
	r, n := utf8.DecodeRune(p)
	if r == utf8.RuneError {
		return "", n
	}
	return string(r), n
}
