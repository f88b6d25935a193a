package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/login"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// logins is the store of log-ins that the host keeps.
func (e *Engine) logins() login.Store { return login.Store{Dir: filepath.Join(e.dirs.State, "logins")} }

// Logins returns the log-ins of coding agents that the host keeps, sorted by agents. Those
// that cannot be read are in the error, beside the others.
func (e *Engine) Logins() ([]login.Login, error) { return e.logins().List() }

// KeepLogin keeps a key for an agent, in the place of what is kept for it.
func (e *Engine) KeepLogin(ctx context.Context, agent, key string) (login.Login, error) {
	if _, err := codingagent.Get(agent); err != nil {
		return login.Login{}, InputError{err}
	}
	v, err := secret.Check("the key", key)
	if err != nil {
		return login.Login{}, InputError{err}
	}
	return e.logins().Keep(ctx, agent, v, time.Now())
}

// RemoveLogin forgets the log-in of an agent.
func (e *Engine) RemoveLogin(ctx context.Context, agent string) error {
	if _, err := codingagent.Get(agent); err != nil {
		return InputError{err}
	}
	return e.logins().Remove(ctx, agent)
}

// ImportLogin takes over the log-in that an agent has on this host, in the place of what is
// kept for it. file is where the agent has it.
func (e *Engine) ImportLogin(ctx context.Context, agent string) (l login.Login, file string, err error) {
	a, err := codingagent.Get(agent)
	if err != nil {
		return l, "", InputError{err}
	}
	if a.Subscription == nil {
		return l, "", InputError{fault.New(fault.LoginInvalid, args{"agent": agent}, "the log-in of %s cannot be imported", a.Title)}
	}
	file = a.Subscription.HostFile(e.home(), e.opt.Getenv)
	data, err := userfile.Read(file, maxLoginFile)
	if errors.Is(err, fs.ErrNotExist) {
		return l, "", fault.New(fault.LoginImport, args{"agent": agent}, "%s is not logged in on this computer: there is no %s", a.Title, file)
	}
	if err != nil {
		return l, "", fmt.Errorf("import the log-in of %s: %w", a.Title, err)
	}
	l, err = e.logins().Import(ctx, agent, data, time.Now())
	return l, file, err
}

// maxLoginFile bounds the file of an agent's own log-in, in bytes.
const maxLoginFile = 1 << 20

// lendable returns the log-ins that the host keeps of agents, by their names. One that cannot
// be read, or has ended, is no reason not to start a machine.
func (e *Engine) lendable(agents []string) map[string]plan.Login {
	list, err := e.logins().List()
	if err != nil {
		e.note(NoteLoginUnreadable, args{"reason": err.Error()})
	}
	logins := make(map[string]plan.Login)
	for _, l := range list {
		if !slices.Contains(agents, l.Agent) {
			continue
		}
		if l.Refused {
			e.note(NoteLoginEnded, args{"agent": l.Agent})
			continue
		}
		logins[l.Agent] = plan.Login{Variable: l.Key.Variable, Subscription: l.Kind == login.Subscription, Account: l.Account}
	}
	return logins
}

// secret gets the value of a secret.
func (e *Engine) secret(ctx context.Context, s plan.Secret) (secret.Value, error) {
	if agent := s.Login(); agent != "" {
		return e.logins().Value(agent)
	}
	if path, ok := secret.SourceFile(s.From, e.opt.Getenv); ok && e.logins().Holds(path) {
		return secret.Value{}, fault.New(fault.LoginInSecret, args{"secret": s.Name}, "%s is a log-in, which goes to its provider only", path)
	}
	return secret.Resolve(ctx, s.From, e.opt.Getenv)
}

// adviseLogin says what would spare the user of an agent that is about to start its log-in
// screen.
func (m Machine) adviseLogin(ctx context.Context, name string) {
	agent, ok := codingagent.Find(name)
	if !ok || m.p.Network.Mode != plan.NetworkUser || m.p.Network.NoLogins || m.hasKey(agent) {
		return
	}
	list, _ := m.e.logins().List()
	a := args{"agent": name, "title": agent.Title, "name": m.Name()}
	switch kept := slices.ContainsFunc(list, func(l login.Login) bool { return l.Agent == name && !l.Refused }); {
	case m.loggedIn(ctx, agent):
	case kept && slices.Contains(m.p.Image.Agents, name):
		m.e.note(NoteLoginLater, a)
	case !kept:
		m.e.note(NoteLoginNone, a)
	}
}

// hasKey reports whether the machine has a key for an agent, or what stands for one.
func (m Machine) hasKey(agent codingagent.Agent) bool {
	for name := range m.p.Guest.Env {
		if agent.TakesKey(name) {
			return true
		}
	}
	return slices.ContainsFunc(m.p.Network.Secrets, func(s plan.Secret) bool {
		return agent.TakesKey(s.Name) || s.Login() == agent.Name
	})
}

// loggedIn reports whether the agent has a log-in of its own in the machine.
func (m Machine) loggedIn(ctx context.Context, agent codingagent.Agent) bool {
	const script = `cd && for f do [ -s "$f" ] && exit 0; done; exit 1`
	req := &wire.Exec{Argv: append([]string{"/bin/sh", "-c", script, "sh"}, agent.Logins...), Dir: m.p.Guest.User.Home}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	code, err := m.Exec(ctx, req, client.Stdio{})
	return err != nil || code == 0
}
