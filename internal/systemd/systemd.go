// Package systemd writes the units by which systemd runs named machines.
//
// In flow the program's path and what a machine may use; out comes the text of
// units, and files in the directory of a service manager. All machines share
// one template, mayfly@.service; what is of one machine is in drop-ins beside it,
// which a user can override with their own. The package asks no manager for
// anything and knows nothing of configurations.
package systemd

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// The names of files. Drop-ins are read in the order of their names: ours come
// before override.conf, which systemctl edit writes.
const (
	TemplateFile = "mayfly@.service"
	LimitsFile   = "limits.conf"  // a drop-in: what the machine may use
	AccountFile  = "account.conf" // a drop-in: whose machine it is

	UpdateService = "mayfly-update.service"
	UpdateTimer   = "mayfly-update.timer"
)

// Scope says whose service manager runs a unit.
type Scope int

const (
	User   Scope = iota // the manager of one user's session, systemctl --user
	System              // the computer's
)

// Service returns the name of the unit that runs a machine. Names of machines
// are lower-case letters, digits and hyphens, which mean themselves in the name of
// an instance; only %I would take a hyphen for a slash, so the template uses %i.
func Service(machine string) string { return "mayfly@" + machine + ".service" }

// DropInDir returns the name of the directory with a machine's drop-ins.
func DropInDir(machine string) string { return Service(machine) + ".d" }

// accountName is what systemd takes for a user's name without a complaint.
var accountName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_-]{0,30}$`)

// variableName is that of a variable in an environment.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// header begins every file that is ours to change and to remove.
const header = "# Written by mayfly systemd, which writes it again; changes belong into a\n# drop-in of your own: systemctl edit.\n"

// Template is the unit that all machines share.
type Template struct {
	Exe   string // the absolute path of mayfly
	Scope Scope
}

// Unit returns the text of the unit.
func (t Template) Unit() (string, error) {
	exe, err := command(t.Exe)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(header)
	b.WriteString("[Unit]\nDescription=mayfly machine %i\n")
	if t.Scope == System {
		b.WriteString("After=network.target nss-user-lookup.target\n")
	}
	b.WriteString("\n[Service]\n" +
		"# Started is a machine whose guest answers.\n" +
		"Type=notify\n" +
		"# Only mayfly itself: the VMM beside it belongs to the guest once it was broken.\n" +
		"NotifyAccess=main\n" +
		"ExecStart=" + exe + " start --foreground %i\n" +
		`# A machine that crashed is not started again behind its user's back.
Restart=no
# An emulated guest takes minutes, and so does an image that is missing.
TimeoutStartSec=15min
# SIGTERM goes to mayfly alone, which asks the guest, then the VMM (5 seconds each);
# what is left in the end is killed.
KillMode=mixed
TimeoutStopSec=20
# When the kernel kills the VMM for its memory, mayfly says so and ends.
OOMPolicy=continue
# The memory of the VMM is the guest's, with its secrets in it.
LimitCORE=0
UMask=0077
# All machines together can be given less: systemctl set-property mayfly.slice.
Slice=mayfly.slice
`)
	if t.Scope == System {
		b.WriteString(systemWalls)
	} else {
		b.WriteString(userWalls)
	}
	wanted := "default.target"
	if t.Scope == System {
		wanted = "multi-user.target"
	}
	b.WriteString("\n[Install]\nWantedBy=" + wanted + "\n")
	return b.String(), nil
}

// What is not there on purpose: NoNewPrivileges and all that implies it for a
// service that is not root's (the filters of system calls and what is made of
// them: RestrictNamespaces, RestrictAddressFamilies, LockPersonality, …), and
// what hides parts of /proc.
const (
	notHere = `# The walls are around the VMM, and mayfly builds them itself: no privileges, Landlock,
# namespaces, seccomp. NoNewPrivileges= is not set here, nor what implies it, since an
# image is built with newuidmap, which is setuid; nor what covers parts of /proc,
# without which the build could not mount its own.
`
	systemWalls = notHere + `# Nothing that is installed can be changed.
