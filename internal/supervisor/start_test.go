package supervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/fakevmm"
)

// The phases of the three ways up.
var (
	phasesOfBoot    = []control.Phase{control.PhaseBoot, control.PhasePrepare, control.PhaseConfigure}
	phasesOfMaking  = []control.Phase{control.PhaseFindTemplate, control.PhaseMakeTemplate, control.PhasePrewarm, control.PhaseSave}
	phasesOfRestore = []control.Phase{control.PhaseRestore, control.PhaseConfigure}
)

func TestStartByBooting(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil, nil)
		m := r.up(t)
		if got := r.heard.phases(); !slices.Equal(got, phasesOfBoot) {
			t.Errorf("phases %q; want %q", got, phasesOfBoot)
		}
		if want := (control.Start{Reason: "not asked for"}); m.how != want {
			t.Errorf("it was started as %+v; want %+v", m.how, want)
		}
		vmms := r.driver.VMMs()
		if len(vmms) != 1 || vmms[0].Configured() == nil {
			t.Fatalf("%d VMMs; want one, configured", len(vmms))
		}
		if c := vmms[0].Configured(); c.Workspace == nil || c.Workspace.Path != r.plan.Workspace.Path || len(c.Entropy) < 32 {
			t.Errorf("it was configured as %+v; want a workspace and entropy", c)
		}
		m.Close()
		r.checkEnded(t)
	})
}

// The first start of its kind makes the template, and the next begins from it.
func TestStartFromTemplate(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		first := newRig(t, nil, withTemplate)
		m := first.up(t)
		if got, want := first.heard.phases(), slices.Concat(phasesOfMaking, phasesOfRestore); !slices.Equal(got, want) {
			t.Errorf("phases %q; want %q", got, want)
		}
		if !m.how.Made || m.how.Template == "" || m.how.Reason != "there was none" {
			t.Errorf("it was started as %+v; want from a template that was made", m.how)
		}
		vmms := first.driver.VMMs()
		if len(vmms) != 2 {
			t.Fatalf("%d VMMs; want 2", len(vmms))
		}
		if spec := vmms[0].Spec; spec.Disks[plan.SlotScratch].Path != "" || spec.Disks[plan.SlotWorkspace].Path != "" || vmms[0].Configured() != nil {
			t.Errorf("the template has %+v; want nothing of the machine's", spec)
		}
		if vmms[1].Configured() == nil {
			t.Error("the restored guest was not configured")
		}

		second := newRig(t, nil, func(p *plan.Plan) {
			withTemplate(p)
			*p = first.plan
			p.Name = "other"
		})
		second.image = first.image
		m = second.up(t)
		if got, want := second.heard.phases(), slices.Concat([]control.Phase{control.PhaseFindTemplate}, phasesOfRestore); !slices.Equal(got, want) {
			t.Errorf("phases of the second start: %q; want %q", got, want)
		}
		if m.how.Made || m.how.Template == "" {
			t.Errorf("the second was started as %+v; want from the template", m.how)
		}
	})
}

// A machine boots whatever is the matter with its template, and the next does so at
// once.
func TestStartWithoutTemplate(t *testing.T) {
	if !alone(t) {
		return
	}
	refused := errors.New("refused")
	for _, tt := range []struct {
		name    string
		vmm     int // the one that does not do well: 0 is saved, 1 is restored
		script  fakevmm.Script
		reason  string
		aside   bool
		started int
	}{
		{"is not saved", 0, fakevmm.Script{fakevmm.Save: {Err: refused}}, "refused", false, 2},
		{"is not saved in time", 0, fakevmm.Script{fakevmm.Save: {Silent: true}}, errNotSaved.Error(), false, 2},
		{"dies when saved", 0, fakevmm.Script{fakevmm.Save: {Die: true, Err: refused}}, "ended while it was started", false, 2},
		{"cannot be prepared", 0, fakevmm.Script{"prepare": {Err: refused}}, "refused", false, 2},
		{"does not boot", 0, fakevmm.Script{fakevmm.Greet: {Silent: true}}, "did not answer", false, 2},
		{"cannot be started", 0, fakevmm.Script{fakevmm.Start: {Err: refused}}, "refused", false, 2},
		{"is not restored", 1, fakevmm.Script{fakevmm.Restore: {Err: refused}}, "refused", true, 3},
		{"is not restored in time", 1, fakevmm.Script{fakevmm.Restore: {Silent: true}}, errNotRestored.Error(), true, 3},
		{"dies when restored", 1, fakevmm.Script{fakevmm.Restore: {Die: true, Err: refused}}, "ended while it was started", true, 3},
		{"says nothing when restored", 1, fakevmm.Script{fakevmm.Greet: {Silent: true}}, errNotRestored.Error(), true, 3},
		{"is not configured in time", 1, fakevmm.Script{"configure": {Silent: true}}, "configure the machine", true, 3},
		{"dies when configured", 1, fakevmm.Script{"configure": {Die: true, Err: refused}}, "ended while it was started", true, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, only(tt.vmm, tt.script), withTemplate)
				m := r.up(t)
				if m.how.Template != "" || m.how.Made || !strings.Contains(m.how.Reason, tt.reason) {
					t.Errorf("it was started as %+v; want by booting, since %s", m.how, tt.reason)
				}
				phases := r.heard.phases()
				if n := len(phases) - len(phasesOfBoot); n < 0 || !slices.Equal(phases[n:], phasesOfBoot) {
					t.Errorf("phases %q; want a boot at the end", phases)
				}
				if notes := r.heard.notes(); len(notes) != 1 || !strings.HasPrefix(notes[0], "booting, since") {
					t.Errorf("notes %q; want that it boots and why", notes)
				}
				for _, e := range r.heard.all() {
					if e.Note != "" && (e.Code == "" || e.Args["reason"] == "") {
						t.Errorf("the note %q has code %q, arguments %q; want a code and the reason", e.Note, e.Code, e.Args)
					}
				}
				if n := len(r.driver.VMMs()); n != tt.started {
					t.Errorf("%d VMMs were started; want %d", n, tt.started)
				}
				aside, err := filepath.Glob(filepath.Join(r.plan.Template.Dir, ".aside-*"))
				if err != nil || (len(aside) == 1) != tt.aside {
					t.Errorf("set aside: %q, %v; want %v", aside, err, tt.aside)
				}
				if o := r.findOrigin(t.Context(), nil); o.template != nil || !strings.HasPrefix(o.how.Reason, "one failed") {
					t.Errorf("the next has a template, %v, reason %q; want that one failed", o.template != nil, o.how.Reason)
				}
			})
		})
	}
}

