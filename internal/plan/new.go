package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mayfly-vm/mayfly/internal/agentsettings"
	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/host"
	"github.com/mayfly-vm/mayfly/internal/naming"
)

// Input is what New needs beside the configuration and the host's facts. All
// of it is looked up or made up by the caller, which keeps New pure.
type Input struct {
	Name string // of the machine

	// Workspace is the real path (filepath.EvalSymlinks) of WorkspacePath, so
	// that no link leads around the checks; empty for no workspace.
	Workspace string
	// Typed is the path by which the user knows Workspace, where that has links.
	Typed string
	// Home is the real path of the user's home directory.
	Home string

	// Keep is the directory of what a machine with a name of its own keeps;
	// empty for a machine that leaves nothing behind.
	Keep string
	// Shares are the real paths of SharePaths. ShareServer is the virtiofsd of
	// this host, nil if none was looked for, and Sockets is in Protected.
	Shares      []string
	ShareServer *ShareServer
	Sockets     []string

	// Dotfiles are the directories of Config.Home.Dotfiles, as they are on this
	// host.
	Dotfiles []string

	// Settings are the user's own settings of the coding agents that may come along; nil for
	// none.
	Settings *agentsettings.Set

	// Git is what git on the host says in the workspace.
	Git host.Git

	// Logins are the log-ins of coding agents that this host keeps, by the agents' names.
	Logins map[string]Login

	// Learn lets everything public pass, for a list to be written of it.
	Learn bool
}

// New decides everything about a machine. The error holds all that stands in
// the way, with a code where a front end can help (fault.Of).
func New(cfg config.Config, facts host.Facts, in Input) (Plan, error) {
	b := builder{cfg: cfg, facts: facts}
	b.plan = Plan{
		Version: Version,
		Name:    in.Name,
	}
	if err := naming.Check(in.Name); err != nil {
		b.fail(err)
	}
	b.machine()
	b.plan.Disk = int64(b.cfg.Machine.DiskMiB) << 20
	b.guest(in.Name)
	b.network(in.Learn)
	b.image()
	b.lend(in.Logins)
	b.template()
	b.workspace(in)
	b.plan.Guest.Dotfiles = slices.Clone(in.Dotfiles)
	b.git(in.Git)
	b.keep(in)
	b.shares(in)
	b.agents()
	b.settings(in.Settings)
	if len(b.errs) > 0 {
		return Plan{}, errors.Join(b.errs...)
	}
	return b.plan, nil
}

// builder is a Plan in the making: each method fills in one part of it.
type builder struct {
	cfg   config.Config
	facts host.Facts
	plan  Plan
	errs  []error
}

func (b *builder) fail(err error) { b.errs = append(b.errs, err) }

func (b *builder) note(format string, args ...any) {
	b.plan.Notes = append(b.plan.Notes, fmt.Sprintf(format, args...))
}

// Defaults of the virtual hardware.
const (
	// DefaultMemoryMiB is enough for an agent and a build. Pages that a guest
	// never touched cost the host nothing.
	DefaultMemoryMiB = 2048
	// More virtual CPUs than these are rarely busy. Emulated ones are host
	// threads that translate code for themselves: more of them only contend.
	DefaultVCPUs    = 4
	defaultVCPUsTCG = 2
)

func (b *builder) machine() {
	m := &b.plan.Machine
	m.BootSeconds = int(b.cfg.Machine.BootTimeout / time.Second)
	if b.facts.Arch != "amd64" {
		b.fail(fmt.Errorf("this version of mayfly runs machines on amd64 hosts only, not on %s", b.facts.Arch))
		return
	}
	if q := b.facts.QEMU; q.Path == "" {
		b.fail(fault.New(fault.QEMUMissing, nil, "no QEMU: %s", cmp.Or(q.Problem, "it is not installed")))
	}
	b.accelerator()
	b.vcpus()
	b.memory()
	m.HostCPU = fmt.Sprintf("%s %s %d MHz", b.facts.CPUModel, b.facts.CPUFingerprint, b.facts.TSCKHz/1000)
	if m.Accelerator == TCG {
		m.TSCKHz = b.facts.TSCKHz
	} else {
		// The host's kernel is a part of what KVM guests see.
		m.HostCPU += " " + b.facts.Kernel
	}
	q := b.facts.QEMU
	m.Engine = Engine{
		Name:      EngineQEMU, // the only one yet, so also what "auto" chooses
		Path:      q.Path,
		Version:   q.Version.String(),
		Build:     q.Build,
		DataDirs:  slices.Clone(q.DataDirs),
		ModuleDir: q.ModuleDir,
		Isolate:   b.facts.UserNamespaces,
	}
	if !m.Engine.Isolate {
		b.note("this host gives no user namespaces: QEMU runs without namespaces of its own")
	}
}

