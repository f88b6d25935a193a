package cli

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/dashboard"
	"github.com/mayfly-vm/mayfly/internal/cli/words"
)

// lookout finds out what the dashboard shows, beside the goroutine that has the screen: a
// machine that does not answer holds up nothing.
type lookout struct {
	ctx    context.Context
	cancel context.CancelFunc
	client *mayfly.Client

	learned chan func(*dashboard.Model) // what is new, for who has the model
	wanted  chan struct{}               // something has happened: the list is to be read

	mu      sync.Mutex // guards what follows
	notes   []mayfly.Event
	asking  map[string]bool // machines that are asked for their network
	watched map[string]bool // machines that are watched
}

const (
	// lookInterval is how often the list is read when nothing is heard: files of machines that
	// are defined change without an event.
	lookInterval = 10 * time.Second
	// lookPause is the least time between two lists.
	lookPause = 250 * time.Millisecond
	// mostNotes are kept for the end.
	mostNotes = 100
)

// newLookout returns one that has not begun. It ends with ctx.
func newLookout(ctx context.Context, getenv func(string) string) (*lookout, error) {
	l := &lookout{learned: make(chan func(*dashboard.Model)), wanted: make(chan struct{}, 1), asking: make(map[string]bool), watched: make(map[string]bool)}
	l.ctx, l.cancel = context.WithCancel(ctx)
	var err error
	// What the client tells must not get between the rows of a screen.
	if l.client, err = mayfly.New(mayfly.Options{Getenv: getenv, OnEvent: l.note}); err != nil {
		return nil, err
	}
	return l, nil
}

// begin begins to look.
func (l *lookout) begin() {
	l.spawn(l.list)
	l.spawn(l.sessions)
	l.spawn(l.measure)
}

// spawn does f. A panic of it is that of who has the screen, and gives it back.
func (l *lookout) spawn(f func()) {
	go func() {
		defer func() {
			if v := recover(); v != nil {
				l.tell(func(*dashboard.Model) { panic(v) })
			}
		}()
		f()
	}()
}

// tell hands over what is new.
func (l *lookout) tell(f func(*dashboard.Model)) {
	select {
	case l.learned <- f:
	case <-l.ctx.Done():
	}
}

// again has the list read soon.
func (l *lookout) again() {
	select {
	case l.wanted <- struct{}{}:
	default:
	}
}

// note keeps what is told only once, and shows it.
func (l *lookout) note(e mayfly.Event) {
	if e.Kind != mayfly.EventNote {
		return
	}
	l.mu.Lock()
	if len(l.notes) < mostNotes {
		l.notes = append(l.notes, e)
	}
	l.mu.Unlock()
	l.tell(func(m *dashboard.Model) { m.Say("%s", words.Event(e)) })
}

func (l *lookout) takeNotes() []mayfly.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	notes := l.notes
	l.notes = nil
	return notes
}

// list reads the list of machines when something happens, and now and then.
func (l *lookout) list() {
	for l.ctx.Err() == nil {
		list, err := l.client.List(l.ctx)
		if err != nil {
			l.tell(func(m *dashboard.Model) { m.Say("list machines: %v", err) })
		} else {
			l.tell(func(m *dashboard.Model) { m.SetMachines(list) })
		}
		for _, info := range list {
			if info.State == mayfly.StateStopped || info.State == "dead" {
				continue
			}
			l.watch(info.Name)
		}
		pause := time.After(lookPause)
		select {
		case <-l.wanted:
		case <-time.After(lookInterval):
		case <-l.ctx.Done():
		}
		select {
		case <-pause:
		case <-l.ctx.Done():
		}
	}
}

// sessions hears of what the programs in machines do.
func (l *lookout) sessions() {
	err := l.client.WatchSessions(l.ctx, nil, func(c mayfly.SessionChange) error {
		if !c.First {
			l.again()
		}
		return nil
	})
	if err != nil && l.ctx.Err() == nil {
		l.tell(func(m *dashboard.Model) { m.Say("watch sessions: %v", err) })
	}
}

