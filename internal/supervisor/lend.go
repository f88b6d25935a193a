package supervisor

import (
	"log/slog"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/login/lender"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
)

// LendCommand is the hidden word of the command line that runs the process in which a
// supervisor has log-ins renewed.
const LendCommand = lender.Command

// LendSpawned reports whether this process was started as one, and Lend is the body of it.
func LendSpawned() bool { return lender.Spawned() }

// Lend renews the log-ins in dir until the supervisor is gone.
func Lend(dir string, log *slog.Logger) error { return lender.Main(dir, log) }

// lent are the values of secrets that are renewed while the machine lives, by the agents
// whose log-ins they are.
type lent map[string]*secret.Live

// values puts live values into the places of the secrets that are renewed.
func (l lent) values(planned []plan.Secret, secrets []secret.Secret) {
	for i, p := range planned {
		if p.Renewed {
			l[p.Login()] = secret.NewLive(secrets[i].Value.Reveal(), time.Time{})
			secrets[i].Value = l[p.Login()].Value()
		}
	}
}

// startLender starts the process that renews the log-ins of l, and returns what lets it end.
// It has to be started before this process confines itself.
func (s *supervisor) startLender(l lent, given control.Given) (end func(), err error) {
	if len(l) == 0 {
		return func() {}, nil
	}
	o := lender.Order{Proxies: s.proxies}
	for agent := range l {
		o.Agents = append(o.Agents, agent)
	}
	process, err := lender.Start(given.Logins, o, os.Stderr)
	if err != nil {
		return nil, err
	}
	followed, ending := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(followed)
		err := process.Follow(func(n lender.News) { s.hearLender(l, n) })
		select {
		case <-ending:
		default:
			s.loseLender(l, err)
		}
	}()
	return func() {
		close(ending)
		process.Close()
		<-followed
	}, nil
}

// loseLender says that a lender has ended before its machine.
func (s *supervisor) loseLender(l lent, err error) {
	for _, live := range l {
		live.Explain("the process that renews it has ended: start the machine again")
	}
	s.log.Warn("log-ins are not renewed any more", "err", err)
	s.note(control.NoteLoginsUnrenewed, fault.Args{"name": s.machine.Name}, "the process that renews the log-ins of %s has ended", s.machine.Name)
}

// hearLender uses what is new of a log-in. What a guest may read of it is ours: the lender's
// words are about the host.
func (s *supervisor) hearLender(l lent, n lender.News) {
	live, ok := l[n.Agent]
	if !ok {
		return
	}
	s.log.Info("log-in", "agent", n.Agent, "expires", n.Expires, "token", n.Token != "", "refused", n.Refused, "why", n.Why)
	if n.Token == "" {
		live.Clear("the host keeps no log-in for it any more that can be read")
		return
	}
	live.Set(n.Token, n.Expires)
	switch {
	case n.Refused:
		live.Explain("it has expired, and its provider does not renew it: mayfly login " + n.Agent + " --import, on the host")
		s.note(control.NoteLoginRefused, fault.Args{"name": s.machine.Name, "agent": n.Agent},
			"the log-in of %s has ended: its provider does not renew it any more", n.Agent)
	case n.Why != "":
		live.Explain("it has expired, and its provider could not be asked for another one yet")
	}
}
