package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/hardware"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/template"
)

// baseWarm is run before every save: the first program of a guest finds nothing
// in its page cache.
const baseWarm = "/bin/true; command -v bash >/dev/null && exec bash -c :"

// settleTime is how long a guest is left alone before it is saved.
const settleTime = 300 * time.Millisecond

// origin is what a machine begins from.
type origin struct {
	template *template.Template // nil for one that boots
	id       template.Identity  // of the template
	how      control.Start      // so far: why there is no template, or why it was made
}

// findOrigin returns what the machine is to begin from, and makes its template when
// there is none.
func (s *supervisor) findOrigin(ctx context.Context, p *prints) (o origin) {
	tp := s.plan.Template
	switch {
	case !tp.Use:
		o.how.Reason = tp.Reason
		return o
	case len(s.plan.Shares) > 0:
		// Whatever the plan says: a server would write into the memory of all.
		o.how.Reason = "it has live directories"
		return o
	case !s.driver.Capabilities().Save:
		o.how.Reason = s.plan.Machine.Engine.Name + " cannot save machines"
		return o
	}
	store := template.Store{Dir: tp.Dir}
	warm := append([]string{baseWarm}, tp.Prewarm...)
	var err error
	if o.id, err = s.identify(warm); err != nil {
		o.how.Reason = err.Error()
		s.log.Warn("no template", "err", err)
		return o
	}
	if f := store.Failed(o.id); f != nil {
		o.how.Reason = fmt.Sprintf("one failed %v ago: %s", time.Since(f.Time).Round(time.Second), f.Reason)
		return o
	}
	s.events.phase(control.PhaseFindTemplate)
	if o.template, err = store.Find(o.id); err == nil {
		return o
	}
	o.how.Reason = "there was none"
	if damaged, ok := errors.AsType[*template.DamagedError](err); ok {
		o.how.Reason = damaged.Error()
		s.note(control.NoteTemplateDamaged, fault.Args{"reason": damaged.Error()}, "%v; it is made anew", damaged)
	} else if !errors.Is(err, template.ErrNone) {
		o.how.Reason = err.Error()
		return o
	}
	s.makeTemplate(ctx, store, &o, warm, p)
	return o
}

// identify returns the identity of the machine's template.
func (s *supervisor) identify(warm []string) (template.Identity, error) {
	spec := hardware.Base(s.plan, s.image)
	spec.Memory = machine.SharedMemory{Path: template.MemoryName}
	network := ""
	if s.plan.Network.Mode == plan.NetworkUser {
		network = fmt.Sprintf("%+v", *userNetwork())
	}
	return template.Identify(s.plan.Machine, s.image, warm, network, s.driver.Command(spec))
}

// makeTemplate makes the template of o, or waits for another supervisor that does.
func (s *supervisor) makeTemplate(ctx context.Context, store template.Store, o *origin, warm []string, p *prints) {
	waiting := func() { s.events.phase(control.PhaseAwaitTemplate) }
	made := false
	t, err := store.Make(ctx, o.id, s.plan.Machine.MemoryMiB, waiting, func(ctx context.Context, memory machine.SharedMemory) (template.Saved, error) {
		made = true
		return s.save(ctx, memory, warm, p)
	})
	if err != nil {
		o.how.Reason = err.Error()
		if ctx.Err() == nil {
			s.log.Warn("no template", "err", err)
			s.note(control.NoteTemplateNotMade, fault.Args{"reason": err.Error()}, "booting, since there can be no template: %v", err)
			store.Fail(o.id, err)
		}
		return
	}
	o.template, o.how.Made = t, made
	// Now is the time to make room for it.
	if _, err := store.Collect(template.Policy{MaxAge: template.MaxAge, MaxBytes: template.MaxBytes}); err != nil {
		s.log.Warn("collect templates", "err", err)
	}
}

