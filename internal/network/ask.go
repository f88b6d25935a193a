package network

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
	"github.com/mayfly-vm/mayfly/internal/network/policy"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// Bounds of what a machine can ask its user. A guest can connect to as many names as it
// likes: what is more than a user reads at once is refused, and not asked later.
const (
	maxQuestions = 8  // at once
	maxWaiting   = 16 // connections, for each
	askTime      = 50 * time.Second
	// refuseTime is how long what nobody answered is refused without a question: programs
	// try again, and each would wait as long.
	refuseTime = time.Minute
	maxRefused = 256 // of which that is known
)

// Question is a host that no rule covers, to which connections wait.
type Question struct {
	Host  string // the name that the guest asked for, or an address
	Port  int
	Since time.Time
	Conns int // that wait
}

// Asker is who can ask the user of a machine.
type Asker struct {
	// Attended reports whether there is somebody who could answer.
	Attended func() bool
	// Asked is told of each question, and Settled of its end, in their order. They must
	// not call the network.
	Asked   func(Question)
	Settled func(q Question, answer Answer)
}

// Answer is what became of a question.
type Answer string

// The answers.
const (
	AnsweredAllow Answer = "allow"
	AnsweredOnce  Answer = "once"
	AnsweredDeny  Answer = "deny"
	Unanswered    Answer = "none"
)

// target is what a question is about.
type target struct {
	host string
	port uint16
}

// question is one that waits for its answer.
type question struct {
	Question
	done   chan struct{} // closed when it is settled
	answer Answer        // set before
}

// questions are those of one machine.
type questions struct {
	asker Asker

	mu      sync.Mutex // guards what follows
	open    map[target]*question
	refused map[target]time.Time // what nobody answered, and when
	unasked int                  // connections that were refused since nobody was there
}

func newQuestions(asker Asker) *questions {
	if asker.Attended == nil {
		asker.Attended = func() bool { return false }
	}
	return &questions{asker: asker, open: make(map[target]*question), refused: make(map[target]time.Time)}
}

// Why a connection is refused without an answer.
const (
	whyUnattended = "nobody is there to be asked"
	whyUnanswered = "nobody answered"
	whyFull       = "too many questions wait for an answer"
)

// ask waits until somebody has answered whether connections to t may pass. still reports
// whether the policy in force leaves that open. The reason is why there was no answer.
func (qs *questions) ask(ctx context.Context, t target, still func() bool) (Answer, string) {
	q, why := qs.enter(t, still)
	if q == nil {
		return Unanswered, why
	}
	timeout := time.NewTimer(time.Until(q.Since.Add(askTime)))
	defer timeout.Stop()
	select {
	case <-q.done:
	case <-timeout.C:
		qs.expire(t, q)
	case <-ctx.Done():
	}
	select {
	case <-q.done:
		if q.answer == Unanswered {
			return Unanswered, fmt.Sprintf("%s within %v", whyUnanswered, askTime)
		}
		return q.answer, ""
	default:
		return Unanswered, "the machine ended"
	}
}

// enter makes a connection wait for a question, or says why it does not; for no reason if
// the policy has decided meanwhile.
func (qs *questions) enter(t target, still func() bool) (*question, string) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	// Here, and not before: settle is called after each change of the policy.
	if !still() {
		return nil, ""
	}
	q := qs.open[t]
	switch at, known := qs.refused[t]; {
	case q != nil && q.Conns < maxWaiting:
		q.Conns++
		return q, ""
	case q != nil:
		return nil, "too many connections wait for an answer"
	case known && time.Since(at) < refuseTime:
		return nil, whyUnanswered + " a moment ago"
	case !qs.asker.Attended():
		qs.unasked++
		return nil, whyUnattended
	case len(qs.open) >= maxQuestions:
		return nil, whyFull
	}
	q = &question{Question: Question{t.host, int(t.port), time.Now(), 1}, done: make(chan struct{})}
	qs.open[t] = q
	qs.asker.Asked(q.Question)
	return q, ""
}

// settleLocked ends a question.
func (qs *questions) settleLocked(t target, q *question, answer Answer) {
	delete(qs.open, t)
	delete(qs.refused, t)
	q.answer = answer
	close(q.done)
	qs.asker.Settled(q.Question, answer)
}

// expire ends a question that nobody answered, unless somebody just did.
func (qs *questions) expire(t target, q *question) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if qs.open[t] != q {
		return
	}
	qs.settleLocked(t, q, Unanswered)
	now := time.Now()
	for old, at := range qs.refused {
		if now.Sub(at) >= refuseTime {
			delete(qs.refused, old)
		}
	}
	if len(qs.refused) < maxRefused {
		qs.refused[t] = now
	}
}

