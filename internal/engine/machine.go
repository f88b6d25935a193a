package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// Machine is a machine that runs, or has left its directory.
type Machine struct {
	e *Engine
	m state.Machine
	p plan.Plan

	answers bool // somebody can answer its questions
}

// Name returns the machine's name.
func (m Machine) Name() string { return m.m.Name }

// Plan returns how the machine was started.
func (m Machine) Plan() plan.Plan { return m.p }

// Alive reports whether the machine's supervisor lives.
func (m Machine) Alive() bool { return m.m.Alive() }

// Machine returns the machine name. One that another command starts is waited for.
func (e *Engine) Machine(ctx context.Context, name string) (Machine, error) {
	m, err := e.find(name)
	if err != nil {
		return Machine{}, err
	}
	if m.Status().Phase == state.Starting && e.IsDefined(name) {
		if err := e.waitStarted(ctx, m); err != nil {
			return Machine{}, err
		}
	}
	return e.at(m)
}

// Running returns the machine name, which runs. One with a file of its own is started if
// it does not.
func (e *Engine) Running(ctx context.Context, who string) (Machine, error) {
	machines := e.machines()
	m := machines.At(who)
	defined := e.IsDefined(who)
	if naming.Check(who) == nil && m.Alive() && (!defined || m.Status().Phase == state.Running) {
		return e.at(m)
	}
	if defined {
		if _, err := e.StartNamed(ctx, who, StartOptions{}); err != nil {
			return Machine{}, err
		}
		return e.at(m)
	}
	if _, err := machines.Get(who); err != nil {
		return Machine{}, err
	}
	return Machine{}, fault.New(fault.MachineNotRunning, args{"name": who}, "machine %s does not run", who)
}

// find returns the machine name, whatever it does.
func (e *Engine) find(name string) (state.Machine, error) {
	machines := e.machines()
	m, err := machines.Get(name)
	if err != nil && e.IsDefined(name) {
		return m, fault.New(fault.MachineStopped, args{"name": name}, "%s does not run", name)
	}
	return m, err
}

// at reads what a machine is.
func (e *Engine) at(m state.Machine) (Machine, error) {
	p, err := e.planOf(m)
	return Machine{e: e, m: m, p: p}, err
}

// planOf reads how a machine was started.
func (e *Engine) planOf(m state.Machine) (plan.Plan, error) {
	p, err := m.Plan()
	return p, e.aboutVersion(err, m.Name)
}

// aboutVersion says of which machine err is, if that is of another version of mayfly. One
// that is defined needs only to be started anew, and keeps what it has.
func (e *Engine) aboutVersion(err error, name string) error {
	switch fault.CodeOf(err) {
	case fault.MachineVersion, fault.PlanVersion:
		about := args{"name": name}
		if e.IsDefined(name) {
			about["defined"] = name
		}
		return fault.Wrap(err, fault.MachineVersion, about)
	}
	return err
}

// IsDefined reports whether there is a machine of that name with a file of its own.
func (e *Engine) IsDefined(name string) bool {
	_, err := e.definitions().Get(name)
	return err == nil
}

// RunNames returns the names of machines that run, or have left something.
func (e *Engine) RunNames() ([]string, error) {
	machines := e.machines()
	all, err := machines.List()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range all {
		names = append(names, m.Name)
	}
	return names, nil
}

// DefinedNames returns the names of machines with files of their own.
func (e *Engine) DefinedNames() ([]string, error) {
	all, err := e.definitions().List()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Name)
	}
	return names, nil
}

// StartOptions are the choices of StartNamed.
type StartOptions struct {
	// Fresh copies the workspace anew: changes that were not applied are lost.
	Fresh bool
}

// StartNamed starts the machine name unless it runs, and keeps it. One that another
// command starts is waited for. It reports whether it was this call that started it.
func (e *Engine) StartNamed(ctx context.Context, name string, opt StartOptions) (started bool, err error) {
	d, err := e.definitions().Get(name)
	if err != nil {
		return false, err
	}
	m, running, err := e.settleEnding(name)
	if err != nil {
		return false, err
	}
	if !running {
		o, err := e.launch(ctx, d, opt)
		if err == nil {
			return true, o.keepOrClose()
		}
		if !errors.Is(err, state.ErrTaken) {
			return false, err
		}
		// Somebody was faster.
	}
	if err := e.waitStarted(ctx, m); err != nil {
		return false, err
	}
	e.note(NoteRunsAlready, args{"name": name})
	return false, nil
}

func (o *Owned) keepOrClose() error {
	err := o.Keep()
	if err != nil {
		o.Close()
	}
	return err
}

