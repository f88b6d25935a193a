// Package login keeps log-ins of coding agents on the host.
//
// A log-in is kept once, in a file of its own that only its user can read, and then lent to
// all machines in which the agent can work: the guest gets a placeholder, and the requests
// to the agent's provider get the value on their way. In flow keys, out flow secrets
// (package network/secret), which no encoder shows.
package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/filelock"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/userfile"
)

// Login is the log-in of a coding agent, without what it consists of.
type Login struct {
	Agent string
	Kind  Kind
	Key   codingagent.Key // how the agent takes it, and where it goes
	Since time.Time
	// Account is what a machine may know of a subscription.
	Account codingagent.Account
	// Refused says that the provider does not renew the subscription's tokens any more.
	Refused bool
}

// Kind is what a log-in consists of.
type Kind string

// The kinds.
const (
	APIKey       Kind = "key"          // or a token, that stays the same
	Subscription Kind = "subscription" // tokens that are renewed
)

// Store is the directory of a user's log-ins. It need not exist.
type Store struct{ Dir string }

// version is that of the files.
const version = 1

// maxFile bounds a file in bytes.
const maxFile = 256 << 10

// kept is a log-in as it is in its file.
type kept struct {
	Version int       `json:"version"`
	Kind    Kind      `json:"kind"`
	Since   time.Time `json:"since"`
	Key     string    `json:"key,omitempty"`

	// Of a subscription.
	Tokens  codingagent.Tokens  `json:"tokens,omitzero"`
	Account codingagent.Account `json:"account,omitzero"`
	Renewed time.Time           `json:"renewed,omitzero"` // when mayfly got Tokens
	Refused bool                `json:"refused,omitempty"`
}

const suffix = ".json"

func (s Store) file(agent string) string { return filepath.Join(s.Dir, agent+suffix) }

// Keep keeps a key in the place of what is kept for the agent.
func (s Store) Keep(ctx context.Context, agent string, key secret.Value, now time.Time) (Login, error) {
	return s.put(ctx, agent, kept{Kind: APIKey, Key: key.Reveal(), Since: now})
}

func (s Store) put(ctx context.Context, agent string, k kept) (Login, error) {
	// A name of the table is also a file's.
	l, err := k.login(agent)
	if err != nil {
		return l, err
	}
	release, err := s.Lock(ctx)
	if err != nil {
		return l, err
	}
	defer release()
	return l, s.write(agent, k)
}

// write replaces the file of a log-in, whose lock is held.
func (s Store) write(agent string, k kept) error {
	k.Version = version
	data, err := json.Marshal(k)
	if err == nil {
		err = atomicfile.Write(s.file(agent), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the log-in: %w", err)
	}
	return nil
}

// Lock makes the directory, and makes those who write in it take turns.
func (s Store) Lock(ctx context.Context) (release func(), err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep log-ins: %w", err)
	}
	release, err = filelock.Acquire(ctx, filepath.Join(s.Dir, "lock"), nil)
	if err != nil {
		return nil, fmt.Errorf("keep log-ins: %w", err)
	}
	// What a killed process left may have a key in it.
	left, _ := filepath.Glob(filepath.Join(s.Dir, atomicfile.Leftovers))
	for _, name := range left {
		os.Remove(name)
	}
	return release, nil
}

// login returns what k is as a log-in of an agent.
func (k kept) login(agent string) (Login, error) {
	a, err := codingagent.Get(agent)
	if err != nil {
		return Login{}, err
	}
	if k.Kind == Subscription {
		s := a.Subscription
		if s == nil {
			return Login{}, fault.New(fault.LoginInvalid, fault.Args{"agent": agent}, "%s has no subscription that mayfly knows", a.Title)
		}
		key := codingagent.Key{Variable: s.Variable, Hosts: s.Hosts}
		return Login{Agent: agent, Kind: k.Kind, Key: key, Since: k.Since, Account: k.Account, Refused: k.Refused}, nil
	}
	key, ok := a.KeyFor(k.Key)
	if !ok {
		return Login{}, fault.New(fault.LoginInvalid, fault.Args{"agent": agent}, "%s takes no such key", a.Title)
	}
	return Login{Agent: agent, Kind: k.Kind, Key: key, Since: k.Since}, nil
}

// read reads the file of a log-in. Errors never quote what is in it.
func (s Store) read(agent string) (k kept, err error) {
	if _, err := codingagent.Get(agent); err != nil {
		return k, err
	}
	name := s.file(agent)
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err == nil && st.Mode&0o077 != 0 {
		return k, fault.New(fault.LoginExposed, fault.Args{"file": name}, "read the log-in of %s: others can read %s", agent, name)
	}
	data, err := userfile.Read(name, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return k, fault.New(fault.LoginMissing, fault.Args{"agent": agent}, "this host keeps no log-in of %s: %w", agent, fs.ErrNotExist)
	}
	if err != nil {
		return k, fmt.Errorf("read the log-in of %s: %w", agent, err)
	}
	if json.Unmarshal(data, &k) != nil || k.Version != version || !k.whole() {
		return kept{}, fault.New(fault.LoginInvalid, fault.Args{"agent": agent}, "read the log-in of %s: %s is of another version of mayfly, or damaged", agent, name)
	}
	return k, nil
}

// whole reports whether k has what its kind consists of.
func (k kept) whole() bool {
	switch k.Kind {
	case APIKey:
		return k.Key != ""
	case Subscription:
		return k.Tokens.Check() == nil
	}
	return false
}

// Value returns what requests to the agent's provider carry; of a subscription that is the
// access token, which may have expired.
func (s Store) Value(agent string) (secret.Value, error) {
	k, err := s.read(agent)
	if err != nil {
		return secret.Value{}, err
	}
	if k.Kind == Subscription {
		return secret.NewValue(k.Tokens.Access), nil
	}
	return secret.Check("the log-in of "+agent, k.Key)
}

// List returns all log-ins, sorted by their agents. Those that cannot be read are in the
// error; the others are there all the same.
func (s Store) List() ([]Login, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the log-ins: %w", err)
	}
	var list []Login
	var errs []error
	for _, e := range entries {
		agent, ok := strings.CutSuffix(e.Name(), suffix)
		if _, known := codingagent.Find(agent); !ok || !known {
			continue
		}
		k, err := s.read(agent)
		var l Login
		if err == nil {
			l, err = k.login(agent)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b Login) int { return strings.Compare(a.Agent, b.Agent) })
	return list, errors.Join(errs...)
}

// Remove forgets the log-in of an agent.
func (s Store) Remove(ctx context.Context, agent string) error {
	if _, err := codingagent.Get(agent); err != nil {
		return err
	}
	release, err := s.Lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	err = os.Remove(s.file(agent))
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.LoginMissing, fault.Args{"agent": agent}, "this host keeps no log-in of %s", agent)
	}
	if err != nil {
		return fmt.Errorf("remove the log-in of %s: %w", agent, err)
	}
	return nil
}

// Holds reports whether the file at path is one of a log-in, by whatever name: it is not to
// go where a file says that somebody else may have written.
func (s Store) Holds(path string) bool {
	fi, err := os.Stat(path)
	if err != nil {
		return false
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		own, err := e.Info()
		return err == nil && os.SameFile(fi, own)
	})
}
