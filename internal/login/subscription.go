package login

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
)

// A refresh token is valid once. Who renews tokens gets another one with the new access
// token, and one that comes a second time is taken for stolen: the provider ends the log-in.
// So those who renew take turns by the store's lock, look first whether somebody else has
// done it, and the new tokens are on the disk before anybody uses them.

// Import keeps the log-in of a subscription that the agent's own file has, in the place of
// what is kept for the agent.
func (s Store) Import(ctx context.Context, agent string, file []byte, now time.Time) (Login, error) {
	a, err := codingagent.Get(agent)
	if err != nil {
		return Login{}, err
	}
	if a.Subscription == nil {
		return Login{}, fault.New(fault.LoginInvalid, fault.Args{"agent": agent}, "the log-in of %s cannot be imported", a.Title)
	}
	tokens, account, err := a.Subscription.Read(file)
	if err != nil {
		return Login{}, fault.New(fault.LoginImport, fault.Args{"agent": agent}, "read the log-in of %s: %w", a.Title, err)
	}
	return s.put(ctx, agent, kept{Kind: Subscription, Tokens: tokens, Account: account, Since: now})
}

// Lent is the access token of a subscription at some time.
type Lent struct {
	Token   secret.Value
	Expires time.Time
	// Refused says that there will be no other one.
	Refused bool
}

// ErrRefused is wrapped by the errors of a Renewal when the provider knows the refresh token
// no more, and asking again is of no use.
var ErrRefused = errors.New("the provider does not renew the log-in any more")

// Renewal asks the provider of a subscription for new tokens. The refresh token of those
// that it returns may be empty for the one that was.
type Renewal func(ctx context.Context, s *codingagent.Subscription, old codingagent.Tokens, a codingagent.Account) (codingagent.Tokens, error)

// renewBefore is how long before its end an access token is renewed at the latest; one that
// lives for a short time, in its last quarter.
const renewBefore = 15 * time.Minute

// due reports whether k is to be renewed.
func (k kept) due(now time.Time) bool {
	before := renewBefore
	if !k.Renewed.IsZero() {
		before = min(before, k.Tokens.Expires.Sub(k.Renewed)/4)
	}
	return !k.Refused && !now.Before(k.Tokens.Expires.Add(-before))
}

func (k kept) lent() Lent {
	return Lent{secret.NewValue(k.Tokens.Access), k.Tokens.Expires, k.Refused}
}

// Renew returns the access token of a subscription, which is renewed if it ends soon. With
// an error that is not of the store itself, the token of before is there all the same.
func (s Store) Renew(ctx context.Context, agent string, ask Renewal) (Lent, error) {
	k, err := s.readSubscription(agent)
	if err != nil || !k.due(time.Now()) {
		return k.lent(), err
	}
	release, err := s.Lock(ctx)
	if err != nil {
		return k.lent(), err
	}
	defer release()
	// Somebody else may have renewed it, or the user have forgotten it, meanwhile.
	k, err = s.readSubscription(agent)
	if err != nil || !k.due(time.Now()) {
		return k.lent(), err
	}
	// What cannot be written is found out before the refresh token is spent.
	if err := s.write(agent, k); err != nil {
		return k.lent(), err
	}
	a, err := codingagent.Get(agent)
	if err != nil {
		return k.lent(), err
	}
	tokens, err := ask(ctx, a.Subscription, k.Tokens, k.Account)
	switch {
	case errors.Is(err, ErrRefused):
		k.Refused = true
		return k.lent(), errors.Join(err, s.write(agent, k))
	case err != nil:
		return k.lent(), err
	}
	if tokens.Refresh == "" {
		tokens.Refresh = k.Tokens.Refresh
	}
	if err := tokens.Check(); err != nil {
		return k.lent(), fmt.Errorf("renew the log-in of %s: %w", agent, err)
	}
	k.Tokens, k.Renewed = tokens, time.Now()
	return k.lent(), s.writeNew(ctx, agent, k)
}

// writeNew writes tokens that are nowhere else. A disk that is full may have room in a moment;
// until then nobody else may have the lock, who would spend the old token again.
func (s Store) writeNew(ctx context.Context, agent string, k kept) error {
	for {
		err := s.write(agent, k)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

// readSubscription reads the file of a log-in that is one of a subscription.
func (s Store) readSubscription(agent string) (kept, error) {
	k, err := s.read(agent)
	if err == nil {
		_, err = k.login(agent)
	}
	if err == nil && k.Kind != Subscription {
		// Another log-in is in its place, which running machines do not get.
		err = fault.New(fault.LoginMissing, fault.Args{"agent": agent}, "this host keeps no subscription of %s any more: %w", agent, fs.ErrNotExist)
	}
	if err != nil {
		return kept{}, err
	}
	return k, nil
}