// Serve starts the machine name for a service manager: unlike StartNamed it is an error
// if it runs already. The machine is kept, so that its end is the whole ladder.
func (e *Engine) Serve(ctx context.Context, name string, opt StartOptions) (*Owned, error) {
	d, err := e.definitions().Get(name)
	if err != nil {
		return nil, err
	}
	_, running, err := e.settleEnding(name)
	if err != nil {
		return nil, err
	}
	foreign := fault.New(fault.MachineForeign, args{"name": name}, "%s runs already, and not as a part of this service", name)
	if running {
		return nil, foreign
	}
	o, err := e.launch(ctx, d, opt)
	if errors.Is(err, state.ErrTaken) {
		return nil, foreign
	}
	if err != nil {
		return nil, err
	}
	return o, o.keepOrClose()
}

// launch starts the machine of d, which does not run. The machine ends with its owner
// unless that keeps it.
func (e *Engine) launch(ctx context.Context, d definition.Definition, opt StartOptions) (*Owned, error) {
	p, err := e.planNamed(ctx, d, false)
	if err != nil {
		return nil, err
	}
	if err := e.checkWorkspace(p); err != nil {
		return nil, err
	}
	var prepare func() error
	if opt.Fresh {
		prepare = d.ResetCopy // not of a machine that somebody else has started meanwhile
	}
	return e.bringUp(ctx, p, prepare)
}

