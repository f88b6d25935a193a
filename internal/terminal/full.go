package terminal

import (
	"io"
	"os"
	"sync"
)

// What takes the whole screen of a terminal and gives it back: the alternate screen, without a
// cursor, without a line that goes on in the next row, and with marks around what is pasted,
// which is not what somebody types.
const (
	enterFull = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?2004h"
	leaveFull = "\x1b[?2004l\x1b[?7h\x1b[?25h\x1b[0m\x1b[?1049l"
)

// Full is the whole screen of a terminal, which is raw. What was on the screen before is
// there again after Close, and while mayfly is stopped.
type Full[S ~struct{ Rows, Cols uint16 }] struct {
	// Size is that of the terminal, and Resized gets each new one. It also gets the size when
	// the screen is empty and has to be drawn anew.
	Size    S
	Resized <-chan S

	to      io.Writer
	restore func()

	mu   sync.Mutex // guards what follows, and writing
	away bool       // the screen is not ours for now
}

// NewFull takes the screen of the terminal that is in and out.
func NewFull[S ~struct{ Rows, Cols uint16 }](in, out *os.File) (*Full[S], error) {
	f := &Full[S]{to: out}
	take := func(away bool, sequence string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.away = away
		io.WriteString(f.to, sequence)
	}
	var err error
	f.Size, f.Resized, f.restore, err = raw[S](in, func() { take(false, enterFull) }, func() { take(true, leaveFull) })
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Write draws on the screen, if that is ours.
func (f *Full[S]) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return len(p), nil
	}
	return f.to.Write(p)
}

// Close gives the screen back.
func (f *Full[S]) Close() { f.restore() }
