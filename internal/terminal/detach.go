package terminal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// DefaultDetachKeys is what ends the looking at a session. Programs for agents use
// nearly every other key with Ctrl, and the first of the two still goes to the
// program when another key follows.
const DefaultDetachKeys = "\x1d\x1d" // ctrl-],ctrl-]

// DetachKeys are the characters of a sequence of keys. It is a flag's value.
type DetachKeys []byte

func (k *DetachKeys) Type() string { return "keys" }

func (k *DetachKeys) Set(text string) (err error) {
	*k, err = ParseDetachKeys(text)
	return err
}

func (k *DetachKeys) String() string {
	var words []string
	for _, b := range *k {
		if b >= 0x20 {
			words = append(words, string(rune(b)))
			continue
		}
		words = append(words, "ctrl-"+strings.ToLower(string(rune(b|0x40))))
	}
	return strings.Join(words, ",")
}

// ParseDetachKeys reads keys as docker does: single characters, and ctrl- with a
// letter or one of @[\]^_, with commas between. An empty text is no sequence.
func ParseDetachKeys(text string) (DetachKeys, error) {
	if text == "" {
		return nil, nil
	}
	var keys DetachKeys
	for word := range strings.SplitSeq(text, ",") {
		letter, ctrl := strings.CutPrefix(strings.ToLower(word), "ctrl-")
		switch {
		case ctrl && len(letter) == 1 && (letter[0] >= 'a' && letter[0] <= 'z' || strings.ContainsAny(letter, `@[\]^_`)):
			keys = append(keys, letter[0]&0x1f)
		case !ctrl && len(word) == 1 && word[0] >= 0x20 && word[0] < 0x7f:
			keys = append(keys, word[0])
		default:
			return nil, fmt.Errorf(`%q is no key: a character, or ctrl- and one of a-z @ [ \ ] ^ _`, word)
		}
	}
	if len(keys) > 8 {
		return nil, errors.New("more than 8 keys")
	}
	return keys, nil
}

// ErrDetach is DetachReader's when the keys were typed.
var ErrDetach = errors.New("detached")

// DefaultPasteKeys paste what is on the clipboard of the host: the first of them is that of
// DefaultDetachKeys.
const DefaultPasteKeys = "\x1dv" // ctrl-],v

// DetachReader is what is typed at a terminal until the keys are. A beginning of
// them waits for the next key, and goes on with it when it is another.
type DetachReader struct {
	From   io.Reader
	Keys   DetachKeys
	Detach func() // called once they were typed
	// PasteKeys have Paste called each time they are typed, and are no input. They may
	// begin as Keys do.
	PasteKeys DetachKeys
	Paste     func()

	held    []byte // a beginning of keys, as it was typed
	matched []byte // the keys in held
	part    []byte // the beginning of an escape sequence
	ready   []byte // for Read
	err     error  // after ready
}

func (d *DetachReader) Read(p []byte) (int, error) {
	for len(d.ready) == 0 {
		if d.err != nil {
			if d.err == ErrDetach && d.Detach != nil {
				d.Detach()
				d.Detach = nil
			}
			return 0, d.err
		}
		buf := make([]byte, max(len(p), 1))
		n, err := d.From.Read(buf)
		d.take(buf[:n])
		if err != nil && d.err == nil {
			d.err = err
			d.release()
			d.ready = append(d.ready, d.part...)
		}
	}
	n := copy(p, d.ready)
	d.ready = d.ready[n:]
	return n, nil
}

// release passes on what was held: it was not the keys.
func (d *DetachReader) release() {
	d.ready = append(d.ready, d.held...)
	d.held, d.matched = nil, nil
}

// match takes the key char, which was typed as raw. It reports false for one with which
// neither keys begin nor go on.
func (d *DetachReader) match(char int, raw []byte) bool {
	if char < 0 {
		return false
	}
	typed := append(bytes.Clone(d.matched), byte(char))
	switch {
	case len(d.Keys) > 0 && bytes.Equal(typed, d.Keys):
		d.held, d.matched = append(d.held, raw...), typed
		d.err = ErrDetach
	case len(d.PasteKeys) > 0 && bytes.Equal(typed, d.PasteKeys):
		d.held, d.matched = nil, nil
		d.Paste()
	case bytes.HasPrefix(d.Keys, typed), bytes.HasPrefix(d.PasteKeys, typed):
		d.held, d.matched = append(d.held, raw...), typed
	default:
		return false
	}
	return true
}

// take looks at what was typed.
func (d *DetachReader) take(typed []byte) {
	typed = append(d.part, typed...)
	d.part = nil
	for len(typed) > 0 && d.err == nil {
		k := nextKey(typed)
		if k.part {
			d.part = bytes.Clone(typed)
			return
		}
		raw := typed[:k.size]
		typed = typed[k.size:]
		switch {
		case k.silent && len(d.matched) > 0:
			d.held = append(d.held, raw...)
		case k.silent:
			d.ready = append(d.ready, raw...)
		case d.match(k.char, raw):
		default:
			d.release()
			if !d.match(k.char, raw) {
				d.ready = append(d.ready, raw...)
			}
		}
	}
}

// key is one key as a terminal sends it.
type key struct {
	size   int
	char   int  // its character, or -1
	silent bool // nothing was pressed: a key came up, or one like Shift went down
	part   bool // more must come before it is known
}

// nextKey reads the key that typed begins with. Programs may have switched the
// terminal to kitty's protocol or to xterm's modifyOtherKeys, where Ctrl-] is
// ESC [ 93 ; 5 u or ESC [ 27 ; 5 ; 93 ~ and no control character. An ESC alone is
// a key; one with "[" and a digit begins a sequence of which the rest is under way.
func nextKey(typed []byte) key {
	if typed[0] != 0x1b {
		return key{size: 1, char: int(typed[0])}
	}
	none := key{size: 1, char: -1}
	if len(typed) < 3 || typed[1] != '[' || typed[2] < '0' || typed[2] > '9' {
		return none
	}
	end := bytes.IndexFunc(typed[2:], func(r rune) bool { return (r < '0' || r > '9') && r != ';' && r != ':' })
	if end < 0 {
		if len(typed) > 64 {
			return none
		}
		return key{part: true}
	}
	end += 2
	none.size = end + 1
	fields := strings.Split(string(typed[2:end]), ";")
	modifiers := "1"
	switch {
	case typed[end] == 'u':
		if len(fields) > 1 {
			modifiers = fields[1]
		}
	case typed[end] == '~' && len(fields) == 3 && fields[0] == "27":
		modifiers, fields[0] = fields[1], fields[2]
	default:
		return none
	}
	code, _, _ := strings.Cut(fields[0], ":")
	char, err := strconv.Atoi(code)
	if err != nil {
		return none
	}
	modifiers, event, _ := strings.Cut(modifiers, ":")
	held, _ := strconv.Atoi(modifiers)
	const shift, ctrl, locks = 1, 4, 64 | 128
	held = max(held-1, 0) &^ locks
	switch {
	case event == "3", char >= 57441 && char <= 57454, char == 57358, char == 57360:
		none.silent = true
	case held&^shift == ctrl && char >= '@' && char < 0x7f:
		none.char = char & 0x1f
	case held&^shift == 0 && char >= 0x20 && char < 0x7f:
		none.char = char
	}
	return none
}