// waitStarted waits until the machine m can be used, which somebody else has started or
// is starting. If that comes to nothing it is an error, and the machine is not started
// from here: it may have been stopped on purpose.
func (e *Engine) waitStarted(ctx context.Context, m state.Machine) error {
	p, err := e.planOf(m)
	if err != nil && m.Alive() {
		return err
	}
	limit := control.StartTimeout(p)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fault.New(fault.StartTimeout, args{"name": m.Name},
		"another command has been starting %s for %v", m.Name, limit))
	defer cancel()
	defer e.done()
	for said := false; ; said = true {
		// Until it is kept it ends with the command that starts it.
		switch st := m.Status(); {
		case st.Phase == state.Running && st.Kept:
			return nil
		case st.Phase == state.Dead:
			return fault.New(fault.StartAbandoned, args{"name": m.Name}, "%s does not run: the command that was starting it gave up", m.Name)
		}
		if !said {
			e.step(StepAwaitStart, args{"name": m.Name})
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// settle returns the place of the machine name, which is running or has nothing left of
// an earlier run.
func (e *Engine) settle(name string) (m state.Machine, running bool, err error) {
	machines := e.machines()
	m = machines.At(name)
	switch err := control.Remove(m); {
	case errors.Is(err, state.ErrAlive):
		return m, true, nil
	case err != nil && !errors.Is(err, state.ErrNotFound):
		return m, false, err
	}
	e.tellLive(context.Background(), name)
	return m, false, nil
}

// settleEnding is settle that waits for a machine that is being stopped.
func (e *Engine) settleEnding(name string) (m state.Machine, running bool, err error) {
	m, running, err = e.settle(name)
	if err != nil || !running || m.Status().Phase != state.Stopping {
		return m, running, err
	}
	e.step(StepAwaitEnd, args{"name": name})
	err = control.AwaitEnd(m)
	e.done()
	if err != nil {
		return m, true, err
	}
	return e.settle(name)
}

// Stop stops the machine name. It reports whether it ran.
func (e *Engine) Stop(who string) (ran bool, err error) {
	machines := e.machines()
	m := machines.At(who)
	if _, err := e.definitions().Get(who); err != nil {
		if _, runErr := machines.Get(who); runErr != nil {
			return false, err
		}
		return false, fault.New(fault.MachineUnkept, args{"name": who}, "%s keeps nothing when it is stopped: it is not defined", who)
	}
	if !m.Alive() {
		_, _, err := e.settle(who)
		return false, err
	}
	if m.Status().Phase == state.Starting {
		// It has nothing to save yet, and does not listen.
		control.Kill(m)
		for range 200 {
			if _, running, err := e.settle(who); err != nil || !running {
				return true, err
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if pid := m.Applying(); pid != 0 {
		e.step(StepAwaitApply, args{"name": who, "pid": strconv.Itoa(pid)})
		defer e.done()
	}
	if err := control.Stop(m); err != nil && m.Alive() {
		return true, fault.Wrap(err, fault.MachineStuck, args{"name": who})
	}
	e.tellLive(context.Background(), who)
	return true, nil
}

// Stop stops the machine. It may be one that Stop of an Engine refuses.
func (m Machine) Stop() error {
	m.keepTranscripts()
	err := control.Stop(m.m)
	m.e.tellLive(context.Background(), m.Name())
	return err
}

// CheckStart finds out whether the machine name could be started now.
func (e *Engine) CheckStart(ctx context.Context, name string) error {
	d, err := e.definitions().Get(name)
	if err != nil {
		return err
	}
	_, err = e.planNamed(ctx, d, false) // with its dotfiles, which must be there by then
	return err
}

// Reset stops the machine name and throws away what it has written.
func (e *Engine) Reset(name string) error {
	d, err := e.definitions().Get(name)
	if err != nil {
		return err
	}
	if _, err := e.Stop(name); err != nil {
		return err
	}
	release, err := e.hold(name)
	if err != nil {
		return err
	}
	defer release()
	if err := e.saveTranscripts(name); err != nil {
		return err
	}
	return d.Reset()
}

// hold keeps the machine name, which does not run, from being started.
func (e *Engine) hold(name string) (release func(), err error) {
	machines := e.machines()
	if _, _, err := e.settle(name); err != nil {
		return nil, err
	}
	m, lock, err := machines.Create(plan.Plan{Version: plan.Version, Name: name})
	if err != nil {
		return nil, err
	}
	return func() {
		if err := m.Remove(); err != nil {
			e.note(NoteReleaseName, args{"reason": err.Error()})
		}
		lock.Release()
	}, nil
}

// saveTranscripts keeps what a machine's coding agents said, and says where.
func (e *Engine) saveTranscripts(name string) error {
	path, err := e.definitions().SaveTranscripts(name, time.Now())
	if path != "" {
		e.note(NoteTranscripts, args{"path": path})
	}
	return err
}

// How long a machine that keeps nothing may take to tell its transcripts, and how long its
// guest, before it is ended without.
const (
	transcriptTimeout = 10 * time.Second
	transcriptLimit   = 5 * time.Second
)

// keepTranscripts keeps what the coding agents of a machine said that keeps nothing, before
// its end, and says where. What one keeps that is defined its supervisor fetches.
func (m Machine) keepTranscripts() {
	if m.p.Keep != nil || len(m.p.Image.Agents) == 0 || !m.Alive() || m.m.Status().Phase != state.Running {
		return
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), transcriptTimeout, errors.New("the guest takes too long"))
	defer cancel()
	path, err := m.e.definitions().AddTranscripts(m.Name(), time.Now(), func(w io.Writer) (n int64, err error) {
		stream, err := m.open(ctx)
		if err != nil {
			return 0, err
		}
		defer stream.Close()
		n, err = client.Transcripts(stream, m.p.Guest.User.Home, transcriptLimit, w)
		return n, m.spoken(ctx, err)
	})
	if path != "" {
		m.e.note(NoteTranscripts, args{"path": path})
	}
	if err != nil {
		m.e.note(NoteTranscriptsLost, args{"reason": err.Error()})
	}
}

// Remove ends the machine name and removes what there is of it. With force it is killed
// in place of being asked to end.
func (e *Engine) Remove(who string, force bool) error {
	runErr := e.removeRun(who, force)
	if runErr != nil && !errors.Is(runErr, state.ErrNotFound) {
		return runErr
	}
	d := e.definitions().At(who)
	if !exists(d.Path) && (!exists(d.Dir) || naming.Check(who) != nil) {
		return runErr // it has no definition
	}
	release, err := e.hold(who)
	if err != nil {
		return err
	}
	defer release()
	if err := e.saveTranscripts(who); err != nil {
		return err
	}
	return e.definitions().Remove(who)
}

// removeRun ends a machine and removes its directory.
func (e *Engine) removeRun(name string, force bool) error {
	machines := e.machines()
	m, err := machines.Get(name)
	if err != nil {
		return err
	}
	if m.Alive() {
		// One that is being started has nothing to save yet, and does not listen.
		if force || m.Status().Phase == state.Starting {
			control.Kill(m)
		} else {
			if known, err := e.at(m); err == nil { // else it is another version's
				known.keepTranscripts()
			}
			if err := control.Stop(m); err != nil && m.Alive() {
				return fault.Wrap(err, fault.MachineStuck, args{"name": name})
			}
		}
	}
	for range 100 {
		// A supervisor that ends in order removes its machine itself.
		err = control.Remove(m)
		if errors.Is(err, state.ErrNotFound) {
			err = nil
		}
		if !errors.Is(err, state.ErrAlive) {
			e.tellLive(context.Background(), name)
			return err
		}
		time.Sleep(20 * time.Millisecond) // it is ending
	}
	return fault.Wrap(err, fault.MachineStuck, args{"name": name})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
