package supervisor

import (
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/login/lender"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// What a lender says of a log-in is what requests get from then on. When it has ended, the
// user is told, and a guest learns nothing of the host.
func TestHearLender(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := &supervisor{log: slog.New(slog.DiscardHandler), events: newEvents(w)}
	s.machine.Name = "m"
	planned := []plan.Secret{{Name: "KEY"}, {Name: "T", From: plan.FromLogin + "claude", Renewed: true}}
	secrets := []secret.Secret{{Name: "KEY", Value: secret.NewValue("key")}, {Name: "T", Value: secret.NewValue("first")}}
	l := make(lent)
	l.values(planned, secrets)
	value := secrets[1].Value
	if len(l) != 1 || secrets[0].Value.Reveal() != "key" || value.Reveal() != "first" {
		t.Fatalf("%d values are renewed, and the second is %q", len(l), value.Reveal())
	}
	hear := func(n lender.News) { n.Agent = "claude"; s.hearLender(l, n) }
	later := time.Now().Add(time.Hour)
	s.hearLender(l, lender.News{Agent: "other", Token: "other", Expires: later})
	hear(lender.News{Token: "second", Expires: later})
	if value.Reveal() != "second" {
		t.Errorf("the value is %q; want the second", value.Reveal())
	}
	hear(lender.News{Token: "third", Expires: time.Unix(1, 0), Why: "/home/u/secret"})
	if why := value.Missing(); value.Reveal() != "" || !strings.Contains(why, "could not be asked") || strings.Contains(why, "/home") {
		t.Errorf("an expired value is %q for %q", value.Reveal(), why)
	}
	hear(lender.News{Token: "third", Expires: later, Refused: true})
	if value.Reveal() != "third" {
		t.Errorf("the last value is %q, of which there is an hour left", value.Reveal())
	}
	hear(lender.News{Why: "/home/u/secret"})
	if why := value.Missing(); value.Reveal() != "" || why == "" || strings.Contains(why, "/home") {
		t.Errorf("what is gone is %q for %q", value.Reveal(), why)
	}
	s.loseLender(l, nil)
	w.Close()
	said, err := io.ReadAll(r)
	if err != nil || strings.Count(string(said), "login-refused") != 1 || strings.Count(string(said), "logins-unrenewed") != 1 || strings.Contains(string(said), "third") {
		t.Errorf("the user is told %s, %v", said, err)
	}
}