// watch hears of what happens to a machine.
func (l *lookout) watch(name string) {
	if !l.claim(l.watched, name) {
		return
	}
	l.spawn(func() {
		// One that cannot be watched is looked at with the others.
		defer l.release(l.watched, name)
		_, err := l.client.Watch(l.ctx, []string{name}, func(mayfly.MachineEvent) error {
			l.again()
			return nil
		})
		if err == nil {
			l.again()
			return
		}
		select {
		case <-time.After(lookInterval):
		case <-l.ctx.Done():
		}
	})
}

func (l *lookout) claim(of map[string]bool, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if of[name] {
		return false
	}
	of[name] = true
	return true
}

func (l *lookout) release(of map[string]bool, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(of, name)
}

// network asks for the state of a machine's network, and says why it is not known if that was
// asked for.
func (l *lookout) network(name string, asked bool) {
	if !l.claim(l.asking, name) {
		return
	}
	l.spawn(func() {
		defer l.release(l.asking, name)
		st, err := l.client.ChangeNetwork(name, mayfly.NetworkChange{})
		l.tell(func(m *dashboard.Model) {
			if err == nil {
				m.SetNetwork(name, st)
			} else if asked {
				m.Say("%v", err)
			}
		})
	})
}

// measure tells what machines use and were refused, and notices new ones.
func (l *lookout) measure() {
	meter, err := l.client.NewMeter()
	var before []string
	for wait := topFirst; err == nil; wait = topInterval {
		select {
		case <-time.After(wait):
		case <-l.ctx.Done():
			return
		}
		var rows []mayfly.Usage
		if rows, err = meter.Read(); err != nil {
			break
		}
		var names []string
		for _, r := range rows {
			names = append(names, r.Name)
			l.network(r.Name, false) // its supervisor knows, and asks nobody
		}
		if before != nil && !slices.Equal(names, before) {
			l.again()
		}
		before = append([]string{}, names...)
		l.tell(func(m *dashboard.Model) { m.SetUsage(rows) })
	}
	l.tell(func(m *dashboard.Model) { m.Say("measure machines: %v", err) })
}

// do does what needs no screen.
func (l *lookout) do(do dashboard.Action) {
	switch do.Kind {
	case dashboard.Look:
		for _, name := range do.Names {
			l.network(name, true)
		}
	case dashboard.Policy:
		l.spawn(func() { l.policy(do.Names[0], do.Verb, do.Rule) })
	case dashboard.Count:
		l.spawn(func() {
			for _, name := range do.Names {
				n, err := l.count(name)
				l.tell(func(m *dashboard.Model) { m.SetChanges(name, n, err) })
			}
		})
	}
}

// policy allows or denies a machine what a rule says, as mayfly policy does.
func (l *lookout) policy(name string, verb dashboard.Verb, rule string) {
	word, said := "allow", "%s may reach %s until it ends"
	switch verb {
	case dashboard.AllowOnce:
		said = "what waits of %s may reach %s"
	case dashboard.Always:
		word, said = wordAlways, "%s may reach %s, also when it starts again"
	case dashboard.Deny:
		word, said = "deny", "%s may not reach %s until it ends"
	}
	change, err := policyChange([]string{word, rule}, policyOptions{once: verb == dashboard.AllowOnce})
	var st mayfly.NetworkState
	switch {
	case err != nil:
	case verb == dashboard.Always:
		st, _, err = l.client.AllowAlways(l.ctx, name, change.Allow)
	default:
		st, err = l.client.ChangeNetwork(name, change)
	}
	l.tell(func(m *dashboard.Model) {
		if err != nil {
			m.Say("%s %s: %v", word, rule, err)
			return
		}
		m.SetNetwork(name, st)
		m.Say(said, name, rule)
	})
}

// count counts what a machine has changed.
func (l *lookout) count(name string) (int, error) {
	ctx, cancel := context.WithTimeout(l.ctx, countTimeout)
	defer cancel()
	m, err := l.client.Machine(ctx, name)
	if err != nil {
		return 0, err
	}
	set, err := list(ctx, m, false, false)
	if err != nil {
		return 0, err
	}
	defer set.Close()
	return len(set.Changes), nil
}
