package cli

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/dashboard"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
	"github.com/mayfly-vm/mayfly/internal/terminal"
	"github.com/mayfly-vm/mayfly/internal/terminal/grid"
)

// screen is the dashboard of mayfly top on a terminal. One goroutine has all of it; others
// find things out and send it what to do with them.
type screen struct {
	a     *app
	model *dashboard.Model
	look  *lookout

	full  *terminal.Full[mayfly.Size] // nil while a command has the terminal
	grid  *grid.Grid                  // nil where the terminal is too large or has no size
	stale bool                        // the terminal shows something else

	in    *terminal.Input
	typed chan []byte // from in; closed at its end
	keys  dashboard.Keys
}

// dashboard shows the machines until the user ends it.
func (a *app) dashboard(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	look, err := newLookout(ctx, a.getenv)
	if err != nil {
		return err
	}
	look.begin()
	s := &screen{a: a, model: dashboard.New(), look: look}
	defer s.tellNotes()
	return s.show()
}

// show shows what the lookout learns, until the user ends it.
func (s *screen) show() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()                       // also when it panics
	second := time.NewTicker(time.Second) // for ages
	defer second.Stop()
	for {
		s.draw()
		select {
		case <-s.look.ctx.Done():
			return nil // as its user ends it
		case p, ok := <-s.typed:
			if !ok {
				return nil // there is nobody any more
			}
			if on, err := s.press(p); err != nil || !on {
				return err
			}
		case size := <-s.full.Resized:
			s.resize(size)
		case learned := <-s.look.learned:
			learned(s.model)
		case <-second.C:
		}
	}
}

// press does what somebody typed. It reports false at the end.
func (s *screen) press(typed []byte) (on bool, err error) {
	for _, k := range s.keys.Read(typed) {
		switch do := s.model.Press(k); do.Kind {
		case dashboard.None:
		case dashboard.Quit:
			return false, nil
		case dashboard.Suspend:
			if !terminal.Suspend() {
				s.model.Say("no shell here would go on with a job that is stopped")
			}
		case dashboard.Redraw:
			s.resize(s.full.Size)
		case dashboard.Run:
			return s.run(do) // what was typed behind it was typed blindly
		default:
			s.look.do(do)
		}
	}
	return true, nil
}

// enter takes the terminal.
func (s *screen) enter() (err error) {
	if s.in, err = terminal.NewInput(s.a.In); err != nil {
		return err
	}
	if s.full, err = terminal.NewFull[mayfly.Size](s.a.In, s.a.Out); err != nil {
		s.in.Stop()
		return err
	}
	s.typed = make(chan []byte)
	in, typed, done := s.in, s.typed, s.look.ctx.Done()
	go func() {
		defer close(typed)
		for buf := make([]byte, 1024); ; {
			n, err := in.Read(buf)
			if err != nil {
				return
			}
			select {
			case typed <- append([]byte(nil), buf[:n]...):
			case <-done:
				return
			}
		}
	}()
	s.keys = dashboard.Keys{}
	s.resize(s.full.Size)
	return nil
}

// leave gives the terminal back as it was.
func (s *screen) leave() {
	if s.full == nil {
		return
	}
	s.in.Stop()
	for range s.typed { // until nobody reads it
	}
	s.full.Close()
	s.full = nil
}

func (s *screen) resize(size mayfly.Size) {
	s.full.Size, s.stale, s.grid = size, true, nil
	if rows, cols := int(size.Rows), int(size.Cols); grid.Fits(rows, cols) {
		s.grid = grid.New(rows, cols)
		s.model.Resize(rows, cols)
	}
}

// draw brings the terminal to show the model.
func (s *screen) draw() {
	if s.grid == nil {
		return
	}
	s.model.Tick(time.Now())
	s.model.Draw(s.grid)
	if s.stale {
		s.stale = false
		s.full.Write(append([]byte("\x1b[0m\x1b[2J"), s.grid.All()...))
		return
	}
	s.full.Write(s.grid.Update())
}

// run gives the terminal to commands, one after the other, and takes it back. It reports false
// if the user is gone, or wants to be.
func (s *screen) run(do dashboard.Action) (on bool, err error) {
	ctx := s.look.ctx
	s.leave()
	end := s.holdSignals()
	read, handed := do.Read, false
	for _, args := range do.Commands {
		if len(do.Commands) > 1 {
			s.a.note("%s of %s:", args[0], args[len(args)-1])
		}
		command := &app{Streams: s.a.Streams, version: s.a.version, getenv: s.a.getenv}
		if command.execute(args) != exitOK {
			read = true
		}
		handed = handed || (args[0] == "attach" || args[0] == "shell") && !command.detached
	}
	end()
	if read && ctx.Err() == nil {
		fmt.Fprint(s.a.Err, "mayfly: press Enter for the dashboard ")
		if _, err := terminal.ReadLine(ctx, s.a.In); err != nil {
			return false, nil
		}
	}
	if ctx.Err() != nil {
		return false, nil
	}
	if handed {
		s.model.Hold()
	}
	s.look.again()
	return true, s.enter()
}

// holdSignals leaves signals to a command, until end is called. What tells us to end does so
// when the command has ended.
func (s *screen) holdSignals() (end func()) {
	// Who does not end after some has the signals kill us both, as ever.
	numbers, free := s.a.signals.Forward(func(error) { signal.Reset() }, func() bool { return false })
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case n := <-numbers:
				if sig := syscall.Signal(n); sig == syscall.SIGTERM || sig == syscall.SIGHUP {
					s.look.cancel()
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		free()
		close(done)
		<-ended
	}
}

// tellNotes prints what was told while the screen was taken.
func (s *screen) tellNotes() {
	for _, e := range s.look.takeNotes() {
		s.a.note("%s", words.Event(e))
	}
}