// save boots a machine that has nothing of this one, its memory in a file, and
// saves it.
func (s *supervisor) save(ctx context.Context, memory machine.SharedMemory, warm []string, p *prints) (saved template.Saved, err error) {
	s.events.phase(control.PhaseMakeTemplate)
	spec := hardware.Base(s.plan, s.image)
	spec.Memory = memory
	v, err := s.startVM(ctx, spec, p, nil, nil)
	if err != nil {
		return saved, err
	}
	defer v.Close()
	err = v.whileAlive(ctx, func(ctx context.Context) (err error) {
		g, err := s.greet(ctx, v)
		if err != nil {
			return err
		}
		defer g.Close()
		s.events.phase(control.PhasePrewarm)
		if saved.Notes, err = s.prepare(ctx, g, warm); err != nil {
			return err
		}
		for _, note := range saved.Notes {
			s.noteGuest(note)
		}
		// What the guest's kernel still has to do after the unmounts would
		// be done again in every machine.
		select {
		case <-time.After(settleTime):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		s.events.phase(control.PhaseSave)
		ctx, cancel := context.WithTimeoutCause(ctx, control.RestoreTimeout(s.plan.Machine), errNotSaved)
		defer cancel()
		var buf bytes.Buffer
		saved.Pause, err = v.Save(ctx, &buf)
		saved.State = buf.Bytes()
		return err
	})
	return saved, err
}

// restoreError is an error because of which the machine is to boot.
type restoreError struct{ error }

func (e *restoreError) Unwrap() error { return e.error }

var (
	errNotSaved    = errors.New("the VMM does not save the machine")
	errNotRestored = errors.New("no answer from the restored guest")
)

// memoryError is an error because of which a machine has no memory to begin with. It is
// not the template's fault.
type memoryError struct{ error }

func (e *memoryError) Unwrap() error { return e.error }

// memoryOf returns the machine's memory, which begins as t's.
func (s *supervisor) memoryOf(t *template.Template) (machine.Memory, error) {
	if s.plan.Template.Copy {
		return t.Copy(s.machine.File(state.MemoryFile))
	}
	return t.Private(), nil
}

// fromTemplate restores the machine from t, which it takes over, and configures it.
// The error is a restoreError if it may be the template's fault.
func (s *supervisor) fromTemplate(ctx context.Context, t *template.Template, g ground) (_ *up, err error) {
	// Open, and so not removed, as long as the machine lives.
	u := up{closers: closers{func() { t.Close() }}}
	defer func() {
		if err != nil {
			u.Close()
		}
	}()
	spec := hardware.Of(s.machine, s.plan, s.image)
	spec.Incoming = true
	if spec.Memory, err = s.memoryOf(t); err != nil {
		return nil, &memoryError{err}
	}
	if u.vm, err = s.startMachine(ctx, spec, g, nil); err != nil {
		return nil, &restoreError{err}
	}
	u.add(u.vm.Close)
	err = u.vm.whileAlive(ctx, func(ctx context.Context) (err error) {
		timeout := control.RestoreTimeout(s.plan.Machine)
		deadline, cancel := context.WithTimeoutCause(ctx, timeout, errNotRestored)
		defer cancel()
		if err := u.vm.Restore(deadline, t.State()); err != nil {
			return &restoreError{err}
		}
		if u.guest, err = dialGuest(deadline, u.vm, s.budget); err != nil {
			return &restoreError{err}
		}
		u.add(u.guest.Close)
		if err := s.finish(ctx, u.guest, timeout, g); err != nil {
			// What a guest that works says, it would say when booted, too.
			_, said := errors.AsType[*client.GuestError](err)
			if _, packErr := g.packing.wait(); said || packErr != nil {
				return err
			}
			return &restoreError{err}
		}
		return nil
	})
	if err != nil && u.vm.ended() {
		err = &restoreError{err}
	}
	return &u, err
}

// giveUp takes the template with this identity, which failed with err, out of
// use.
func (s *supervisor) giveUp(id template.Identity, err error, p *prints) {
	os.Remove(s.machine.File(state.MemoryFile))
	s.log.Warn("restore", "err", err, "vmm", p.vmm.end(1))
	store := template.Store{Dir: s.plan.Template.Dir}
	if asideErr := errors.Join(store.SetAside(id), store.Fail(id, err)); asideErr != nil {
		s.log.Warn("set the template aside", "err", asideErr)
	}
	s.note(control.NoteTemplateNotRestored, fault.Args{"reason": err.Error()}, "booting, since the template could not be restored: %v", err)
}
