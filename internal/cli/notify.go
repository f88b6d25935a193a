package cli

import (
	"context"
	"html"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/terminal"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

const (
	// maxNotified is how many notifications of one machine there may be at once, and
	// notifyTime after which there may be another: one that waits again and again must not
	// flood a desktop.
	maxNotified = 5
	notifyTime  = 10 * time.Second
	// maxNotify is how much of a machine's text is in a notification, in bytes.
	maxNotify = 120
	// commandTime bounds a command that is run for a change, and maxPending how many
	// changes wait for theirs.
	commandTime = time.Minute
	maxPending  = 64
)

// queue does things one after the other, and forgets what is too much.
type queue[T any] struct {
	items chan T
	done  sync.WaitGroup
	full  func()
}

func newQueue[T any](do func(T), full func()) *queue[T] {
	q := &queue[T]{items: make(chan T, maxPending), full: full}
	q.done.Go(func() {
		for item := range q.items {
			do(item)
		}
	})
	return q
}

func (q *queue[T]) add(item T) {
	select {
	case q.items <- item:
	default:
		q.full()
	}
}

// end waits until all is done. No item is added any more.
func (q *queue[T]) end() {
	close(q.items)
	q.done.Wait()
}

// notifier notifies the user of agents that wait, or have ended.
type notifier struct {
	*queue[notification]
	app  *app
	send string                // notify-send; "" for the terminal
	left map[string]*allowance // by machine
}

type notification struct{ machine, title, text string }

// allowance is how many notifications of a machine there may be.
type allowance struct {
	number float64
	at     time.Time
}

func (l *allowance) take(now time.Time) bool {
	l.number = min(maxNotified, l.number+now.Sub(l.at).Seconds()/notifyTime.Seconds())
	l.at = now
	if l.number < 1 {
		return false
	}
	l.number--
	return true
}

func (a *app) newNotifier(ctx context.Context) *notifier {
	n := &notifier{app: a, left: make(map[string]*allowance)}
	if a.getenv("DBUS_SESSION_BUS_ADDRESS") != "" || a.getenv("XDG_RUNTIME_DIR") != "" && (a.getenv("DISPLAY") != "" || a.getenv("WAYLAND_DISPLAY") != "") {
		n.send, _ = exec.LookPath("notify-send")
	}
	n.queue = newQueue(func(what notification) {
		if ctx.Err() == nil {
			n.show(ctx, what)
		}
	}, func() {})
	return n
}

// take notifies of a change that the user is to hear of: not of what was so before.
func (n *notifier) take(c mayfly.SessionChange) {
	if c.Session == nil || c.First {
		return
	}
	switch c.Session.State {
	case mayfly.SessionWorks, mayfly.SessionIdle:
		return
	}
	left := n.left[c.Machine]
	if left == nil {
		left = &allowance{number: maxNotified, at: time.Now()}
		n.left[c.Machine] = left
	}
	if !left.take(time.Now()) {
		return
	}
	text := c.Session.Name + " " + string(c.Session.State)
	switch c.Session.State {
	case mayfly.SessionDone, mayfly.SessionStopped, mayfly.SessionOutOfMemory:
		text = c.Session.Name + " is " + string(c.Session.State)
	case mayfly.SessionFailed, mayfly.SessionCrashed:
		text = c.Session.Name + " has " + string(c.Session.State)
	}
	if c.Session.Last != "" {
		text += ": " + termsafe.Line(termsafe.Clip(c.Session.Last, maxNotify))
	}
	n.add(notification{c.Machine, "mayfly: " + c.Machine, text})
}

// show shows a notification. A desktop takes its text for markup, in which a link may be.
func (n *notifier) show(ctx context.Context, what notification) {
	if n.send != "" {
		ctx, cancel := context.WithTimeout(ctx, commandTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, n.send, "--app-name=mayfly", "--hint=string:x-canonical-private-synchronous:mayfly-"+what.machine,
			"--", what.title, html.EscapeString(what.text))
		if cmd.Run() == nil || ctx.Err() != nil {
			return
		}
		n.app.debug("notify-send does not work; the terminal notifies")
	}
	if terminal.Is(n.app.Err) {
		n.app.Err.WriteString(terminal.Notification(n.app.getenv, what.title, what.text))
	}
}

// runner runs the user's command for each change.
type runner struct{ *queue[mayfly.SessionChange] }

func (a *app) newRunner(ctx context.Context, command string) runner {
	return runner{newQueue(func(c mayfly.SessionChange) {
		if ctx.Err() == nil {
			a.runFor(ctx, command, c)
		}
	}, func() { a.note("--exec is too slow: it is not run for a change") })}
}

func (r runner) take(c mayfly.SessionChange) {
	if !c.First {
		r.add(c)
	}
}

// runFor runs the command for one change. Only names and a state are told, which no guest
// makes up: they are checked.
func (a *app) runFor(ctx context.Context, command string, c mayfly.SessionChange) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	state, session := "ended", ""
	if c.Session != nil {
		state, session = string(c.Session.State), c.Session.Name
	}
	cmd.Env = append(cmd.Environ(), "MAYFLY_MACHINE="+c.Machine, "MAYFLY_SESSION="+session, "MAYFLY_STATE="+state)
	cmd.Stdout, cmd.Stderr = a.Err, a.Err
	// With all that it has started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		a.note("--exec for %s: %v", c.Machine, err)
	} else if context.Cause(ctx) == context.DeadlineExceeded {
		a.note("--exec for %s took more than a minute, and was killed", c.Machine)
	}
}
