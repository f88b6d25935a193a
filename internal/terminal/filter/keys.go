package filter

import (
	"strings"
	"sync/atomic"
	"time"
)

// Keys notes when the user last typed or used the mouse. The terminal's answers are no
// user's: a program gets as many as it asks for. Write is for one goroutine, and Since for
// any.
type Keys struct {
	Now func() time.Time // nil is time.Now

	last  atomic.Int64 // nanoseconds since 1970, 0 for never
	state state
	seq   []byte
	esc   bool // the last byte of a text was ESC
}

// Since returns how long ago the user did something.
func (k *Keys) Since() time.Duration {
	last := k.last.Load()
	if last == 0 {
		return 1<<63 - 1
	}
	return k.now().Sub(time.Unix(0, last))
}

func (k *Keys) now() time.Time {
	if k.Now != nil {
		return k.Now()
	}
	return time.Now()
}

// maxKey bounds the sequence of a key in bytes.
const maxKey = 64

// Write looks at input.
func (k *Keys) Write(p []byte) (int, error) {
	for _, b := range p {
		if k.step(b) {
			k.last.Store(k.now().UnixNano())
		}
	}
	return len(p), nil
}

// step takes one byte, and reports whether the user is behind it.
func (k *Keys) step(b byte) bool {
	switch k.state {
	case escape:
		switch b {
		case '[':
			k.state, k.seq = control, k.seq[:0]
		case ']', 'P', '_', '^', 'X':
			k.state, k.esc = text, false
		case 0x1b:
		default:
			k.state = ground
			return true // a key with Alt, or one of SS3's
		}
	case control:
		if b < 0x40 || b > 0x7e {
			if len(k.seq) == maxKey {
				k.state = ground
				return false
			}
			k.seq = append(k.seq, b)
			return false
		}
		k.state = ground
		// Answers, the focus, and sizes.
		return strings.IndexByte("RcntyIO", b) < 0 && (len(k.seq) == 0 || k.seq[0] != '?' && k.seq[0] != '>')
	case text:
		if b == '\a' || k.esc && b == '\\' {
			k.state = ground
		}
		k.esc = b == 0x1b
	default:
		if b == 0x1b {
			k.state = escape
			return false
		}
		return true
	}
	return false
}
