package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/hardware"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/workspace"
)

// start brings the machine up: from a template if it can, else by booting. The
// workspace is packed meanwhile.
func (s *supervisor) start(ctx context.Context) (err error) {
	if n := len(s.image.Layers); n == 0 || n > plan.MaxLayers {
		return fmt.Errorf("the image has %d layers; a machine takes 1 to %d", n, plan.MaxLayers)
	}
	if err := s.writeStatus(state.Starting); err != nil {
		return err
	}
	if err := s.openOutputs(); err != nil {
		return err
	}
	if err := s.makeKept(ctx); err != nil {
		return err
	}
	if s.copy, err = s.keptCopy(); err != nil {
		return err
	}
	if err := s.makeDisks(); err != nil {
		return err
	}
	if err := s.makeNetwork(); err != nil {
		return err
	}
	// A workspace that cannot be packed ends the start, and a start that ends
	// ends the packing.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	packed := s.packInBackground(ctx, cancel)
	err = s.bringUp(ctx, packed)
	if err == nil {
		err = s.whileAlive(ctx, s.complete)
	}
	cancel(err)
	// The pack writes into the machine's directory: it is waited for.
	packErr := packed()
	if packErr != nil && !errors.Is(packErr, context.Canceled) && context.Cause(ctx) == packErr {
		return packErr
	}
	return err
}

// packInBackground begins to pack the workspace and returns how to wait for
// that. An error ends the context by cancel.
func (s *supervisor) packInBackground(ctx context.Context, cancel context.CancelCauseFunc) (wait func() error) {
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		if err = s.packWorkspace(ctx); err != nil {
			cancel(err)
		}
	}()
	return func() error {
		<-done
		return err
	}
}

// bringUp gets a configured guest. A machine that cannot begin from a template
// boots.
func (s *supervisor) bringUp(ctx context.Context, packed func() error) error {
	if t, id := s.template(ctx); t != nil {
		s.events.phase(control.PhaseRestore)
		memory, err := s.memoryOf(t)
		if err != nil {
			s.how.Reason = err.Error()
			s.warn("booting: %v", err)
			t.Close()
			return s.byBooting(ctx, packed)
		}
		// It stays open, and so is not removed, as long as the machine lives.
		err = s.fromTemplate(ctx, t, memory, packed)
		if err == nil {
			s.how.Template = t.Key
			return nil
		}
		if _, ok := errors.AsType[*restoreError](err); !ok || ctx.Err() != nil {
			return err
		}
		t.Close()
		s.giveUp(id, err)
		if err := s.makeDisks(); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.byBooting(ctx, packed)
}

// byBooting boots the machine.
func (s *supervisor) byBooting(ctx context.Context, packed func() error) error {
	timeout := control.BootTimeout(s.plan.Machine)
	if err := s.startShares(); err != nil {
		return err
	}
	if err := s.startMachine(ctx, hardware.Of(s.machine, s.plan, s.image)); err != nil {
		return err
	}
	return s.whileAlive(ctx, func(ctx context.Context) error {
		s.events.phase(control.PhaseBoot)
		if err := s.greet(ctx, timeout); err != nil {
			return err
		}
		s.events.phase(control.PhasePrepare)
		if _, err := s.prepare(ctx, nil); err != nil {
			return err
		}
		return s.finish(ctx, timeout, packed)
	})
}

// finish makes the guest that is up this machine.
func (s *supervisor) finish(ctx context.Context, timeout time.Duration, packed func() error) error {
	if err := packed(); err != nil {
		return err
	}
	s.events.phase(control.PhaseConfigure)
	return s.configure(ctx, timeout)
}

// complete makes of the configured guest what its users expect. What fails here is no
// template's fault.
func (s *supervisor) complete(ctx context.Context) error {
	if s.plan.Image.Init == plan.InitSystemd {
		if err := s.startSystemd(ctx); err != nil {
			return err
		}
	}
	return s.publish()
}

// whileAlive runs f with a context that ends when the VMM does, and explains
// its error.
func (s *supervisor) whileAlive(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	vmm := s.vmm
	go func() {
		select {
		case <-vmm.Done():
			cancel(errDied)
		case <-ctx.Done():
		}
	}()
	for _, sv := range s.shares {
		go func() {
			select {
			case <-sv.Done():
				cancel(errDied)
			case <-ctx.Done():
			}
		}()
	}
	err := f(ctx)
	if err != nil {
		if failure := s.shareFailure(); failure != nil {
			return failure
		}
	}
	if err != nil && s.ended() {
		return s.explain(errors.New("the machine ended while it was started"))
	}
	return err
}

var errDied = errors.New("the virtual machine monitor ended")

// makeDisks makes the disks of this machine alone, anew if they are there.
func (s *supervisor) makeDisks() error {
	scratch := s.machine.File(state.ScratchFile)
	if err := os.Remove(scratch); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make the scratch disk: %w", err)
	}
	if err := image.CopySparse(scratch, s.image.Scratch); err != nil {
		return fmt.Errorf("make the scratch disk: %w", err)
	}
	if err := s.packDotfiles(); err != nil {
		return err
	}
	if !s.plan.Workspace.Copied() || s.copy != "" {
		return nil
	}
	packed, _ := s.machine.WorkspaceFiles(s.plan)
	// The VMM opens the file now and the guest reads it only once it is
	// configured: in between it is filled.
	f, err := os.OpenFile(packed, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make the workspace disk: %w", err)
	}
	return errors.Join(f.Truncate(plan.DiskSize), f.Close())
}

// packWorkspace makes the machine's private copy of the workspace, unless it has one.
func (s *supervisor) packWorkspace(ctx context.Context) error {
	ws := s.plan.Workspace
	if !ws.Copied() || s.copy != "" {
		return nil
	}
	packed, list := s.machine.WorkspaceFiles(s.plan)
	f, err := os.OpenFile(packed, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	manifest, err := workspace.Pack(ctx, ws.Path, f, workspace.PackOptions{
		UID:     s.plan.Guest.User.UID,
		GID:     s.plan.Guest.User.GID,
		Exclude: ws.Exclude,
		Warn:    func(n workspace.Note) { s.events.send(control.Event{Note: n.String()}) },
	})
	if err != nil {
		return err
	}
	// The name says that both are whole. Of a copy that is kept it must say so after a
	// crash of the host, too: nobody would pack again, and the guest would find holes.
	sync := func(*os.File) error { return nil }
	if s.plan.Keep != nil {
		sync = (*os.File).Sync
	}
	if err := sync(f); err != nil {
		return fmt.Errorf("write the copy of the workspace: %w", err)
	}
	out, err := os.OpenFile(list+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = manifest.WriteTo(out)
	if err := errors.Join(err, sync(out), out.Close()); err != nil {
		return err
	}
	if err := os.Rename(list+".new", list); err != nil {
		return err
	}
	if s.plan.Keep != nil {
		s.packed, err = copyName(list)
	}
	return err
}