// settle ends the questions that decide answers; "" for one that stays open.
func (qs *questions) settle(decide func(t target, q Question) Answer) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	for t, q := range qs.open {
		if answer := decide(t, q.Question); answer != "" {
			qs.settleLocked(t, q, answer)
		}
	}
}

// list returns the open questions, the oldest first, and how many connections were refused
// since nobody could be asked.
func (qs *questions) list() (open []Question, unasked int) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	for _, q := range qs.open {
		open = append(open, q.Question)
	}
	slices.SortFunc(open, func(a, b Question) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		if c := strings.Compare(a.Host, b.Host); c != 0 {
			return c
		}
		return a.Port - b.Port
	})
	return open, qs.unasked
}

// Questions returns the hosts to which connections wait for an answer, the oldest first, and
// how many connections were refused because nobody could be asked.
func (n *Network) Questions() (open []Question, unasked int) { return n.questions.list() }

// neverAsked says why a flow is refused that no answer would let pass, "" for none.
func (f *flow) neverAsked() string {
	if f.name == "" {
		if err := f.network.dialer.Check("", []netip.Addr{f.dst.Addr()}, false); err != nil {
			return err.Error()
		}
		return ""
	}
	return neverAskedName(f.name)
}

func neverAskedName(name string) string {
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case dial.LocalName(name):
		return "a name of a local network"
	case strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x"):
		return "a name that programs take for an address"
	}
	return ""
}

// isOpen reports whether v leaves open whether a flow may pass that nobody has decided on.
func isOpen(v policy.Verdict) bool { return v.Ask || v.Once }

// hold waits for the user's answer about a flow, and returns why it may not pass, "" for what
// the policy says then.
func (f *flow) hold(ctx context.Context) string {
	if why := f.neverAsked(); why != "" {
		return why
	}
	n := f.network
	answer, why := n.questions.ask(ctx, f.about(), func() bool { return isOpen(f.decide(n.policy.Load())) })
	f.once = answer == AnsweredOnce
	return why
}

// about is what a question about the flow is about.
func (f *flow) about() target { return target{f.target(), f.dst.Port()} }

// answered says how a policy answers a question; "" if it does not.
func answered(p *policy.Set, t target) Answer {
	switch v := p.Connect(t.host, t.port); {
	case isOpen(v):
		return ""
	case v.Allow:
		return AnsweredAllow
	}
	return AnsweredDeny
}

// settle ends the questions that the policy in force answers, and those of once. It is
// called with edit held.
func (n *Network) settle(once []target) {
	p := n.policy.Load()
	n.questions.settle(func(t target, q Question) Answer {
		answer := answered(p, t)
		if slices.Contains(once, t) {
			answer = AnsweredOnce
			n.once[t] += q.Conns
		}
		if answer != "" {
			n.audit.Record(audit.Event{
				Kind: audit.Answer, Name: q.Host, Port: q.Port, Rule: string(answer),
				Count: q.Conns, Millis: time.Since(q.Since).Milliseconds(),
			})
		}
		return answer
	})
}

// AllowOnce lets the connections pass that wait for an answer about the host and the port of
// r, whatever the port if it has none. It reports whether there are any.
func (n *Network) AllowOnce(r plan.Rule) bool {
	n.edit.Lock()
	defer n.edit.Unlock()
	once := n.waiting(r)
	if len(once) == 0 {
		return false
	}
	n.changeLocked("allow once "+r.String(), once, func(p *plan.Network, _ *[]plan.Rule) {
		for _, t := range once {
			if n.once[t] == 0 {
				p.Allow = append(p.Allow, plan.Rule{Host: t.host, Port: int(t.port), Private: r.Private, Once: true, From: r.From})
			}
		}
	})
	return true
}

// waiting returns the targets of open questions about the host of r, and its port if it has
// one.
func (n *Network) waiting(r plan.Rule) (list []target) {
	open, _ := n.questions.list()
	for _, q := range open {
		if q.Host == r.Host && (r.Port == 0 || r.Port == q.Port) {
			list = append(list, target{q.Host, uint16(q.Port)})
		}
	}
	return list
}

// endOnce takes the rule away by which flows to t were let pass once, with the last of them.
func (n *Network) endOnce(t target) {
	n.edit.Lock()
	defer n.edit.Unlock()
	if n.once[t]--; n.once[t] > 0 {
		return
	}
	delete(n.once, t)
	n.changeLocked("", nil, func(p *plan.Network, _ *[]plan.Rule) {
		p.Allow = slices.DeleteFunc(p.Allow, func(r plan.Rule) bool {
			return r.Once && r.Host == t.host && r.Port == int(t.port)
		})
	})
}
