package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// started is a machine that mayfly run has started.
type started interface {
	commander
	changed
	Plan() mayfly.Plan
	Alive() bool
	Reached() ([]mayfly.Reached, error)
	Lost() error
	Keep() error
	Discard() error
}

// fate is what becomes of a machine that mayfly run has started, once its command has
// begun. It is kept: work may be in it. Only who decided that it is not needed discards it,
// as the last step.
type fate struct {
	a *app
	m started

	mu      sync.Mutex // guards what follows
	kept    bool
	discard bool
}

// keep lets the machine outlive mayfly, and may be called more than once.
func (f *fate) keep() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept {
		return nil
	}
	err := f.m.Keep()
	f.kept = err == nil
	return err
}

// settle carries out what was decided, and names the machine that is kept.
func (f *fate) settle() error {
	if f.discard || !f.m.Alive() {
		f.a.phase("end the machine")
		return f.m.Discard()
	}
	if err := f.keep(); err != nil {
		return err
	}
	name := f.m.Name()
	f.a.note("machine %s is kept: mayfly shell %s, mayfly apply %s, mayfly rm %s", name, name, name, name)
	return nil
}

// runIn runs a command in a machine that was started for it, and settles what becomes of
// its changes and of the machine. attended says that there was somebody to ask when it
// started.
func (a *app) runIn(ctx context.Context, m started, o *runOptions, argv []string, attended bool) error {
	w := work{
		keep: o.keep, discard: o.discard,
		do: func() (int, error) { return a.execIn(ctx, m, argv, o.noTTY) },
		finish: func() (discard bool, err error) {
			err = a.reportNetwork(m, o.learn)
			a.phase("list and apply the changes")
			discard, reviewErr := a.finish(ctx, o, m, attended)
			return discard, errors.Join(err, lostMeanwhile(m, reviewErr))
		},
	}
	return a.workIn(ctx, m, w)
}

// work is what a machine was started for.
type work struct {
	keep    bool // the machine lives on, in any case
	lasting bool // it lives on if mayfly is killed
	discard bool // or not, once the work is done
	// do does it, and returns its exit code.
	do func() (int, error)
	// finish brings back what came of it, and reports whether the machine is not needed any
	// more.
	finish func() (discard bool, err error)
}

// workIn does work in a machine that was started for it, and settles what becomes of that.
func (a *app) workIn(ctx context.Context, m started, w work) (err error) {
	f := &fate{a: a, m: m}
	defer func() {
		settled := f.settle()
		if _, ok := errors.AsType[exitCode](err); ok && settled != nil {
			a.printError(settled, false) // the command's own failure is what scripts want to know
			return
		}
		if settled != nil {
			err = errors.Join(err, settled)
		}
	}()
	defer f.surviveHangup()()

	a.phase("run the command")
	if ctx.Err() != nil {
		f.discard = !w.keep // nothing has run
		return context.Cause(ctx)
	}
	if w.lasting {
		if err := f.keep(); err != nil {
			f.discard = true // nothing has run
			return err
		}
	}
	code, err := w.do()
	if errors.Is(err, syscall.EPIPE) && errorCode(err) == "" {
		// Its reader has ended, as head does: the command gets no further, either.
		code, err = 128+int(syscall.SIGPIPE), nil
	}
	switch errorCode(err) {
	case "machine-lost":
		err = runError{m.Lost(), exitMayfly}
	case "command-not-found", "command-refused": // nothing has run
		f.discard = !w.keep
	}
	if err != nil {
		return commandFailed(err)
	}
	discard, err := w.finish()
	// With discard it was decided before.
	f.discard = w.discard || discard && err == nil
	if code == 0 {
		return err
	}
	// The command's own failure is what scripts want to know.
	if _, silent := errors.AsType[exitCode](err); err != nil && !silent {
		a.printError(a.interrupted(err), false)
	}
	return exitCode(code)
}

// lostMeanwhile says why the machine ended, if that is what err is about.
func lostMeanwhile(m started, err error) error {
	if errorCode(err) == "machine-lost" {
		return runError{m.Lost(), exitMayfly}
	}
	return err
}

// surviveHangup keeps the machine at once when the terminal is closed, since whoever
// closes it may kill mayfly next. A reader that ends early, as head does, does not end
// mayfly either.
func (f *fate) surviveHangup() (end func()) {
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE) // what writes to the pipe gets an error
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-f.a.signals.HungUp():
			f.keep() // settle tries again, and says what is wrong
		case <-done:
		}
	})
	return func() {
		close(done)
		watching.Wait()
		signal.Stop(pipes)
	}
}

// attended reports whether there is somebody who can be asked.
func (a *app) attended() bool { return terminal.Is(a.In) && terminal.Is(a.Err) }

// hungUp reports whether the terminal was closed.
func (a *app) hungUp() bool {
	select {
	case <-a.signals.HungUp():
		return true
	default:
		return false
	}
}

// finish lists the changes and does with them what the user wants. It reports whether
// the machine is not needed any more.
func (a *app) finish(ctx context.Context, o *runOptions, m started, attended bool) (discard bool, err error) {
	p := m.Plan()
	switch {
	case p.Workspace == "":
		return !o.keep && !a.hungUp(), nil
	case p.Mode == "share":
		if o.apply {
			a.note("there is nothing to apply: the workspace of machine %s is a live share, so every change is in your directory already", m.Name())
		}
		return !o.keep && !a.hungUp(), nil
	}
	answer, err := a.review(ctx, m, reviewOptions{
		apply: o.apply, discard: o.discard, ignored: o.ignored, branch: o.branch, keep: o.keep, quiesce: !o.keep, attended: attended,
		running: o.keep, selection: o.selection(),
	})
	switch {
	case err != nil || answer == answerKeep:
		return false, err
	case answer == answerConflict:
		a.note("the machine is kept, with the changes that were not applied")
		return false, held(answer)
	case answer == answerHeld:
		return false, held(answer)
	}
	return !o.keep, nil
}
