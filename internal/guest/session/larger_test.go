package session

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/terminal/grid"
)

// terminal is one that looks at a session, with what it shows.
type terminal struct {
	viewer *viewer
	grid   *grid.Grid
}

// take reads what the session has for the terminal.
func (term *terminal) take(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	term.grid.Write(term.viewer.pending)
	term.viewer.pending = nil
}

// A program that draws all of its screen when the size changes is shown in the same way by
// all terminals, whatever their sizes and in whatever order they come, go and change: no
// line of an earlier size stays.
func TestSizes(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			var s *Session
			size := wire.Winsize{Rows: 8, Cols: 20}
			lines := 3
			var log []string
			// On the main screen, with lines that wrap, and more of them than fit.
			var drawn []byte
			draw := func() []byte {
				out := []byte("\x1b[2J\x1b[H")
				for i := range lines {
					out = fmt.Appendf(out, "%d %s\r\n", i, strings.Repeat("=", max(int(size.Cols)+rnd.IntN(9)-6, 0)))
				}
				drawn = append(out, "> prompt"...)
				return drawn
			}
			p := Program{
				Input: io.Discard, Signal: func(syscall.Signal) {}, Foreground: func() int { return 0 },
				Resize: func(ws wire.Winsize) { size = ws },
			}
			s = newSession("s", nil, size, p)
			defer s.Exit(Exit{Code: 0})
			s.Output(draw())
			var all []*terminal
			check := func() {
				t.Helper()
				synctest.Wait()
				s.Output(draw())
				want := grid.New(int(size.Rows), int(size.Cols))
				want.Write(drawn)
				for i, term := range all {
					term.take(s)
					if got := term.grid.String(); got != want.String() {
						t.Fatalf("seed %d, %q: terminal %d of %v, where the program has %v, shows\n%s\nwant\n%s", seed, log, i, *term.viewer.tty, size, got, want)
					}
				}
			}
			random := func() wire.Winsize {
				return wire.Winsize{Rows: uint16(3 + rnd.IntN(12)), Cols: uint16(5 + rnd.IntN(40))}
			}
			for range 30 {
				switch n := rnd.IntN(4); {
				case n == 0 || len(all) == 0:
					ws := random()
					v := &viewer{session: s, tty: &ws, readOnly: rnd.IntN(3) == 0, wake: make(chan struct{}, 1)}
					s.add(v)
					all = append(all, &terminal{v, grid.New(int(ws.Rows), int(ws.Cols))})
					log = append(log, fmt.Sprintf("attach %v", ws))
				case n == 1 && len(all) > 1:
					i := rnd.IntN(len(all))
					s.remove(all[i].viewer)
					all = slices.Delete(all, i, i+1)
					log = append(log, fmt.Sprintf("detach %d", i))
				case n == 2:
					i := rnd.IntN(len(all))
					ws := random()
					all[i].take(s)
					all[i].grid.Resize(int(ws.Rows), int(ws.Cols))
					s.resize(all[i].viewer, ws)
					log = append(log, fmt.Sprintf("resize %d to %v", i, ws))
				default:
					lines = 1 + rnd.IntN(10)
					s.Output(draw())
				}
				s.mu.Lock()
				if s.redraw != nil { // at once
					s.redraw.Stop()
					s.redraw = nil
					s.program.Resize(s.size)
				}
				s.mu.Unlock()
				check()
			}
		})
	}
}