// What a guest says that works is no template's fault.
func TestConfigureRefused(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, always(fakevmm.Script{"configure": {Err: errors.New("no such user")}}), withTemplate)
		_, err := r.start(t.Context(), nil)
		if said, ok := errors.AsType[*client.GuestError](err); !ok || said.Text != "no such user" {
			t.Errorf("start() = %v; want the guest's error", err)
		}
		r.checkEnded(t)
	})
}

// A driver that cannot save has no templates.
func TestEngineWithoutSave(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil, withTemplate)
		r.driver.Lacks.Save = true
		if m := r.up(t); !strings.Contains(m.how.Reason, "cannot save") {
			t.Errorf("it was started as %+v; want by booting", m.how)
		}
	})
}

// bootSteps are those of a VMM that boots.
var bootSteps = []fakevmm.Step{fakevmm.Start, fakevmm.Greet, fakevmm.Step(wire.OpHello), fakevmm.Step(wire.OpPrepare), fakevmm.Step(wire.OpConfigure), fakevmm.Step(wire.OpClock)}

// A VMM that dies ends the start, whenever that is, with what it and its guest said.
func TestDiesDuringStart(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, step := range bootSteps {
		t.Run(string(step), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, always(fakevmm.Script{step: {Die: true, Err: errors.New("out of memory")}}), nil)
				_, err := r.start(t.Context(), nil)
				if err == nil || !strings.Contains(err.Error(), "ended while it was started") || !strings.Contains(err.Error(), "out of memory") {
					t.Errorf("start() = %v; want that the VMM ended, and why", err)
				}
				ce, ok := errors.AsType[*consoleError](err)
				if want := step != fakevmm.Start; !ok || strings.Contains(ce.console, strings.TrimSpace(fakevmm.Banner)) != want {
					t.Errorf("the console is in the error: %v; want %v", !want, want)
				}
				r.checkEnded(t)
			})
		})
	}
}

// A VMM that crashes before the machine is ready gets one more try, and only one.
func TestCrashDuringStart(t *testing.T) {
	if !alone(t) {
		return
	}
	crash, killed := died(t, "SEGV"), died(t, "SYS")
	for _, step := range bootSteps[1:] {
		t.Run(string(step), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, only(0, fakevmm.Script{step: {Die: true, Err: crash}}), nil)
				m := r.up(t)
				if n := len(r.driver.VMMs()); n != 2 || !strings.Contains(m.how.Reason, "segmentation fault") {
					t.Errorf("%d VMMs, started as %+v; want 2 and why", n, m.how)
				}
				if notes := r.heard.notes(); len(notes) != 1 || !strings.HasPrefix(notes[0], "booting once more: the machine ended") {
					t.Errorf("notes %q; want that it boots once more", notes)
				}
			})
		})
	}
	for name, err := range map[string]error{"twice": crash, "against a rule": killed} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, always(fakevmm.Script{fakevmm.Greet: {Die: true, Err: err}}), nil)
				if _, got := r.start(t.Context(), nil); !errors.Is(got, err) {
					t.Errorf("start() = %v; want %v", got, err)
				}
				if n, want := len(r.driver.VMMs()), map[string]int{"twice": 2}[name]; n != max(want, 1) {
					t.Errorf("%d VMMs were started; want %d", n, max(want, 1))
				}
				r.checkEnded(t)
			})
		})
	}
}

