package supervisor

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/fakevmm"
)

const powerOff = fakevmm.Step(wire.OpPowerOff)

// A machine that is kept is asked to end, then its VMM is, and then that is killed.
func TestStopLadder(t *testing.T) {
	if !alone(t) {
		return
	}
	silent, refused := fakevmm.Fault{Silent: true}, fakevmm.Fault{Err: errors.New("refused")}
	for _, tt := range []struct {
		name   string
		script fakevmm.Script
		init   string
		took   time.Duration
		quit   bool // the VMM was asked
		ended  bool // before it is killed
	}{
		{"the guest obeys", nil, "", 0, false, true},
		{"systemd obeys", nil, plan.InitSystemd, 0, false, true},
		{"the VMM dies of it", fakevmm.Script{powerOff: {Die: true, Err: errors.New("crash")}}, "", 0, false, true},
		{"the guest is silent", fakevmm.Script{powerOff: silent}, "", stopTimeout, true, true},
		{"the guest refuses", fakevmm.Script{powerOff: refused}, "", stopTimeout, true, true},
		{"systemd is silent", fakevmm.Script{powerOff: silent}, plan.InitSystemd, systemdStopTimeout, true, true},
		{"the VMM refuses", fakevmm.Script{powerOff: silent, fakevmm.Quit: refused}, "", stopTimeout, true, false},
		{"both are silent", fakevmm.Script{powerOff: silent, fakevmm.Quit: silent}, "", 2 * stopTimeout, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, always(tt.script), func(p *plan.Plan) { p.Image.Init = tt.init })
				m := r.up(t)
				began := time.Now()
				r.powerOff(m.guest)
				if took := time.Since(began); took != tt.took {
					t.Errorf("it took %v; want %v", took, tt.took)
				}
				if quit := slices.Contains(r.driver.VMMs()[0].Steps(), fakevmm.Quit); quit != tt.quit {
					t.Errorf("the VMM was asked: %v; want %v", quit, tt.quit)
				}
				if m.vm.ended() != tt.ended {
					t.Errorf("the VMM ended: %v; want %v", !tt.ended, tt.ended)
				}
				m.Close()
				r.checkEnded(t)
			})
		})
	}
}

// life runs the machine of r in the background, as Main does. It returns once the
// machine is ready, and how to wait for its end.
func (r *rig) life(t *testing.T) (wait func() error) {
	t.Helper()
	ready := make(chan struct{})
	r.events.owner = &readyWriter{r.heard, ready}
	done := make(chan error, 1)
	go func() {
		err := r.run(t.Context(), nil)
		end(r.machine, r.held, r.events, r.owner, err)
		done <- err
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the machine ended before it was ready: %v", err)
	}
	return func() error {
		t.Helper()
		select {
		case err := <-done:
			r.checkEnded(t)
			return err
		case <-time.After(time.Minute):
			t.Fatal("the machine does not end")
			return nil
		}
	}
}

// readyWriter closes ready once an event says so.
type readyWriter struct {
	*recorder
	ready chan struct{}
}

func (w *readyWriter) Write(line []byte) (int, error) {
	n, err := w.recorder.Write(line)
	if all := w.recorder.all(); all[len(all)-1].Ready {
		close(w.ready)
	}
	return n, err
}

// last returns the last event.
func (r *recorder) last() control.Event {
	all := r.all()
	return all[len(all)-1]
}

// A machine that nobody kept ends with its owner, and nothing of it stays. Nobody waits
// for its guest.
func TestOwnerGone(t *testing.T) {
	r := newRig(t, always(fakevmm.Script{powerOff: {Silent: true}, fakevmm.Quit: {Silent: true}}), nil)
	wait := r.life(t)
	if st := r.machine.Status(); st.Phase != state.Running || st.Kept {
		t.Errorf("status %+v; want running, not kept", st)
	}
	close(r.owner.gone)
	if err := wait(); err != nil {
		t.Errorf("run() = %v; want nil", err)
	}
	if slices.Contains(r.driver.VMMs()[0].Steps(), powerOff) {
		t.Error("the guest was asked to power off; want it killed")
	}
	if e := r.heard.last(); !e.Ended || e.Error != "" {
		t.Errorf("the last event is %+v; want a clean end", e)
	}
	if _, err := os.Stat(r.machine.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the machine's directory: %v; want it gone", err)
	}
}

