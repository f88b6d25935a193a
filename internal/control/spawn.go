// Package control is the client of a machine's supervisor: it starts one as a process
// of its own (Spawn), talks to it by the machine's socket, and clears away what is left
// after a kill -9 (Collect). What goes over the socket and the pipes is defined here.
//
// It knows a machine by its directory and nothing of how the machine is run, package
// supervisor.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/network/secret"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// Command is the hidden word of the command line that runs a supervisor.
const Command = "supervise"

// StartGCPercent is the garbage collector's target, runtime/debug.SetGCPercent, during a
// start or an image's build. What they need is some ten MiB for a moment: collecting it
// four times less often costs little and saves a third of the CPU time of packing.
const StartGCPercent = 400

// The descriptors that a supervisor is started with.
const (
	LockFD    = 3 // the machine's lock, held
	EventsFD  = 4 // pipe, written: Events
	OwnerFD   = 5 // pipe, read: its end ends the machine, unless KeepByte came before
	SecretsFD = 6 // pipe, read: Given, as JSON
)

// Proxies are those of the host, as in network/dial: an address may hold a password.
type Proxies struct {
	HTTP  string `json:"http,omitempty"`
	HTTPS string `json:"https,omitempty"`
	No    string `json:"no,omitempty"`
}

func (Proxies) String() string   { return "REDACTED" }
func (Proxies) GoString() string { return "REDACTED" }

// Given is what a supervisor gets that is in no file: it may hold secrets.
type Given struct {
	Secrets map[string]string `json:"secrets,omitempty"` // values, by the names in the plan
	Proxies Proxies           `json:"proxies"`
	// Logins is the directory of the log-ins that the host keeps, where a secret of the
	// plan is one that is renewed.
	Logins string `json:"logins,omitempty"`
}

// Spawned reports whether this process was started by Spawn.
func Spawned() bool {
	for fd, kind := range map[int]uint32{LockFD: unix.S_IFREG, EventsFD: unix.S_IFIFO, OwnerFD: unix.S_IFIFO, SecretsFD: unix.S_IFIFO} {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != kind {
			return false
		}
	}
	return true
}

// KeepByte on the owner's pipe lets the machine outlive its owner.
const KeepByte = 'k'

// Owner is who started a machine's supervisor. The machine ends when its owner
// does, however that ends, unless it was kept.
type Owner struct {
	Machine state.Machine
	Events  <-chan Event // closed at the supervisor's end

	cmd   *exec.Cmd
	ended chan struct{} // closed when the supervisor's process has ended, after Events
	owner *os.File
	once  sync.Once
	left  error // of Close, set by once
	kept  atomic.Bool
	last  Event // the last one with an error; to be read once Events is closed
}

// Spawn starts the supervisor of m, which takes lock over, as a process of its
// own: exe with the arguments Command and the machine's directory. secrets are the
// values of those in the machine's plan, by their names. They and the rest of what is given,
// which has none, go through a pipe: arguments, variables and files can be read by others.
func Spawn(exe string, m state.Machine, lock *state.Lock, secrets map[string]secret.Value, given Given) (*Owner, error) {
	defer lock.Release()
	secretsR, err := secretsPipe(secrets, given)
	if err != nil {
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	defer secretsR.Close()
	eventsR, eventsW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	defer eventsW.Close()
	ownerR, ownerW, err := os.Pipe()
	if err != nil {
		eventsR.Close()
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	defer ownerR.Close()
	log, err := os.OpenFile(m.File(state.LogFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		defer log.Close()
		cmd := exec.Command(exe, Command, m.Dir)
		// Nothing of the caller's environment is the machine's business,
		// nor are the files that a shell started us with: a machine that is
		// kept would keep a lock or a pipe of its script, too.
		unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
		cmd.Dir = "/"
		cmd.Stdout, cmd.Stderr = log, log
		cmd.ExtraFiles = []*os.File{lock.File(), eventsW, ownerR, secretsR}
		// Away from the terminal: its signals are for the command line.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err = cmd.Start(); err == nil {
			ch := make(chan Event, 16)
			o := &Owner{Machine: m, Events: ch, cmd: cmd, ended: make(chan struct{}), owner: ownerW}
			go func() {
				o.read(eventsR, ch)
				o.cmd.Wait()
				close(o.ended)
			}()
			return o, nil
		}
	}
	eventsR.Close()
	ownerW.Close()
	return nil, fmt.Errorf("start the supervisor: %w", err)
}

func (o *Owner) read(r io.ReadCloser, ch chan<- Event) {
	defer close(ch)
	defer r.Close()
	events := readEvents(r)
	for ready := false; ; {
		e, err := events.next()
		if err != nil {
			return
		}
		if e.Error != "" {
			o.last = e
		}
		if !ready {
			ready = e.Ready
			ch <- e
			continue
		}
		// Nobody may be listening any more: the supervisor must not wait for that.
		select {
		case ch <- e:
		default:
		}
	}
}

// Ready waits until the machine can be used, and calls seen for every event on
// the way.
func (o *Owner) Ready(ctx context.Context, seen func(Event)) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case e, ok := <-o.Events:
			if !ok {
				return o.lost()
			}
			seen(e)
			if err := e.Err(); err != nil {
				return err
			}
			if e.Ready {
				return nil
			}
		}
	}
}