// accelerator chooses KVM only when a guest has really run on it.
func (b *builder) accelerator() {
	m, kvm := &b.plan.Machine, b.facts.KVM
	switch b.cfg.Machine.Accel {
	case "kvm":
		m.Accelerator, m.Reason = KVM, "asked for"
		if err := kvmError(kvm); err != nil {
			b.fail(err)
		}
		return
	case "tcg":
		m.Accelerator, m.Reason = TCG, "asked for"
	default:
		if kvm.Proven {
			m.Accelerator, m.Reason = KVM, "a test guest ran on it"
			return
		}
		m.Accelerator, m.Reason = TCG, "no KVM: "+cmp.Or(kvm.Reason, "not proven to work")
		// A line at every start is only for what the user can change.
		if kvm.Present && !kvm.Openable {
			cure := "sudo chmod 666 /dev/kvm"
			if kvm.Group != "" {
				cure = "sudo usermod -aG " + kvm.Group + " $USER and a new login"
			}
			b.note("the CPU is emulated, several times slower (%s); %s may cure it", m.Reason, cure)
		}
	}

	q := b.facts.QEMU
	if q.Path == "" || q.Version.TCGSafe() {
		return
	}
	if b.cfg.Machine.AllowOldQEMU {
		b.note("%s; started all the same, as asked for: results may be wrong", q.Version.TCGUnsafeReason())
		return
	}
	b.fail(fault.New(fault.QEMUUnsafe, fault.Args{"path": q.Path, "version": q.Version.String()},
		"%s is too old: %s", q.Path, q.Version.TCGUnsafeReason()))
}

// kvmError says why KVM, asked for by name, cannot be used.
func kvmError(kvm host.KVM) error {
	switch {
	case kvm.Proven:
		return nil
	case !kvm.Present:
		return fault.New(fault.KVMMissing, nil, "no KVM: %s", cmp.Or(kvm.Reason, "/dev/kvm does not exist"))
	case !kvm.Openable:
		var args fault.Args
		if kvm.Group != "" {
			args = fault.Args{"group": kvm.Group}
		}
		return fault.New(fault.KVMForbidden, args, "no KVM: %s", cmp.Or(kvm.Reason, "/dev/kvm cannot be opened"))
	case !kvm.Tested:
		return fault.New(fault.KVMUntested, nil, "no KVM: no guest has been tried on it yet")
	default:
		return fault.New(fault.KVMUnusable, nil, "no KVM: %s", cmp.Or(kvm.Reason, "the test guest did not run"))
	}
}

func (b *builder) vcpus() {
	m := &b.plan.Machine
	m.VCPUs = b.cfg.Machine.VCPUs
	if m.VCPUs == 0 {
		m.VCPUs = DefaultVCPUs
		if m.Accelerator == TCG {
			m.VCPUs = defaultVCPUsTCG
		}
		m.VCPUs = max(1, min(m.VCPUs, b.facts.CPUs))
	} else if b.facts.CPUs > 0 && m.VCPUs > b.facts.CPUs {
		b.note("%d virtual CPUs share the host's %d", m.VCPUs, b.facts.CPUs)
	}
}

func (b *builder) memory() {
	m := &b.plan.Machine
	m.MemoryMiB = b.cfg.Machine.MemoryMiB
	total, available := int(b.facts.MemoryBytes>>20), int(b.facts.MemoryAvailableBytes>>20)
	if m.MemoryMiB == 0 {
		m.MemoryMiB = DefaultMemoryMiB
		if total > 0 && total/2 < m.MemoryMiB {
			m.MemoryMiB = max(total/2, config.MinMemoryMiB)
			b.note("%d MiB of memory, half of the host's", m.MemoryMiB)
		}
	}
	switch {
	case total > 0 && m.MemoryMiB > total:
		fits := max(total/2, config.MinMemoryMiB)
		b.fail(fault.New(fault.MemoryTooLarge,
			fault.Args{"mib": strconv.Itoa(m.MemoryMiB), "host-mib": strconv.Itoa(total), "fits-mib": strconv.Itoa(fits)},
			"machine.memory is %d MiB, more than the host's %d MiB", m.MemoryMiB, total))
	case available > 0 && m.MemoryMiB > available:
		b.note("the machine may use %d MiB of memory; the host has %d MiB free now", m.MemoryMiB, available)
	}
}

// template decides whether the machine begins from a saved boot.
func (b *builder) template() {
	t := &b.plan.Template
	switch {
	case b.cfg.Machine.Cold:
		t.Reason = "asked for"
	case b.facts.Dirs.Cache == "":
		t.Reason = "there is no cache directory"
	default:
		t.Use, t.Dir = true, b.facts.Dirs.TemplateDir()
		t.Copy = !b.facts.QEMU.Version.AtLeast(8, 2, 0)
		for _, command := range b.cfg.Image.Prewarm {
			if !slices.Contains(t.Prewarm, command) {
				t.Prewarm = append(t.Prewarm, command)
			}
		}
	}
}

// image makes equal images of equal wishes: sorted, nothing twice.
func (b *builder) image() {
	packages := slices.Clone(b.cfg.Image.Packages)
	if shell := b.plan.Guest.User.Shell; shell == "fish" { // the others are in the base
		packages = append(packages, shell)
	}
	for _, name := range b.cfg.Image.Agents {
		if agent, ok := codingagent.Find(name); ok {
			packages = append(packages, agent.Packages...)
		}
	}
	slices.Sort(packages)
	agents := slices.Sorted(slices.Values(b.cfg.Image.Agents))
	b.plan.Image = Image{
		Base:     b.cfg.Image.Base,
		Packages: slices.Compact(packages),
		Agents:   slices.Compact(agents),
	}
	if b.cfg.Image.Init == InitSystemd {
		b.plan.Image.Init = InitSystemd
	}
}
