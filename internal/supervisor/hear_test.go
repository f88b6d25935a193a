package supervisor

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/diskspace"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/fakevmm"
)

// full is what a VMM tells that cannot write a disk.
func full(disk string) machine.Event {
	return machine.Event{Kind: machine.IOError, Disk: disk, NoSpace: true, Halts: true, Reason: "No space left on device"}
}

// conditions returns how the machine did, in order.
func (r *recorder) conditions() (list []control.Health) {
	for _, e := range r.all() {
		if e.Condition != nil {
			list = append(list, e.Condition.Health)
		}
	}
	return list
}

// continued returns how often a VMM was asked to go on.
func continued(v *fakevmm.VMM) (n int) {
	for _, s := range v.Steps() {
		if s == fakevmm.Continue {
			n++
		}
	}
	return n
}

// A machine whose disk the host cannot write says so, to who watches and to who asks, and
// goes on when there is room, also when that was not the first try.
func TestDiskFull(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		keep := definition.Definition{Dir: t.TempDir()}.File(definition.KeepFile)
		if err := os.WriteFile(keep, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r := newRig(t, nil, func(p *plan.Plan) { p.Keep = &plan.Keep{Dir: filepath.Dir(keep)} })
		var free atomic.Int64
		free.Store(1 << 40)
		asked := ""
		r.measure = func(path string) (diskspace.Usage, error) {
			asked = path
			return diskspace.Usage{Total: 1 << 40, Free: free.Load()}, nil
		}
		m := r.up(t)
		m.vm.ready.Store(true)
		v := r.driver.VMMs()[0]
		free.Store(0)

		v.Tell(full(machine.Serial(plan.SlotScratch)))
		v.Tell(machine.Event{Kind: machine.Paused})
		synctest.Wait()
		c := r.events.how()
		if c.Health != control.Paused || c.Code != fault.MachinePaused || c.Args["name"] != "m" || c.Args["dir"] != r.machine.Dir || c.Args["free"] != "0" {
			t.Errorf("the condition is %+v; want paused, with the directory and what is free", c)
		}
		late := make(chan control.Event, 8)
		go r.events.watch(t.Context(), func(e control.Event) error { late <- e; return nil })
		synctest.Wait()
		if e := <-late; e.Condition == nil {
			e = <-late
			if e.Condition == nil {
				t.Errorf("who begins to watch hears %+v, and not that the machine is paused", e)
			}
		}

		time.Sleep(retryInterval - 3*time.Second/2) // between two looks
		if n := continued(v); n != 0 {
			t.Errorf("the machine was told to go on %d times without room", n)
		}
		// There is room, but not for long.
		free.Store(20 << 20)
		time.Sleep(roomInterval - settleInterval)
		if n := continued(v); n != 1 {
			t.Errorf("the machine was told to go on %d times; want 1", n)
		}
		v.Tell(machine.Event{Kind: machine.Paused}) // without another word
		time.Sleep(settleInterval * 2)
		if got := r.heard.conditions(); !slices.Equal(got, []control.Health{control.Paused}) {
			t.Errorf("the conditions were %q; want paused, once", got)
		}
		free.Store(40 << 20)
		time.Sleep(roomInterval + settleInterval + time.Millisecond)
		if got := r.heard.conditions(); !slices.Equal(got, []control.Health{control.Paused, control.Well}) {
			t.Errorf("the conditions were %q; want paused and running", got)
		}

		// Another disk, an error that is no want of space, and a machine that is stopped.
		v.Tell(machine.Event{Kind: machine.IOError, Disk: machine.KeptSerial(0), Halts: true, Reason: "Disk quota exceeded"})
		v.Tell(machine.Event{Kind: machine.Paused})
		synctest.Wait()
		if want := filepath.Dir(keep); asked != want {
			t.Errorf("the space of %s was looked at; want that of %s", asked, want)
		}
		if c := r.events.how(); !strings.Contains(c.Reason, "Disk quota exceeded") || c.Args["free"] != "" {
			t.Errorf("the condition is %+v; want the reason", c)
		}
		r.owner.watch(strings.NewReader(string(control.KeepByte)))
		began := time.Now()
		r.wind(m)
		if took := time.Since(began); took != 0 {
			t.Errorf("the stop took %v; want no wait for a guest that stands still", took)
		}
		steps := v.Steps()
		if !slices.Contains(steps, fakevmm.Quit) || slices.Contains(steps, powerOff) {
			t.Errorf("steps %q; want a quit, and nothing asked of the guest", steps)
		}
	})
}

