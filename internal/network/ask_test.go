package network

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/dns"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// user is somebody who can be asked.
type user struct {
	away atomic.Bool

	mu    sync.Mutex
	heard []string
}

func (u *user) asker() Asker {
	hear := func(format string, args ...any) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.heard = append(u.heard, fmt.Sprintf(format, args...))
	}
	return Asker{
		Attended: func() bool { return !u.away.Load() },
		Asked:    func(q Question) { hear("%s:%d?", q.Host, q.Port) },
		Settled:  func(q Question, a Answer) { hear("%s:%d %s", q.Host, q.Port, a) },
	}
}

// said returns what the user has heard since the last call.
func (u *user) said() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	text := strings.Join(u.heard, ", ")
	u.heard = nil
	return text
}

func yes() bool { return true }

// askAll asks about each target at once, and returns what comes of each.
func askAll(ctx context.Context, qs *questions, targets ...target) (outcomes func() []string) {
	all := make([]string, len(targets))
	var asking sync.WaitGroup
	for i, t := range targets {
		asking.Go(func() {
			answer, why := qs.ask(ctx, t, yes)
			all[i] = strings.TrimSpace(string(answer) + " " + why)
		})
		synctest.Wait()
	}
	return func() []string {
		asking.Wait()
		return all
	}
}

func check[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %+v; want %+v", what, got, want)
	}
}

// Connections to one port of a host are one question, and have its answer.
func TestQuestionAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u user
		qs := newQuestions(u.asker())
		web, ssh := target{"a.example", 443}, target{"a.example", 22}
		outcomes := askAll(t.Context(), qs, web, web, ssh, web)
		check(t, "asked", u.said(), "a.example:443?, a.example:22?")
		open, _ := qs.list()
		check(t, "open", len(open), 2)
		check(t, "connections that wait", open[1].Conns, 3)
		time.Sleep(askTime - time.Second)
		qs.settle(func(q target, _ Question) Answer {
			if q == web {
				return AnsweredOnce
			}
			return ""
		})
		check(t, "settled", u.said(), "a.example:443 once")
		check(t, "outcomes", outcomes(), []string{"once", "once", "none nobody answered within 50s", "once"})
		// What was answered can be asked again at once, and what was not only later.
		again := askAll(t.Context(), qs, web, ssh)
		qs.settle(func(target, Question) Answer { return AnsweredDeny })
		check(t, "again", again(), []string{"deny", "none nobody answered a moment ago"})
		time.Sleep(refuseTime)
		u.said()
		again = askAll(t.Context(), qs, ssh)
		check(t, "later", u.said(), "a.example:22?")
		qs.settle(func(target, Question) Answer { return AnsweredAllow })
		check(t, "later", again(), []string{"allow"})
	})
}

// Where nobody can answer, or the policy has decided, no connection waits.
func TestQuestionUnattended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u user
		u.away.Store(true)
		qs := newQuestions(u.asker())
		begun := time.Now()
		check(t, "unattended", askAll(t.Context(), qs, target{"a.example", 443})(), []string{"none nobody is there to be asked"})
		_, unattended := qs.list()
		check(t, "counted", unattended, 1)
		u.away.Store(false)
		if answer, why := qs.ask(t.Context(), target{"a.example", 443}, func() bool { return false }); answer != Unanswered || why != "" {
			t.Errorf("what is decided: %q, %q", answer, why)
		}
		check(t, "time", time.Since(begun), 0)
		check(t, "asked", u.said(), "")
		// The machine ends.
		ctx, cancel := context.WithCancel(t.Context())
		outcomes := askAll(ctx, qs, target{"b.example", 443})
		cancel()
		check(t, "at the end", outcomes(), []string{"none the machine ended"})
	})
}

