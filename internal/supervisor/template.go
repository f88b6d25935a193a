package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/hardware"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/template"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// baseWarm is run before every save: the first program of a guest finds nothing
// in its page cache.
const baseWarm = "/bin/true; command -v bash >/dev/null && exec bash -c :"

// settleTime is how long a guest is left alone before it is saved.
const settleTime = 300 * time.Millisecond

// template returns the template that the machine is to begin from, and makes it
// when there is none. It returns nil when the machine is to boot, and has said
// why.
func (s *supervisor) template(ctx context.Context) (*template.Template, template.Identity) {
	tp := s.plan.Template
	if !tp.Use {
		s.how.Reason = tp.Reason
		return nil, template.Identity{}
	}
	if len(s.plan.Shares) > 0 {
		// Whatever the plan says: a server would write into the memory of all.
		s.how.Reason = "it has live directories"
		return nil, template.Identity{}
	}
	store := template.Store{Dir: tp.Dir}
	spec := hardware.Base(s.plan, s.image)
	spec.Memory = machine.SharedMemory{Path: template.MemoryName}
	warm := append([]string{baseWarm}, tp.Prewarm...)
	network := ""
	if s.plan.Network.Mode == plan.NetworkUser {
		network = fmt.Sprintf("%+v", *userNetwork())
	}
	id, err := template.Identify(s.plan.Machine, s.image, warm, network, s.driver.Command(spec))
	if err != nil {
		s.how.Reason = err.Error()
		s.log.Warn("no template", "err", err)
		return nil, id
	}
	if f := store.Failed(id); f != nil {
		s.how.Reason = fmt.Sprintf("one failed %v ago: %s", time.Since(f.Time).Round(time.Second), f.Reason)
		return nil, id
	}
	s.events.phase(control.PhaseFindTemplate)
	t, err := store.Find(id)
	if err == nil {
		return t, id
	}
	s.how.Reason = "there was none"
	if damaged, ok := errors.AsType[*template.DamagedError](err); ok {
		s.how.Reason = damaged.Error()
		s.warn("%v; it is made anew", damaged)
	} else if !errors.Is(err, template.ErrNone) {
		s.how.Reason = err.Error()
		return nil, id
	}
	waiting := func() { s.events.phase(control.PhaseAwaitTemplate) }
	t, err = store.Make(ctx, id, s.plan.Machine.MemoryMiB, waiting, func(ctx context.Context, memory machine.SharedMemory) (template.Saved, error) {
		s.how.Made = true
		return s.save(ctx, memory, warm)
	})
	if err != nil {
		s.how.Made = false
		s.how.Reason = err.Error()
		if ctx.Err() == nil {
			s.log.Warn("no template", "err", err)
			s.warn("booting, since there can be no template: %v", err)
			store.Fail(id, err)
		}
		return nil, id
	}
	// Now is the time to make room for it.
	if _, err := store.Collect(template.Policy{MaxAge: template.MaxAge, MaxBytes: template.MaxBytes}); err != nil {
		s.log.Warn("collect templates", "err", err)
	}
	return t, id
}

// warn tells the user something in one line.
func (s *supervisor) warn(format string, args ...any) {
	s.events.send(control.Event{Note: fmt.Sprintf(format, args...)})
}

// save boots a machine that has nothing of this one, its memory in a file, and
// saves it.
func (s *supervisor) save(ctx context.Context, memory machine.SharedMemory, warm []string) (template.Saved, error) {
	var saved template.Saved
	s.events.phase(control.PhaseMakeTemplate)
	spec := hardware.Base(s.plan, s.image)
	spec.Memory = memory
	if err := s.startVMM(ctx, spec); err != nil {
		return saved, err
	}
	defer s.killVMM()
	err := s.whileAlive(ctx, func(ctx context.Context) error {
		if err := s.greet(ctx, control.BootTimeout(s.plan.Machine)); err != nil {
			return err
		}
		s.events.phase(control.PhasePrewarm)
		notes, err := s.prepare(ctx, warm)
		if err != nil {
			return err
		}
		saved.Notes = notes
		for _, note := range notes {
			s.warn("%s", termsafe.Line(note))
		}
		// What the guest's kernel still has to do after the unmounts would
		// be done again in every machine.
		select {
		case <-time.After(settleTime):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		s.events.phase(control.PhaseSave)
		ctx, cancel := context.WithTimeoutCause(ctx, control.RestoreTimeout(s.plan.Machine), errors.New("QEMU does not save the machine"))
		defer cancel()
		var buf bytes.Buffer
		saved.Pause, err = s.vmm.Save(ctx, &buf)
		saved.State = buf.Bytes()
		return err
	})
	return saved, err
}

// restoreError is an error because of which the machine is to boot.
type restoreError struct{ error }

func (e *restoreError) Unwrap() error { return e.error }

var errNotRestored = errors.New("no answer from the restored guest")

// memoryOf returns the machine's memory, which begins as t's.
func (s *supervisor) memoryOf(t *template.Template) (machine.Memory, error) {
	if s.plan.Template.Copy {
		return t.Copy(s.machine.File(state.MemoryFile))
	}
	return t.Private(), nil
}

// fromTemplate restores the machine, whose memory begins as t's, and configures
// it. The error is a restoreError if it may be the template's fault.
func (s *supervisor) fromTemplate(ctx context.Context, t *template.Template, memory machine.Memory, packed func() error) error {
	timeout := control.RestoreTimeout(s.plan.Machine)
	spec := hardware.Of(s.machine, s.plan, s.image)
	spec.Incoming = true
	spec.Memory = memory
	if err := s.startMachine(ctx, spec); err != nil {
		return &restoreError{err}
	}
	err := s.whileAlive(ctx, func(ctx context.Context) error {
		deadline, cancel := context.WithTimeoutCause(ctx, timeout, errNotRestored)
		defer cancel()
		if err := s.vmm.Restore(deadline, t.State()); err != nil {
			return &restoreError{err}
		}
		if err := s.dial(deadline); err != nil {
			return &restoreError{err}
		}
		if err := s.finish(ctx, timeout, packed); err != nil {
			// What a guest that works says, it would say when booted, too.
			if _, said := errors.AsType[*client.GuestError](err); said || packed() != nil {
				return err
			}
			return &restoreError{err}
		}
		return nil
	})
	if err != nil && s.ended() {
		err = &restoreError{err}
	}
	return err
}

// giveUp takes the template with this identity, which failed with err, out of
// use.
func (s *supervisor) giveUp(id template.Identity, err error) {
	tail := s.vmmLog.end(1)
	s.killVMM()
	os.Remove(s.machine.File(state.MemoryFile))
	s.log.Warn("restore", "err", err, "vmm", tail)
	store := template.Store{Dir: s.plan.Template.Dir}
	if asideErr := errors.Join(store.SetAside(id), store.Fail(id, err)); asideErr != nil {
		s.log.Warn("set the template aside", "err", asideErr)
	}
	s.how.Made, s.how.Reason = false, err.Error()
	s.warn("booting, since the template could not be restored: %v", err)
}