ProtectSystem=full
# Nor can the limits, not even by a machine of root.
ProtectControlGroups=yes
# Of devices only those that machines use.
DevicePolicy=closed
DeviceAllow=/dev/kvm rw
DeviceAllow=/dev/net/tun rw
`
	userWalls = notHere
)

// Limits is what one machine may use. A zero is no limit.
type Limits struct {
	MemoryMax  uint64 // bytes, of all its processes
	CPUPercent int    // of one CPU
	TasksMax   int    // processes and threads
}

// DropIn returns the text of the drop-in with the limits.
func (l Limits) DropIn() string {
	var b strings.Builder
	b.WriteString(header)
	b.WriteString("[Service]\n")
	if l.MemoryMax > 0 {
		b.WriteString("# The guest's memory, and room for the VMM, for mayfly and for cached files.\n")
		fmt.Fprintf(&b, "MemoryMax=%d\n", l.MemoryMax)
	}
	if l.CPUPercent > 0 {
		b.WriteString("# 100% for each virtual CPU.\n")
		fmt.Fprintf(&b, "CPUQuota=%d%%\n", l.CPUPercent)
	}
	if l.TasksMax > 0 {
		b.WriteString("# The guest's processes are not among them.\n")
		fmt.Fprintf(&b, "TasksMax=%d\n", l.TasksMax)
	}
	return b.String()
}

// Owner is whose machine it is, and how mayfly finds their files.
type Owner struct {
	Account string   // the user as whom a unit of the system runs; "" for the user's own manager
	Home    string   // of that account
	Env     []string // NAME=VALUE: what differs from the manager's environment
}

// DropIn returns the text of the drop-in, or "" where none is needed.
func (o Owner) DropIn() (string, error) {
	unit, service, err := o.settings()
	if err != nil || service == "" {
		return "", err
	}
	if unit != "" {
		unit = "[Unit]\n" + unit + "\n"
	}
	return header + unit + "[Service]\n" + service, nil
}

// settings returns the lines for the sections Unit and Service.
func (o Owner) settings() (unit, service string, err error) {
	if o.Account != "" {
		if !accountName.MatchString(o.Account) {
			return "", "", fmt.Errorf("the user %.40q cannot be named in a unit", o.Account)
		}
		home, err := path(o.Home)
		if err != nil {
			return "", "", fmt.Errorf("the home of user %s: %w", o.Account, err)
		}
		unit = "# Machines and images are there.\nRequiresMountsFor=" + home + "\n"
		service = "User=" + o.Account + "\n"
	}
	env, err := environment(o.Env)
	return unit, service + env, err
}

func environment(env []string) (string, error) {
	var b strings.Builder
	for _, kv := range env {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || !variableName.MatchString(name) {
			return "", fmt.Errorf("variable %.40q: not a name and a value", kv)
		}
		if err := checkText(value); err != nil {
			return "", fmt.Errorf("variable %s: %w", name, err)
		}
		b.WriteString("Environment=" + quote(kv) + "\n")
	}
	return b.String(), nil
}

// Update is the timer that keeps images up to date, and what it starts.
type Update struct {
	Exe   string
	Scope Scope
	Owner Owner
}

// Units returns the text of the service and of the timer.
func (u Update) Units() (service, timer string, err error) {
	exe, err := command(u.Exe)
	if err != nil {
		return "", "", err
	}
	unit, settings, err := u.Owner.settings()
	if err != nil {
		return "", "", err
	}
	var b strings.Builder
	b.WriteString(header + "[Unit]\nDescription=Bring the images of mayfly's machines up to date\n")
	if u.Scope == System {
		b.WriteString("Wants=network-online.target\nAfter=network-online.target\n")
	}
	b.WriteString(unit + "\n[Service]\n" + settings +
		"Type=oneshot\n" +
		"ExecStart=" + exe + " update\n" +
		`# An image takes minutes to build, on a slow line more.
TimeoutStartSec=2h
# Whoever works at the computer goes first.
Nice=10
IOSchedulingClass=idle
UMask=0077
`)
	timer = header + `[Unit]
Description=Bring the images of mayfly's machines up to date, daily

[Timer]
OnCalendar=daily
# Not all computers at once.
RandomizedDelaySec=1h
# Also when the computer was off at that time.
Persistent=true

[Install]
WantedBy=timers.target
`
	return b.String(), timer, nil
}

// command returns the path of a program as ExecStart= takes it. In the path, unlike
// in arguments, a dollar is no variable, and is not doubled.
func command(exe string) (string, error) {
	if !filepath.IsAbs(exe) {
		return "", fmt.Errorf("the path of mayfly is %.80q, not an absolute one", exe)
	}
	if err := checkText(exe); err != nil {
		return "", fmt.Errorf("the path of mayfly: %w", err)
	}
	if strings.ContainsAny(exe, `"'\\`) {
		return "", fmt.Errorf("the path of mayfly is %s: systemd starts nothing with a quote or a backslash in its path", exe)
	}
	return quote(exe), nil
}

// path returns a path as settings that are lists of paths take it.
func path(p string) (string, error) {
	if !filepath.IsAbs(p) {
		return "", fmt.Errorf("%.80q is not an absolute path", p)
	}
	if err := checkText(p); err != nil {
		return "", err
	}
	return quote(p), nil
}

// checkText refuses what ends a line, and everything else that nobody means to
// have there.
func checkText(s string) error {
	if len(s) > 4096 {
		return fmt.Errorf("%d bytes are too long", len(s))
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return errors.New("control characters and bytes that are no text cannot be in a unit")
		}
	}
	return nil
}

// quote returns s as one word of a unit, systemd.syntax(7): in quotes when it has to
// be, and with the specifiers' sign doubled.
func quote(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if s != "" && !strings.ContainsAny(s, " \"'\\;") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