// A pause that is ours, as when a machine is saved, is no trouble.
func TestPauseOfSave(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil, nil)
		m := r.up(t)
		v := r.driver.VMMs()[0]
		v.Tell(machine.Event{Kind: machine.Paused})
		synctest.Wait()
		if c := r.events.how(); c.Health != control.Well {
			t.Errorf("the condition is %+v before the machine is ready", c)
		}
		m.vm.ready.Store(true)
		v.Tell(machine.Event{Kind: machine.Paused})
		time.Sleep(time.Minute)
		if c := r.events.how(); c.Health != control.Paused || c.Reason == "" {
			t.Errorf("the condition is %+v; want paused", c)
		}
		if n := continued(v); n != 0 {
			t.Errorf("the machine was told to go on %d times; nobody knows what it waits for", n)
		}
	})
}

// A guest that breaks the conversation off, in whatever way, makes its machine unreachable:
// who asks hears the reason, and a stop does not wait for it.
func TestUnreachable(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, tt := range []struct {
		name    string
		bytes   []byte
		reason  string
		offered bool // the next who asks finds it out
	}{
		{"garbage", []byte(strings.Repeat("x", 12)), "frame of version", false},
		{"a stream", []byte{0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0}, "opened a stream", false},
		{"no more streams", []byte{0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "takes no commands", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, nil, nil)
				m := r.up(t)
				r.driver.VMMs()[0].Say(tt.bytes)
				r.owner.watch(strings.NewReader(string(control.KeepByte)))
				held := make(chan error, 1)
				go func() { held <- r.hold(t.Context(), m) }()
				time.Sleep(2 * vmmGrace)
				if tt.offered {
					if _, err := m.openGuest(); err == nil {
						t.Error("a stream was opened")
					}
				}
				c := r.events.how()
				if c.Health != control.Unreachable || c.Code != fault.MachineUnreachable || !strings.Contains(c.Reason, tt.reason) {
					t.Errorf("the condition is %+v; want unreachable: %s", c, tt.reason)
				}
				var conn net.Conn
				conn, err := m.openGuest()
				if conn != nil || fault.CodeOf(err) != fault.MachineUnreachable {
					t.Errorf("openGuest() = %v, %v; want the reason", conn, err)
				}
				if got := r.heard.conditions(); !slices.Equal(got, []control.Health{control.Unreachable}) {
					t.Errorf("the conditions were %q; want one", got)
				}
				r.driver.VMMs()[0].Die(nil)
				<-held
			})
		})
	}
}

// A machine that ends by itself says how, in one line.
func TestEnds(t *testing.T) {
	killed := exec.Command("/bin/sh", "-c", "kill -9 $$").Run()
	crashed := exec.Command("/bin/sh", "-c", "kill -SEGV $$").Run()
	for _, tt := range []struct {
		name  string
		event machine.Event
		err   error
		want  string
		code  fault.Code
	}{
		{"killed", machine.Event{}, killed, "the host killed fake, probably for want of memory", fault.MachineKilled},
		{"crashed", machine.Event{}, crashed, "fake: signal: segmentation fault", ""},
		{"panicked", machine.Event{Kind: machine.Panicked, Reason: "poweroff"}, nil, "its kernel panicked", fault.MachinePanicked},
		{"panicked and shut down", machine.Event{Kind: machine.Shutdown, Reason: machine.ByGuestPanic}, nil, "its kernel panicked", fault.MachinePanicked},
		{"powered off", machine.Event{Kind: machine.Shutdown, Reason: machine.ByGuest}, nil, "powered off from inside", fault.MachinePoweredOff},
		{"rebooted", machine.Event{Kind: machine.Shutdown, Reason: machine.ByGuestReset}, nil, "rebooted from inside", fault.MachinePoweredOff},
		{"by the host", machine.Event{Kind: machine.Shutdown, Reason: "host-signal"}, nil, "fake ended it: host-signal", ""},
		{"without a word", machine.Event{}, errors.New("exit status 1"), "fake: exit status 1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil, nil)
			wait := r.life(t)
			r.owner.watch(strings.NewReader(string(control.KeepByte)))
			v := r.driver.VMMs()[0]
			if tt.event.Kind != "" {
				v.Tell(tt.event)
			}
			v.End(tt.err)
			err := wait()
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.HasSuffix(err.Error(), ": ") || fault.CodeOf(err) != tt.code {
				t.Errorf("the machine ended with %v (%s); want %s (%s)", err, fault.CodeOf(err), tt.want, tt.code)
			}
			var st state.Status
			if readErr := state.ReadJSON(r.machine.File(state.StatusFile), &st); readErr != nil || st.Reason != err.Error() || st.Code != tt.code {
				t.Errorf("the status is %+v, %v; want the reason %q", st, readErr, err)
			}
		})
	}
}