// A kernel that panics before the machine is ready gets another try where CPUs are emulated.
func TestPanicMayPass(t *testing.T) {
	panicked := fmt.Errorf("start: %w", fault.New(fault.MachinePanicked, nil, "its kernel panicked"))
	for accelerator, want := range map[plan.Accelerator]bool{plan.TCG: true, plan.KVM: false} {
		s := &supervisor{plan: plan.Plan{Machine: plan.Machine{Accelerator: accelerator}}}
		if got := s.mayPass(panicked); got != want {
			t.Errorf("with %s: %t; want %t", accelerator, got, want)
		}
	}
}

// died returns the error of a process that this signal ended.
func died(t *testing.T, signal string) error {
	t.Helper()
	err := exec.Command("sh", "-c", "kill -"+signal+" $$").Run()
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		t.Fatalf("a process that was to die: %v", err)
	}
	return err
}

// An error names files as users know them, whatever way the supervisor takes to them.
func TestErrorsNamePaths(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil, nil)
		path := r.machine.File(state.ConsoleFile)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := r.start(t.Context(), nil)
		if !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), path+":") {
			t.Errorf("start() = %v; want an error of %s", err, path)
		}
	})
}

// A guest that says nothing ends the start.
func TestSilentDuringStart(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, step := range bootSteps[1:] {
		t.Run(string(step), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, always(fakevmm.Script{step: {Silent: true}}), func(p *plan.Plan) { p.Machine.BootSeconds = 7 })
				_, err := r.start(t.Context(), nil)
				if err == nil {
					t.Error("start() = nil; want an error")
				}
				early := step == fakevmm.Greet || step == fakevmm.Step(wire.OpHello)
				if early && !strings.Contains(err.Error(), "did not answer within 7s") {
					t.Errorf("start() = %v; want that the guest did not answer", err)
				}
				r.checkEnded(t)
			})
		})
	}
}

// Nothing is left of a start whose owner is gone, whenever that is.
func TestOwnerGoneDuringStart(t *testing.T) {
	if !alone(t) {
		return
	}
	steps := append([]fakevmm.Step{fakevmm.Save, fakevmm.Restore}, bootSteps...)
	for _, step := range steps {
		t.Run(string(step), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var r *rig
				leave := func() { close(r.owner.gone) }
				script := fakevmm.Script{step: {Do: leave, Silent: true}}
				change := withTemplate
				if slices.Contains(bootSteps, step) {
					change = nil
				}
				r = newRig(t, always(script), change)
				ctx, release := r.owner.need(t.Context())
				defer release()
				if step == fakevmm.Start {
					script[step] = fakevmm.Fault{Do: leave} // it starts while its owner leaves
				}
				if _, err := r.start(ctx, nil); !errors.Is(err, errEnded) {
					t.Errorf("start() = %v; want %v", err, errEnded)
				}
				r.checkEnded(t)
			})
		})
	}
}

// A workspace that cannot be packed ends the start that goes on beside it.
func TestWorkspaceUnpackable(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, always(fakevmm.Script{fakevmm.Greet: {Silent: true}}), func(p *plan.Plan) {
			p.Workspace.Path = filepath.Join(p.Workspace.Path, "gone")
		})
		if _, err := r.start(t.Context(), nil); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("start() = %v; want %v", err, os.ErrNotExist)
		}
		r.checkEnded(t)
	})
}

// The agent of a guest with systemd comes back in another conversation.
func TestStartSystemd(t *testing.T) {
	if !alone(t) {
		return
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil, func(p *plan.Plan) { p.Image.Init = plan.InitSystemd })
		r.up(t)
		if got, want := r.heard.phases(), append(slices.Clone(phasesOfBoot), control.PhaseSystemd); !slices.Equal(got, want) {
			t.Errorf("phases %q; want %q", got, want)
		}
		greeted := 0
		for _, s := range r.driver.VMMs()[0].Steps() {
			if s == fakevmm.Greet {
				greeted++
			}
		}
		if greeted != 2 {
			t.Errorf("the guest was greeted %d times; want 2", greeted)
		}
	})
}

func TestLayers(t *testing.T) {
	for _, n := range []int{0, plan.MaxLayers + 1} {
		r := newRig(t, nil, nil)
		r.image.Layers = slices.Repeat(r.image.Layers, n)
		if _, err := r.start(t.Context(), nil); err == nil || !strings.Contains(err.Error(), fmt.Sprint(n, " layers")) {
			t.Errorf("start() with %d layers = %v; want an error", n, err)
		}
	}
}