// Alive reports whether the machine lives on. A supervisor that ends serves nobody any more,
// says why to all who watch, and has the machine's lock for a moment still. Its end is waited
// for, but not for longer than timeout.
func (o *Owner) Alive(timeout time.Duration) bool {
	if !o.Machine.Alive() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, _, err := dial(ctx, o.Machine, Request{Op: OpCondition})
	if err == nil {
		conn.Close()
		return true
	}
	if code := fault.CodeOf(err); code != "" && code != fault.MachineNotRunning {
		return true // it refuses, so it is there
	}
	select {
	case <-o.ended:
	case <-ctx.Done():
	}
	return o.Machine.Alive()
}

// Lost waits for the supervisor's end, but not for longer than timeout, and
// returns why the machine was lost. A hostile guest can break off a
// conversation and live on.
func (o *Owner) Lost(timeout time.Duration) error {
	expired := time.After(timeout)
	for {
		select {
		case _, ok := <-o.Events:
			if ok {
				continue
			}
			// It has said its last, and has the machine's lock until it ends: who asks
			// next whether the machine lives is to hear that it does not.
			select {
			case <-o.ended:
			case <-expired:
			}
			return o.lost()
		case <-expired:
			return errors.New("the guest broke off the conversation")
		}
	}
}

// Wait waits for the end of a machine that is kept, and returns why it ended: nil if
// somebody asked for it.
func (o *Owner) Wait(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case _, ok := <-o.Events:
			if !ok {
				if err := o.last.Err(); err != nil {
					return err
				}
				<-o.ended
				return finish(o.Machine)
			}
		}
	}
}

func (o *Owner) lost() error {
	if err := o.last.Err(); err != nil {
		return err
	}
	return errors.New("the machine's supervisor ended unexpectedly")
}

// Keep lets the machine outlive its owner.
func (o *Owner) Keep() error {
	if _, err := o.owner.Write([]byte{KeepByte}); err != nil {
		return fmt.Errorf("keep machine %s: %w", o.Machine.Name, err)
	}
	o.kept.Store(true)
	return o.owner.Close()
}

// Kept reports whether the machine outlives its owner.
func (o *Owner) Kept() bool { return o.kept.Load() }

// Close ends the machine and waits until nothing of it is left, or returns why
// something is. It may be called more than once, and does nothing to a machine that
// was kept.
func (o *Owner) Close() error {
	o.once.Do(func() {
		if o.owner.Close() != nil {
			return // kept
		}
		for range o.Events {
		}
		<-o.ended
		o.left = finish(o.Machine)
	})
	return o.left
}

// secretsPipe returns a pipe from which a Given can be read. It may be closed before it
// all is.
func secretsPipe(values map[string]secret.Value, given Given) (*os.File, error) {
	given.Secrets = make(map[string]string, len(values))
	for name, v := range values {
		given.Secrets[name] = v.Reveal()
	}
	data, err := json.Marshal(given)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		w.Write(data)
		w.Close()
	}()
	return r, nil
}