// A machine that is kept outlives its owner, and is stopped by whoever asks.
func TestKeptMachine(t *testing.T) {
	r := newRig(t, nil, nil)
	wait := r.life(t)
	close(r.owner.kept)
	for deadline := time.Now().Add(time.Minute); !r.machine.Status().Kept; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the status does not say that the machine is kept")
		}
	}
	r.owner.requestStop()
	if err := wait(); err != nil {
		t.Errorf("run() = %v; want nil", err)
	}
	if !slices.Contains(r.driver.VMMs()[0].Steps(), powerOff) {
		t.Error("the guest was not asked to power off")
	}
	if _, err := os.Stat(r.machine.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the machine's directory: %v; want it gone", err)
	}
}

// A VMM that dies ends the machine. What is kept stays to be looked at.
func TestVMMDies(t *testing.T) {
	for _, kept := range []bool{false, true} {
		r := newRig(t, nil, nil)
		wait := r.life(t)
		if kept {
			close(r.owner.kept)
		}
		r.driver.VMMs()[0].Die(errors.New("out of memory"))
		err := wait()
		if err == nil || !strings.Contains(err.Error(), "ended unexpectedly") || !strings.Contains(err.Error(), "out of memory") {
			t.Errorf("kept %v: run() = %v; want that the machine ended, and why", kept, err)
		}
		if e := r.heard.last(); !e.Ended || e.Error == "" || e.Console != strings.TrimSpace(fakevmm.Banner) {
			t.Errorf("kept %v: the last event is %+v; want an error with the console", kept, e)
		}
		if _, err := os.Stat(r.machine.Dir); (err == nil) != kept {
			t.Errorf("kept %v: the machine's directory: %v", kept, err)
		}
	}
}

// What is asked of a machine that is ready reaches its guest and its network.
func TestServeMachine(t *testing.T) {
	r := newRig(t, nil, func(p *plan.Plan) {
		p.Network = plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAllowlist, Authorities: []plan.Authority{{Certificate: []byte("DER"), Hash: "0123abcd", System: true}}}
	})
	wait := r.life(t)
	stream, err := control.OpenGuest(t.Context(), r.machine)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if code, err := client.Exec(stream, &wire.Exec{Argv: []string{"true"}, Dir: "/"}, client.Stdio{}); err != nil || code != 0 {
		t.Errorf("Exec() = %d, %v; want 0", code, err)
	}
	rule := plan.Rule{Host: "example.com", Port: 443}
	st, err := control.ChangeNetwork(r.machine, control.NetworkChange{Allow: []plan.Rule{rule}})
	if err != nil || st.Mode != plan.NetworkUser || len(st.Allow) != 1 || st.Allow[0].Host != rule.Host {
		t.Errorf("ChangeNetwork() = %+v, %v; want %v allowed", st, err, rule)
	}
	c := r.driver.VMMs()[0].Configured()
	if c.Network == nil || len(c.Network.Authority) == 0 || !slices.Contains(c.Env, "SSL_CERT_FILE="+wire.TrustedFile) {
		t.Errorf("the guest was configured with the network %+v, variables %q; want one with an authority", c.Network, c.Env)
	}
	if c.Network == nil || len(c.Network.HostAuthorities) != 1 || string(c.Network.HostAuthorities[0].Certificate) != "DER" || c.Network.HostAuthorities[0].Hash != "0123abcd" {
		t.Errorf("the guest was configured with the network %+v; want the host's authority", c.Network)
	}
	r.owner.requestStop()
	if err := wait(); err != nil {
		t.Error(err)
	}
}

// An owner that ends says nothing, and one that leaves the machine alone says so.
func TestOwnerPipe(t *testing.T) {
	for said, want := range map[string]bool{"": false, "k": true, "x": false, "kx": true} {
		o := newOwner()
		o.watch(strings.NewReader(said))
		if o.isKept() != want {
			t.Errorf("after %q the machine is kept: %v; want %v", said, !want, want)
		}
		select {
		case <-o.gone:
			if want {
				t.Errorf("after %q the owner is gone", said)
			}
		default:
			if !want {
				t.Errorf("after %q the owner is there", said)
			}
		}
	}
}

