package supervisor

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/network"
	"github.com/mayfly-vm/mayfly/internal/network/audit"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// networkService is a machine that has only a network.
type networkService struct {
	guestService
	n *guestNetwork
}

func (s networkService) changeNetwork(c *control.NetworkChange) control.Response {
	return s.n.change(c)
}

// Who can answer counts as long as the connection is there. Questions that are open are told
// to who comes later, and no longer when they are settled.
func TestAttended(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	ev := newEvents(io.Discard)
	s := &supervisor{machine: m, events: ev}
	srv := newServer(ev, func() {})
	srv.offer(guestService(echoGuest))
	serve(t, m, srv)
	until := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ev.attended() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("attended: %v; want %v", !want, want)
			}
		}
	}
	checkGuest(t, m) // a stream of nobody who looks on
	until(false)
	var stream net.Conn
	stream, err := control.OpenAttended(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if !ev.attended() {
		t.Error("not attended though the stream is there")
	}
	stream.Close()
	until(false)

	s.noteQuestion(network.Question{Host: "gone.example", Port: 443})
	s.noteQuestion(network.Question{Host: "xn--gthub-jua.example", Port: 22})
	s.noteAnswer(network.Question{Host: "gone.example", Port: 443}, network.Unanswered)
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan control.Event)
	done := make(chan error, 1)
	go func() {
		done <- control.Attend(ctx, m, func(e control.Event) error {
			heard <- e
			return nil
		})
	}()
	e := <-heard
	if e.Code != control.NoteQuestion || e.Args["host"] != "xn--gthub-jua.example" || e.Args["port"] != "22" || e.Args["name"] != "m" {
		t.Errorf("a watcher that comes later hears %+v", e)
	}
	until(true)
	s.noteAnswer(network.Question{Host: "xn--gthub-jua.example", Port: 22}, network.AnsweredOnce)
	if e := <-heard; e.Code != control.NoteAnswered || e.Args["answer"] != "once" {
		t.Errorf("after the answer it hears %+v", e)
	}
	cancel()
	<-done
	until(false)
	if len(ev.questions) > 0 {
		t.Errorf("still open: %+v", ev.questions)
	}
}

// An answer for connections that wait is refused where none does.
func TestAnswerToNothing(t *testing.T) {
	_, m, _ := newMachine(t, t.TempDir(), "m")
	log, err := audit.Open(filepath.Join(t.TempDir(), "audit"), "m")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	n := &guestNetwork{audit: log, log: slog.New(slog.DiscardHandler)}
	if n.Network, err = network.New(network.Config{
		Plan: plan.Network{Mode: plan.NetworkUser, Egress: plan.EgressAsk}, Audit: log, Log: n.log,
	}); err != nil {
		t.Fatal(err)
	}
	defer n.Network.Close()
	srv := newServer(newEvents(io.Discard), func() {})
	srv.offer(networkService{n: n})
	serve(t, m, srv)
	_, err = control.ChangeNetwork(m, control.NetworkChange{Allow: []plan.Rule{{Host: "a.example", Once: true}}})
	if fault.CodeOf(err) != fault.QuestionNone {
		t.Errorf("allow once: %v; want that nothing waits", err)
	}
	st, err := control.ChangeNetwork(m, control.NetworkChange{})
	if err != nil || st.Egress != plan.EgressAsk || len(st.Allow)+len(st.Questions) > 0 {
		t.Errorf("the state: %+v, %v", st, err)
	}
}