// A machine that connects to very many hosts asks few questions, and holds few connections.
// Those that wait stay.
func TestQuestionFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u user
		qs := newQuestions(u.asker())
		first := target{"wanted.example", 443}
		outcome := askAll(t.Context(), qs, first)
		time.Sleep(time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		var refused atomic.Int64
		var asking sync.WaitGroup
		for i := range 10_000 {
			asking.Go(func() {
				if _, why := qs.ask(ctx, target{fmt.Sprintf("n%d.example", i), 443}, yes); why == whyFull {
					refused.Add(1)
				}
			})
		}
		for range 1000 {
			asking.Go(func() { qs.ask(ctx, first, yes) })
		}
		synctest.Wait()
		open, _ := qs.list()
		check(t, "questions", len(open), maxQuestions)
		check(t, "refused", refused.Load(), 10_000-maxQuestions+1)
		check(t, "the first question", open[0], Question{"wanted.example", 443, open[0].Since, maxWaiting})
		qs.settle(func(q target, _ Question) Answer {
			if q == first {
				return AnsweredAllow
			}
			return ""
		})
		check(t, "it", outcome(), []string{"allow"})
		// The next take turns, and what is known of those before is bounded.
		for i := range 200 {
			time.Sleep(time.Second)
			for j := range maxQuestions {
				asking.Go(func() { qs.ask(ctx, target{fmt.Sprintf("m%d-%d.example", i, j), 443}, yes) })
			}
		}
		synctest.Wait()
		if open, _ := qs.list(); len(open) > maxQuestions || len(qs.refused) > maxRefused {
			t.Errorf("%d questions, %d refused", len(open), len(qs.refused))
		}
		cancel()
		asking.Wait()
	})
}

// asking is a machine whose user is asked.
func asking(t *testing.T, u *user) (*Network, *kernel, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit")
	log, err := audit.Open(path, "m")
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(Config{
		Plan: plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAsk, Allow: []plan.Rule{{Host: "known.example", Port: 22}}},
		Ask:  u.asker(), Audit: log, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		log.Close()
	})
	return n, newKernel(t, n), path
}

// connect begins a connection, whose outcome comes on the channel.
func (k *kernel) connect(t *testing.T, n *Network, name string, port uint16) <-chan error {
	done := make(chan error, 1)
	to := netip.AddrPortFrom(n.names.Pool.Addr(name), port)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		conn, err := k.dial(ctx, to)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		done <- err
	}()
	return done
}

// waitingFor waits until these are the hosts that are asked about.
func waitingFor(t *testing.T, n *Network, want string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		open, _ := n.Questions()
		var list []string
		for _, q := range open {
			list = append(list, fmt.Sprintf("%s:%d/%d", q.Host, q.Port, q.Conns))
		}
		if got = strings.Join(list, " "); got == want {
			return
		}
	}
	t.Fatalf("questions %q; want %q", got, want)
}

