package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mayfly-vm/mayfly/internal/attack"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Attempt is the outcome of one attempt to get out of a machine's network.
type Attempt struct {
	attack.Result
	// Recorded says that the attempt is in the machine's audit log.
	Recorded bool
}

// Failed reports whether the machine's walls have not held.
func (a Attempt) Failed() bool { return !a.Skipped && (!a.Refused || !a.Recorded) }

// AttackCommand is the word, before the target, with which this program makes the attempts
// inside of a machine.
const AttackCommand = "attack"

// The variables with what stands for secrets in the process that makes the attempts: for
// one that may not go where they go, and for that of Target.Lent.
const (
	attackVariable = "MAYFLY_ATTACK_SECRET"
	lentVariable   = "MAYFLY_ATTACK_LENT"
)

// Attack lets the running machine name try to reach what it must not. The number is that
// of its connections that reached the host.
func (e *Engine) Attack(ctx context.Context, name string) ([]Attempt, int, error) {
	m, err := e.Machine(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	st, err := control.ChangeNetwork(m.m, control.NetworkChange{})
	if err != nil {
		return nil, 0, err
	}
	if st.Mode != plan.NetworkUser {
		return nil, 0, fmt.Errorf("machine %s has the network %q: there is nothing to attack", name, st.Mode)
	}
	target := attack.Target{Egress: st.Egress, Public: "8.8.8.8", Allowed: attackThrough(st), Limited: attackLimited(st)}
	canary, err := newCanary()
	if err != nil {
		return nil, 0, err
	}
	defer canary.close()
	target.Inside = canary.addresses
	if host, err := os.Hostname(); err == nil {
		target.Names = append(target.Names, host)
	}
	if target.Allowed != "" {
		e.note(NoteAttackThrough, args{"host": target.Allowed})
	}
	begun := time.Now()
	// Not one that may go where the attempts go.
	secret := ""
	for _, s := range m.p.Network.Secrets {
		if !slices.Contains(s.Hosts, target.Allowed) {
			secret = s.Name
		}
	}
	lent := attackLent(st, &target)
	rows, err := m.attack(ctx, target, secret, lent)
	if err != nil {
		return nil, 0, err
	}
	refused, passed, err := m.attacksSince(begun)
	if err != nil {
		return nil, 0, err
	}
	for i := range rows {
		r := &rows[i]
		lines := refused
		if r.Passed {
			lines = passed
		}
		r.Recorded = r.Trace == "" || strings.Contains(lines, r.Trace)
	}
	return rows, int(canary.touched.Load()), nil
}

// RunAttack makes the attempts, inside of a machine, and calls yield with each. target is
// what Attack gave.
func RunAttack(ctx context.Context, target string, getenv func(string) string, yield func(attack.Result)) error {
	var t attack.Target
	if err := json.Unmarshal([]byte(target), &t); err != nil {
		return InputError{err}
	}
	t.Placeholder, t.Lent.Placeholder = getenv(attackVariable), getenv(lentVariable)
	return attack.Run(ctx, t, yield)
}

// attackThrough returns a host through which attempts can be made, "" for none.
func attackThrough(st control.NetworkState) string {
	for _, r := range st.Allow {
		_, err := netip.ParseAddr(r.Host)
		if err != nil && r.Host != plan.HostName && !strings.HasPrefix(r.Host, "*.") && (r.Port == 0 || r.Port == 443) &&
			!r.Passthrough && len(r.Methods) == 0 && len(r.Paths) == 0 && st.Egress != plan.EgressPublic {
			return r.Host
		}
	}
	return ""
}

// attackLimited returns a host of which only some requests are allowed, if there is one.
func attackLimited(st control.NetworkState) attack.Limited {
	limits := func(r plan.Rule) bool { return len(r.Methods) > 0 && len(r.Paths) > 0 }
	i := slices.IndexFunc(st.Allow, func(r plan.Rule) bool {
		return limits(r) && r.Host != plan.HostName && !strings.HasPrefix(r.Host, "*.") && (r.Port == 0 || r.Port == 443)
	})
	if i < 0 {
		return attack.Limited{}
	}
	r := st.Allow[i]
	if slices.ContainsFunc(st.Allow, func(q plan.Rule) bool { return q.Host == r.Host && !limits(q) }) {
		return attack.Limited{} // another rule admits more
	}
	return attack.Limited{Host: r.Host, Method: r.Methods[0], Path: r.Paths[0]}
}

// attackLent finds a host of a secret that gets no other credentials, and returns the
// secret's name, "" for none.
func attackLent(st control.NetworkState, t *attack.Target) (secret string) {
	for _, s := range st.Secrets {
		for _, host := range s.Hosts {
			limited := slices.ContainsFunc(st.Allow, func(r plan.Rule) bool {
				return r.Host == host && (r.Passthrough || len(r.Methods)+len(r.Paths) > 0)
			})
			denied := slices.ContainsFunc(st.Deny, func(r plan.Rule) bool { return r.Host == host })
			if !s.AllowForeign && !strings.HasPrefix(host, "*.") && !limited && !denied {
				t.Lent.Host = host
				return s.Name
			}
		}
	}
	return ""
}

// maxAttackOutput bounds what the machine says of its attempts.
const maxAttackOutput = 1 << 20

// attackScript returns a script that takes the program from its standard input, as long
// as $0, and runs it as root with the target $1. secret and lent are variables of secrets,
// "" for none.
func attackScript(secret, lent string) string {
	value := func(variable string) string {
		if variable == "" {
			return ""
		}
		return "$" + variable
	}
	return fmt.Sprintf(`d=$(mktemp -d) && f=$d/mayfly && head -c "$0" >"$f" && chmod 755 "$f" && sudo -n MAYFLY=1 %s="%s" %s="%s" "$f" %s "$1"; `+
		`code=$?; rm -rf "$d"; exit $code`, attackVariable, value(secret), lentVariable, value(lent), AttackCommand)
}

// attack copies this program into the machine and runs it there.
func (m Machine) attack(ctx context.Context, t attack.Target, secret, lent string) ([]Attempt, error) {
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer program.Close()
	fi, err := program.Stat()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	req := &wire.Exec{
		Argv: []string{"/bin/sh", "-c", attackScript(secret, lent), strconv.FormatInt(fi.Size(), 10), string(text)},
		Dir:  "/tmp",
	}
	var rows []Attempt
	out := &lineWriter{left: maxAttackOutput, line: func(line []byte) error {
		var r Attempt
		if err := json.Unmarshal(line, &r.Result); err != nil {
			return fmt.Errorf("read the attempts: %w", err)
		}
		m.e.detail(DetailAttempt, args{"name": r.Name, "outcome": r.How})
		rows = append(rows, r)
		return nil
	}}
	messages := &lineWriter{left: maxAttackOutput, line: func(line []byte) error {
		m.e.note(NoteGuestSays, args{"text": string(line)})
		return nil
	}}
	code, err := m.Exec(ctx, req, client.Stdio{Stdin: program, Stdout: out, Stderr: messages})
	if err = errors.Join(err, out.err); err != nil {
		return nil, err
	}
	if code != 0 || len(rows) == 0 {
		return nil, fmt.Errorf("the attempts ended with code %d", code)
	}
	return rows, nil
}

// lineWriter hands on whole lines.
type lineWriter struct {
	left int // bytes
	buf  []byte
	line func([]byte) error
	err  error
}

func (w *lineWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 && w.err == nil {
		w.err = errors.New("the machine says too much")
	}
	if w.err != nil {
		return 0, w.err
	}
	w.buf = append(w.buf, b...)
	for {
		i := bytes.IndexByte(w.buf, '\n')
		if i < 0 {
			return len(b), nil
		}
		if w.err = w.line(w.buf[:i]); w.err != nil {
			return 0, w.err
		}
		w.buf = w.buf[i+1:]
	}
}

// attacksSince returns the lines of the machine's audit log that are about refusals, and
// those about requests that passed without a secret, and without a placeholder.
func (m Machine) attacksSince(t time.Time) (refused, passed string, err error) {
	var deny, allow strings.Builder
	writeAudit(m.m)
	err = audit.Read(m.m.AuditFile(), func(e audit.Event) error {
		switch {
		case !e.Time.After(t):
		case e.Verdict == audit.Deny:
			fmt.Fprintln(&deny, e)
		case e.Verdict == audit.Allow && e.Kind == audit.Request && len(e.Secrets) == 0 && strings.Contains(e.Reason, audit.Blanked):
			fmt.Fprintln(&allow, e)
		}
		return nil
	})
	return deny.String(), allow.String(), err
}

// canary listens on this computer for what must not come.
type canary struct {
	addresses []string
	touched   atomic.Int64
	listeners []net.Listener
}

func newCanary() (*canary, error) {
	c := new(canary)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		ip, ok := a.(*net.IPNet)
		if !ok || ip.IP.To4() == nil || ip.IP.IsLoopback() {
			continue // loopback is the machine's own, there
		}
		addr, ok := netip.AddrFromSlice(ip.IP.To4())
		if !ok {
			continue
		}
		l, err := dial.Listen(netip.AddrPortFrom(addr, 0))
		if err != nil {
			continue // it has gone meanwhile
		}
		c.listeners = append(c.listeners, l)
		c.addresses = append(c.addresses, l.Addr().String())
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				c.touched.Add(1)
				conn.Close()
			}
		}()
	}
	return c, nil
}

func (c *canary) close() {
	for _, l := range c.listeners {
		l.Close()
	}
}
