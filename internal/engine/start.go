package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/hardware"
	"github.com/mayfly-vm/mayfly/internal/image"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/machine/drivers"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/sshkey"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// Owned is a machine that this process has started. It ends with the process,
// however that ends, unless it is kept.
type Owned struct {
	Machine
	owner *control.Owner
}

// Start starts a machine without a file of its own and returns when it can be used.
func (e *Engine) Start(ctx context.Context, s Spec) (*Owned, error) {
	e.phase(PhasePlan)
	p, err := e.planSpec(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := e.checkWorkspace(p); err != nil {
		return nil, err
	}
	e.tellLive(ctx, "")
	e.detail(DetailAccelerator, args{"accelerator": string(p.Machine.Accelerator), "reason": p.Machine.Reason})
	if e.IsDefined(p.Name) {
		return nil, fault.New(fault.NameDefined, args{"name": p.Name}, "%s is the name of a machine that mayfly new made", p.Name)
	}
	// A name that is taken is found out before a long build, too.
	machines := e.machines()
	if _, err := machines.Get(p.Name); err == nil {
		return nil, fault.New(fault.NameTaken, args{"name": p.Name}, "the name %s is %w", p.Name, state.ErrTaken)
	}
	return e.bringUp(ctx, p, nil)
}

// bringUp starts the machine of a plan and returns when it can be used. prepare, unless
// it is nil, is called when the machine's name is ours and nothing of it runs yet.
func (e *Engine) bringUp(ctx context.Context, p plan.Plan, prepare func() error) (*Owned, error) {
	secrets, err := e.secrets(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, note := range p.Notes {
		e.note(NotePlan, args{"text": note})
	}
	e.phase(PhaseImage)
	defer e.done()
	img, err := e.ensureImage(ctx, p.Image)
	if err != nil {
		return nil, err
	}
	if p.Keep == nil { // a machine that is defined has had its image for long
		for _, agent := range img.Agents {
			e.note(NoteCodingAgent, args{"agent": agent})
		}
	}
	e.phase(PhaseSupervisor)
	owner, err := e.spawn(ctx, p, img, secrets, prepare)
	if err != nil {
		return nil, err
	}
	if err := owner.Ready(ctx, func(ev control.Event) { e.opt.Tell(Event{Kind: FromMachine, Machine: &ev}) }); err != nil {
		owner.Close()
		e.tellLive(context.WithoutCancel(ctx), p.Name)
		return nil, err
	}
	o := &Owned{Machine: Machine{e: e, m: owner.Machine, p: p}, owner: owner}
	if err := o.seedAgents(ctx); err != nil {
		e.note(NoteAgentSettings, args{"reason": err.Error()})
	}
	return o, nil
}

// ensureImage builds an image unless it is there.
func (e *Engine) ensureImage(ctx context.Context, p plan.Image) (image.Image, error) {
	store, err := e.images()
	if err != nil {
		return image.Image{}, err
	}
	img, err := store.Ensure(ctx, p, e.imageStep)
	e.done()
	return img, err
}

// spawn makes the machine and its supervisor.
func (e *Engine) spawn(ctx context.Context, p plan.Plan, img image.Image, secrets map[string]secret.Value, prepare func() error) (*control.Owner, error) {
	// Else a program that forgot Internal would start itself for ever.
	if len(os.Args) > 1 && os.Args[1] == control.Command && control.Spawned() {
		return nil, errors.New("this process was started as a supervisor: its program must call Internal first")
	}
	var proxies dial.Proxies
	if p.Network.Mode == plan.NetworkUser {
		var err error
		if proxies, err = dial.NewProxies(p.Network.Proxy, e.opt.Getenv); err != nil {
			return nil, err
		}
	}
	machines := e.machines()
	m, lock, err := machines.Create(p)
	if err != nil {
		return nil, err
	}
	err = errors.Join(state.WriteJSON(m.File(state.ImageFile), img), e.authorizeKeys(m))
	if err == nil && prepare != nil {
		err = prepare()
	}
	if err == nil {
		err = e.watchLive(ctx, p)
	}
	if err != nil {
		lock.Release()
		return nil, errors.Join(err, m.Remove())
	}
	owner, err := control.Spawn(e.opt.Program, m, lock, secrets, control.Given{Proxies: control.Proxies(proxies), Logins: e.logins().Dir})
	if err != nil {
		return nil, errors.Join(err, m.Remove())
	}
	return owner, nil
}

// secrets gets the values of the plan's secrets.
func (e *Engine) secrets(ctx context.Context, p plan.Plan) (map[string]secret.Value, error) {
	values := make(map[string]secret.Value)
	var errs []error
	for _, s := range p.Network.Secrets {
		v, err := e.secret(ctx, s)
		if err != nil {
			errs = append(errs, fmt.Errorf("secret %s: %w", s.Name, err))
			continue
		}
		values[s.Name] = v
	}
	return values, errors.Join(errs...)
}

// authorizeKeys writes down who may log in to a new machine: the holders of the
// user's own keys, and of one that mayfly makes for them.
func (e *Engine) authorizeKeys(m state.Machine) error {
	own, err := sshkey.Ensure(e.SSH().Identity, "mayfly")
	if err != nil {
		return err
	}
	keys := append([]sshkey.Public{own}, sshkey.UserKeys(e.home())...)
	return os.WriteFile(m.File(state.AuthorizedKeysFile), sshkey.AuthorizedKeys(keys...), 0o600)
}

// Keep lets the machine outlive this process.
func (o *Owned) Keep() error { return o.owner.Keep() }

// Close ends the machine and waits until nothing of it is left. It may be called more
// than once, and does nothing to a machine that was kept.
func (o *Owned) Close() { o.owner.Close() }

// Discard ends the machine and waits until nothing of it is left, also if it was kept.
func (o *Owned) Discard() error {
	o.keepTranscripts()
	if err := o.owner.Close(); !o.owner.Kept() {
		o.e.tellLive(context.Background(), o.Name())
		return err
	}
	err := o.e.removeRun(o.Name(), true)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	return err
}

// Wait waits for the end of a machine that is kept, and returns why it ended: nil if
// somebody asked for it.
func (o *Owned) Wait(ctx context.Context) error { return o.owner.Wait(ctx) }

// lostTimeout bounds the wait for a supervisor to say why its machine was lost, and to end.
const lostTimeout = 10 * time.Second

// Alive reports whether the machine runs, or is being started. One that ends is waited for.
func (o *Owned) Alive() bool { return o.owner.Alive(lostTimeout) }

// Lost returns why the machine ended under a command.
func (o *Owned) Lost() error { return o.owner.Lost(lostTimeout) }

// DryRun is what starting a machine would do.
type DryRun struct {
	Plan    plan.Plan       `json:"plan"`
	Command machine.Command `json:"command"`
	Shell   string          `json:"shell"` // the command as one line
}

// DryRun returns what Start would do, and makes nothing.
func (e *Engine) DryRun(ctx context.Context, s Spec) (DryRun, error) {
	s.DryRun = true
	p, err := e.planSpec(ctx, s)
	if err != nil {
		return DryRun{}, err
	}
	if err := e.checkWorkspace(p); err != nil {
		return DryRun{}, err
	}
	store, err := e.images()
	if err != nil {
		return DryRun{}, err
	}
	img, err := store.Lookup(p.Image)
	if errors.Is(err, image.ErrNotBuilt) {
		e.note(NoteImageMissing, nil)
		img = image.Image{Kernel: image.Kernel{Path: "KERNEL"}, Initramfs: "INITRAMFS", Layers: []image.Layer{{Path: "LAYER"}}}
		err = nil
	}
	if err != nil {
		return DryRun{}, err
	}
	machines := e.machines()
	driver, err := drivers.For(p.Machine.Engine)
	if err != nil {
		return DryRun{}, err
	}
	c := driver.Command(hardware.Of(machines.At(p.Name), p, img))
	return DryRun{p, c, c.String()}, nil
}
