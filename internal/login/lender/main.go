package lender

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/login"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// How often the store is looked at, and the longest wait after a renewal that failed.
const (
	interval   = 15 * time.Second
	maxBackoff = 5 * time.Minute
	// afterlife is the longest that new tokens which the disk does not take are held when the
	// supervisor is gone.
	afterlife = 5 * time.Minute
)

// Main is the body of the hidden command: it renews the log-ins in dir until who started it
// is gone.
func Main(dir string, log *slog.Logger) error {
	// A renewal that is under way goes on: its answer is the only one.
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE, unix.SIGQUIT)
	in := bufio.NewReaderSize(os.Stdin, maxOrder)
	line, err := in.ReadSlice('\n')
	if errors.Is(err, io.EOF) {
		return nil // who started it is gone
	}
	if err != nil {
		log.Error("log-ins are not renewed", "err", err)
		return err
	}
	var o Order
	if err := json.Unmarshal(line, &o); err != nil {
		return errors.New("the order is not one")
	}
	if err := confineProcess(dir, log); err != nil {
		err = fmt.Errorf("confine the renewal of log-ins: %w", err)
		log.Error("log-ins are not renewed", "err", err)
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, in)
		close(ended)
		time.AfterFunc(afterlife, cancel)
	}()
	r := newRound(login.Store{Dir: dir}, o.Agents, newClient(o.Proxies).renew, log)
	for {
		for _, n := range r.next(ctx) {
			data, err := json.Marshal(n)
			if err == nil {
				_, err = os.Stdout.Write(append(data, '\n'))
			}
			if err != nil {
				return nil // who started it is gone
			}
		}
		select {
		case <-ended:
			return nil
		case <-time.After(interval):
		}
	}
}

// round is what is known of log-ins since the last look at them.
type round struct {
	store  login.Store
	agents []string
	ask    login.Renewal
	log    *slog.Logger
	now    func() time.Time

	last map[string]News
	wait map[string]time.Duration // after a renewal that failed
	at   map[string]time.Time     // when the next one may be tried
}

func newRound(store login.Store, agents []string, ask login.Renewal, log *slog.Logger) *round {
	return &round{
		store: store, agents: agents, ask: ask, log: log, now: time.Now,
		last: make(map[string]News), wait: make(map[string]time.Duration), at: make(map[string]time.Time),
	}
}

// next looks at all log-ins, renews them where that is due, and returns what is new.
func (r *round) next(ctx context.Context) (all []News) {
	for _, agent := range r.agents {
		ask := r.ask
		if r.now().Before(r.at[agent]) {
			ask = notYet
		}
		lent, err := r.store.Renew(ctx, agent, ask)
		n := News{Agent: agent, Token: lent.Token.Reveal(), Expires: lent.Expires, Refused: lent.Refused}
		switch {
		case errors.Is(err, errNotYet):
			n.Why = r.last[agent].Why
		case errors.Is(err, login.ErrRefused):
			// Refused says it, also where the disk does not take that down.
			r.at[agent] = r.now().Add(maxBackoff)
			r.log.Warn("a log-in has ended", "agent", agent)
		case err != nil:
			n.Why = termsafe.Line(termsafe.Clip(err.Error(), 200))
			if !errors.Is(err, fs.ErrNotExist) {
				r.wait[agent] = min(max(2*r.wait[agent], interval), maxBackoff)
				r.at[agent] = r.now().Add(r.wait[agent])
			}
			if n.Why != r.last[agent].Why {
				r.log.Warn("a log-in was not renewed", "agent", agent, "err", n.Why)
			}
		default:
			delete(r.wait, agent)
			delete(r.at, agent)
		}
		if n != r.last[agent] {
			r.last[agent] = n
			all = append(all, n)
		}
	}
	return all
}
