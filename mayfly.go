// Package mayfly runs coding agents, and any code that you do not trust, in disposable
// micro-VMs. It is what the command mayfly is made of, and what any other front end of it
// uses.
//
// A [Client] stands for one user on this computer. [Client.Start] starts a machine on a
// private copy of a directory; [Machine.Exec] runs commands in it; [Machine.Changes] lists
// what they changed, and [ChangeSet.Apply] brings back what you choose. [Machine.Close]
// throws the machine away. Machines that are defined by a file of their own
// ([Client.Define]) outlive the program that started them. The directory
// examples/frontend has a complete front end.
//
// # Trust
//
// Everything that comes out of a machine is in the hands of whatever ran there: output,
// session titles, names of files, log lines. It is bounded and checked, but its text is
// the guest's. Nothing of it may go to a terminal as it is.
//
// # Processes
//
// Each machine is owned by a process of its own, its supervisor: the program
// [Options.Program], executed again. That is this program, which calls [Internal] first
// thing in main, or the command mayfly. There is no daemon; all state is in files, and any
// number of clients can work at the same time.
//
// # Errors and events
//
// What went wrong is an error whose text says what failed. Where a caller can tell cases
// apart, errors.As finds an [*Error] in it, with a code that stays the same and the values
// that it is about. What happens while something takes its time is an [Event], which has a
// code and values, too. Neither has text for a particular front end: no hints, no flags.
//
// # Compatibility
//
// This is version 0. Codes, and names in JSON, are only added. Go names may change between
// minor versions; the changelog says how.
package mayfly

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/share"
	"github.com/mayfly-vm/mayfly/internal/supervisor"
)

// Options are the choices of [New]. The zero value is good for most programs.
type Options struct {
	// Getenv looks up environment variables, which say where the user's files are.
	// Nil for os.Getenv.
	Getenv func(string) string
	// Program is the file that is executed as the supervisor of each machine. Empty
	// for this program.
	Program string
	// OnEvent is called with what happens while a method works, by one goroutine at a
	// time. It should return soon. Nil for nobody.
	OnEvent func(Event)
}

// Client is one user's machines and images on this computer. It holds nothing open and may
// be used by several goroutines at once, whose events then mix.
type Client struct{ e *engine.Engine }

// New returns a client. It makes nothing and starts nothing.
func New(opt Options) (*Client, error) {
	in := engine.Options{Getenv: opt.Getenv, Program: opt.Program}
	if in.Getenv == nil {
		in.Getenv = os.Getenv
	}
	if opt.OnEvent != nil {
		in.Tell = func(e engine.Event) { opt.OnEvent(newEvent(e)) }
	}
	e, err := engine.New(in)
	if err != nil {
		return nil, public(err)
	}
	return &Client{e}, nil
}

// convert returns what f makes of each element of list. It is never nil, which JSON would
// show.
func convert[S, T any](list []S, f func(S) T) []T {
	out := make([]T, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}

// InternalCommands are the words with which Internal's args begin.
func InternalCommands() []string {
	return []string{control.Command, share.Command, supervisor.LendCommand, machine.Word}
}

// Internal runs one of mayfly's own processes if args, the program's arguments, ask for
// one, and reports whether they did. A program whose file is [Options.Program] calls it
// before anything else and exits when it returns true. log gets what a supervisor logs.
func Internal(ctx context.Context, args []string, log io.Writer) (bool, error) {
	if len(args) != 2 {
		return false, nil
	}
	switch args[0] {
	case control.Command:
		if !control.Spawned() {
			return true, public(engine.InputError{Err: errors.New(args[0] + " is for mayfly itself")})
		}
		// What it returns was reported to the owner already.
		return true, supervisor.Main(ctx, args[1], slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	case share.Command:
		if !share.Spawned() {
			return true, public(engine.InputError{Err: errors.New(args[0] + " is for mayfly itself")})
		}
		share.Main(args[1])
		return true, errors.New("the server of a live directory did not start") // its supervisor was told
	case supervisor.LendCommand:
		if !supervisor.LendSpawned() {
			return true, public(engine.InputError{Err: errors.New(args[0] + " is for mayfly itself")})
		}
		return true, supervisor.Lend(args[1], slog.New(slog.NewTextHandler(log, nil))) // it has said it
	case machine.Word:
		if !machine.Spawned(args[1]) {
			return true, public(engine.InputError{Err: errors.New(args[0] + " is for mayfly itself")})
		}
		machine.Main(args[1])
		return true, errors.New("the virtual machine monitor did not start") // its supervisor was told
	}
	return false, nil
}
