package cli

import (
	"bytes"
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
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/attack"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// attackWord is the hidden command that runs in the machine, and attackVariable has what
// stands for a secret there.
const (
	attackWord     = "attack"
	attackVariable = "MAYFLY_ATTACK_SECRET"
)

// attackCommand is what mayfly doctor --attack runs in a machine.
func (a *app) attackCommand() *cobra.Command {
	return &cobra.Command{
		Use:    attackWord + " TARGET",
		Hidden: true,
		Args:   usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.getenv("MAYFLY") == "" {
				return usageError{hint.Errorf("mayfly doctor --attack NAME", "%s is for the inside of a machine", attackWord)}
			}
			var t attack.Target
			if err := json.Unmarshal([]byte(args[0]), &t); err != nil {
				return usageError{err}
			}
			t.Placeholder = a.getenv(attackVariable)
			enc := json.NewEncoder(a.Out)
			return attack.Run(cmd.Context(), t, func(r attack.Result) { enc.Encode(r) })
		},
	}
}

// attackRow is the outcome of one attempt. Fields are only added.
type attackRow struct {
	attack.Result
	// Recorded says that the attempt is in the machine's record.
	Recorded bool `json:"recorded"`
}

// attack lets the machine name try to get out.
func (a *app) attack(name string) error {
	m, err := a.machine(name)
	if err != nil {
		return err
	}
	st, err := control.ChangeNetwork(m, control.NetworkChange{})
	if err != nil {
		return err
	}
	if st.Mode != plan.NetworkUser {
		return fmt.Errorf("machine %s has the network %q: there is nothing to attack", name, st.Mode)
	}
	target := attack.Target{Egress: st.Egress, Public: "8.8.8.8", Allowed: attackThrough(st)}
	canary, err := newCanary()
	if err != nil {
		return err
	}
	defer canary.close()
	target.Inside = canary.addresses
	if host, err := os.Hostname(); err == nil {
		target.Names = append(target.Names, host)
	}
	if target.Allowed != "" {
		a.note("some attempts go through %s, which is allowed", target.Allowed)
	}
	begun := time.Now()
	p, err := m.Plan()
	if err != nil {
		return err
	}
	// Not one that may go where the attempts go.
	secret := ""
	for _, s := range p.Network.Secrets {
		if !slices.Contains(s.Hosts, target.Allowed) {
			secret = s.Name
		}
	}
	rows, err := a.runAttack(m, target, secret)
	if err != nil {
		return err
	}
	lines, err := recordSince(m, begun)
	if err != nil {
		return err
	}
	bad := 0
	for i := range rows {
		r := &rows[i]
		r.Recorded = r.Trace == "" || strings.Contains(lines, r.Trace)
		if !r.Skipped && (!r.Refused || !r.Recorded) {
			bad++
		}
	}
	if n := canary.touched.Load(); n > 0 {
		bad++
		a.note("%d connections reached this computer", n)
	}
	if err := a.printAttack(rows); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d attempts were not refused, or not recorded", bad, len(rows))
	}
	return nil
}

func (a *app) printAttack(rows []attackRow) error {
	if a.json {
		return a.printJSON(a.Out, rows)
	}
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		verdict := "refused"
		switch {
		case r.Skipped:
			verdict = "skipped"
		case !r.Refused:
			verdict = "REACHED"
		case !r.Recorded:
			verdict = "NOT RECORDED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", verdict, termsafe.Line(r.Name), termsafe.Line(r.How))
	}
	return w.Flush()
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

// maxAttackOutput bounds what the machine says of its attempts.
const maxAttackOutput = 1 << 20

// attackScript returns a script that takes the program from its standard input, as long
// as $0, and runs it as root with the target $1. secret is the variable of a secret, "" for
// none.
func attackScript(secret string) string {
	value := ""
	if secret != "" {
		value = "$" + secret
	}
	return fmt.Sprintf(`d=$(mktemp -d) && f=$d/mayfly && head -c "$0" >"$f" && chmod 755 "$f" && sudo -n MAYFLY=1 %s="%s" "$f" %s "$1"; `+
		`code=$?; rm -rf "$d"; exit $code`, attackVariable, value, attackWord)
}

// runAttack copies this program into the machine and runs it there.
func (a *app) runAttack(m state.Machine, t attack.Target, secret string) ([]attackRow, error) {
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
	stream, err := control.OpenGuest(m)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	req := &wire.Exec{
		Argv: []string{"/bin/sh", "-c", attackScript(secret), strconv.FormatInt(fi.Size(), 10), string(text)},
		Dir:  "/tmp",
	}
	var rows []attackRow
	out := &lineWriter{left: maxAttackOutput, line: func(line []byte) error {
		var r attackRow
		if err := json.Unmarshal(line, &r.Result); err != nil {
			return fmt.Errorf("read the attempts: %w", err)
		}
		a.debug("%s: %s", termsafe.Line(r.Name), termsafe.Line(r.How))
		rows = append(rows, r)
		return nil
	}}
	messages := &lineWriter{left: maxAttackOutput, line: func(line []byte) error {
		a.note("the machine: %s", termsafe.Line(string(line)))
		return nil
	}}
	code, err := client.Exec(stream, req, client.Stdio{Stdin: program, Stdout: out, Stderr: messages})
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

// recordSince returns the lines of the machine's record that are about refusals.
func recordSince(m state.Machine, t time.Time) (string, error) {
	var b strings.Builder
	err := audit.Read(m.AuditFile(), func(e audit.Event) error {
		if e.Time.After(t) && e.Verdict == audit.Deny {
			fmt.Fprintln(&b, e)
		}
		return nil
	})
	return b.String(), err
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