// watched watches m and returns what was seen once it has ended.
func watched(ctx context.Context, m state.Machine) (wait func() ([]control.Event, error)) {
	var events []control.Event
	done := make(chan error, 1)
	first := make(chan struct{})
	go func() {
		done <- control.Watch(ctx, m, func(e control.Event) error {
			if events = append(events, e); len(events) == 1 {
				close(first)
			}
			return nil
		})
	}()
	<-first
	return func() ([]control.Event, error) {
		err := <-done
		return events, err
	}
}

// Who watches sees how the machine is, and then all that happens.
func TestWatch(t *testing.T) {
	var early func() ([]control.Event, error)
	var r *rig
	script := fakevmm.Script{fakevmm.Step(wire.OpPrepare): {Do: func() { early = watched(t.Context(), r.machine) }}}
	r = newRig(t, always(script), nil)
	wait := r.life(t)
	late, later := watched(t.Context(), r.machine), watched(t.Context(), r.machine)
	r.owner.requestStop()
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		wait func() ([]control.Event, error)
		want []string
	}{
		"during the start": {early, []string{"prepare", "configure", "ready", "stop", "ended"}},
		"late":             {late, []string{"ready", "stop", "ended"}},
		"later":            {later, []string{"ready", "stop", "ended"}},
	} {
		events, err := tt.wait()
		var got []string
		for _, e := range events {
			switch {
			case e.Ready:
				got = append(got, "ready")
				if e.Start == nil || e.Start.Reason != "not asked for" {
					t.Errorf("%s: the machine was started as %+v", name, e.Start)
				}
			case e.Ended:
				got = append(got, "ended")
			default:
				got = append(got, string(e.Phase)+e.Note)
			}
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("who watches %s saw %q, %v; want %q", name, got, err, tt.want)
		}
	}
}

// A watcher that reads nothing is left, and holds up neither the machine nor others.
func TestSlowWatcher(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		ev := newEvents(&recorder{})
		stuck := make(chan struct{})
		told := 0
		complete := make(chan bool, 1)
		go func() {
			complete <- ev.watch(t.Context(), func(control.Event) error {
				told++
				<-stuck
				return nil
			})
		}()
		synctest.Wait() // until it waits
		began := time.Now()
		for range 3 * watcherBuffer {
			ev.send(control.Event{Note: "a note"})
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the events took %v; want no time", took)
		}
		close(stuck)
		if <-complete {
			t.Error("the watcher was told all; want that it was left")
		}
		if told > watcherBuffer+1 {
			t.Errorf("the watcher was told %d events; want no more than %d", told, watcherBuffer+1)
		}
	})
}

// A supervisor of another version can be stopped, and says for all else what is wrong.
func TestOtherVersion(t *testing.T) {
	r := newRig(t, nil, nil)
	wait := r.life(t)
	for _, op := range []control.Op{control.OpGuest, control.OpNetwork, control.OpWatch} {
		answer, err := ask(t, r.machine, control.Request{Version: control.Version + 1, Op: op})
		if err != nil || answer.Code != "machine-version" {
			t.Errorf("%s: the answer is %+v, %v; want that the version is another", op, answer, err)
		}
	}
	answer, err := ask(t, r.machine, control.Request{Op: control.OpStop})
	if err != nil || answer.Error != "" {
		t.Errorf("stop: the answer is %+v, %v; want it granted", answer, err)
	}
	if err := wait(); err != nil {
		t.Error(err)
	}
}

// A machine that is being started can be watched and stopped, and not used.
func TestServeDuringStart(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	asked := make(chan struct{})
	serve(t, m, newServer(newEvents(&recorder{}), func() { close(asked) }))
	if _, err := control.OpenGuest(t.Context(), m); err == nil || !strings.Contains(err.Error(), "being started") {
		t.Errorf("OpenGuest() = %v; want that the machine is being started", err)
	}
	if _, err := control.ChangeNetwork(m, control.NetworkChange{}); err == nil || !strings.Contains(err.Error(), "being started") {
		t.Errorf("ChangeNetwork() = %v; want that the machine is being started", err)
	}
	if answer, err := ask(t, m, control.Request{Op: control.OpStop}); err != nil || answer.Error != "" {
		t.Errorf("stop: the answer is %+v, %v; want it granted", answer, err)
	}
	<-asked
}