// A connection that no rule covers waits, and what its user says of the host decides on it,
// and on those that follow.
func TestAsk(t *testing.T) {
	var u user
	n, k, path := asking(t, &u)
	// Nobody is asked where an unknown name leads: the names may be messages.
	if err := n.knows(t.Context(), "new.example", "A"); err != nil {
		t.Errorf("a name that the machine may ask about: %v", err)
	}
	first, second := k.connect(t, n, "new.example", 443), k.connect(t, n, "new.example", 443)
	waitingFor(t, n, "new.example:443/2")
	n.Allow(plan.Rule{Host: "other.example"}) // is no answer
	waitingFor(t, n, "new.example:443/2")
	n.Allow(plan.Rule{Host: "*.example"})
	for _, conn := range []<-chan error{first, second, k.connect(t, n, "new.example", 443)} {
		if err := <-conn; err != nil {
			t.Errorf("what was allowed: %v", err)
		}
	}
	n.Deny(plan.Rule{Host: "*.example"}) // and takes the rule away
	n.change("", func(_ *plan.Network, denied *[]plan.Rule) { *denied = nil })

	// Once is for those that wait.
	first = k.connect(t, n, "once.example", 443)
	waitingFor(t, n, "once.example:443/1")
	if n.AllowOnce(plan.Rule{Host: "wrong.example"}) || !n.AllowOnce(plan.Rule{Host: "once.example"}) {
		t.Error("AllowOnce takes another host, or not the one that waits")
	}
	if err := <-first; err != nil {
		t.Errorf("what was allowed once: %v", err)
	}
	if v := n.Policy().Request("once.example", 443, "GET", "/"); !v.Allow || !v.Intercept {
		t.Errorf("a request on it: %+v", v)
	}
	second = k.connect(t, n, "once.example", 443)
	waitingFor(t, n, "once.example:443/1")
	n.Deny(plan.Rule{Host: "once.example"})
	if err := <-second; err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("what was denied: %v", err)
	}
	begun := time.Now()
	if err := <-k.connect(t, n, "once.example", 443); err == nil || time.Since(begun) > askTime/2 {
		t.Errorf("what was denied before: %v after %v", err, time.Since(begun))
	}
	if rules := n.Policy().DeniedNames(); len(rules) > 0 {
		t.Errorf("the servers of %v would be told", rules)
	}

	// Without a port, the answer is for the port that is asked about, too.
	first = k.connect(t, n, "git.example", 9418)
	waitingFor(t, n, "git.example:9418/1")
	n.Allow(plan.Rule{Host: "git.example"})
	<-first // nobody is there
	waitingFor(t, n, "")
	if !n.Policy().Connect("git.example", 9418).Allow || !n.Policy().Connect("git.example", 443).Allow {
		t.Error("the host is not allowed at both ports")
	}
	// Another port of a host that has a rule, and an address.
	first = k.connect(t, n, "known.example", 25)
	waitingFor(t, n, "known.example:25/1")
	n.SetEgress(plan.EgressAllowlist)
	if err := <-first; err == nil {
		t.Error("a list of hosts lets pass what waits")
	}
	n.audit.Flush()
	var answers []string
	if err := audit.Read(path, func(e audit.Event) error {
		if e.Kind == audit.Answer {
			answers = append(answers, fmt.Sprintf("%s %s:%d %d", e.Rule, e.Name, e.Port, e.Count))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	check(t, "answers in the record", answers, []string{
		"allow new.example:443 2", "once once.example:443 1", "deny once.example:443 1", "allow git.example:9418 1", "deny known.example:25 1",
	})
}

// The rule for connections that waited goes with the last of them.
func TestAskOnceEnds(t *testing.T) {
	var u user
	n, k, _ := asking(t, &u)
	to := netip.AddrPortFrom(n.names.Pool.Addr("once.example"), 443)
	conns := make(chan func() error, 2)
	for range 2 {
		go func() {
			conn, err := k.dial(t.Context(), to)
			if err != nil {
				t.Error(err)
				conns <- func() error { return nil }
				return
			}
			conns <- conn.Close
		}()
	}
	waitingFor(t, n, "once.example:443/2")
	n.AllowOnce(plan.Rule{Host: "once.example", Port: 443})
	rules := func() (once int) {
		for _, r := range n.Policy().Network().Allow {
			if r.Once {
				once++
			}
		}
		return once
	}
	for i := range 2 {
		check(t, "rules", rules(), 1-i/2)
		(<-conns)()
	}
	for deadline := time.Now().Add(time.Minute); rules() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the rule stays")
		}
	}
}

// What no answer would let pass is never asked, and neither is what has no name of its own.
func TestNeverAsked(t *testing.T) {
	var u user
	n, k, _ := asking(t, &u)
	for _, name := range []string{"printer", "nas.local", "db.corp", plan.HostName, "10.0.0.1", "host.0x7f"} {
		if err := n.knows(t.Context(), name, "A"); err == nil {
			t.Errorf("the name %s is known", name)
		}
		if name != plan.HostName {
			if err := <-k.connect(t, n, name, 443); err == nil {
				t.Errorf("a connection to %s passes", name)
			}
		}
	}
	for _, addr := range []string{"10.0.0.1", "192.168.1.1", "169.254.169.254", "127.0.0.1", "0.0.0.0", dns.Range.Addr().Next().String()} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if conn, err := k.dial(ctx, netip.AddrPortFrom(netip.MustParseAddr(addr), 443)); err == nil {
			conn.Close()
			t.Errorf("a connection to %s passes", addr)
		}
		cancel()
	}
	check(t, "asked", u.said(), "")
	// An address that is public is.
	done := make(chan error, 1)
	go func() {
		conn, err := k.dial(t.Context(), netip.MustParseAddrPort("93.184.216.34:443"))
		if err == nil {
			conn.Close()
		}
		done <- err
	}()
	waitingFor(t, n, "93.184.216.34:443/1")
	n.Deny(plan.Rule{Host: "93.184.216.34"})
	if err := <-done; err == nil {
		t.Error("an address that was denied is reached")
	}
	// Nobody is there any more.
	u.away.Store(true)
	if err := <-k.connect(t, n, "new.example", 443); err == nil {
		t.Error("a connection passes without an answer")
	}
	denied, _ := n.audit.Denials()
	var found bool
	for _, d := range denied {
		found = found || d.Host == "new.example" && d.Port == 443
	}
	if _, unattended := n.Questions(); unattended != 1 || !found {
		t.Errorf("%d without a question, in %v", unattended, denied)
	}
}
