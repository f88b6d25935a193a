package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/suggest"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Exit codes. Beside them, run and exec exit with the code of the guest's
// command, or 128 and the number of the signal that ended it.
const (
	exitOK      = 0
	exitError   = 1   // the command did not do what was asked
	exitUsage   = 2   // the arguments, or a configuration file, are wrong
	exitHeld    = 3   // done, but for changes that were held back
	exitMayfly  = 125 // mayfly failed while it ran the guest's command
	exitCannot  = 126 // the guest's command could not be started
	exitMissing = 127 // the guest's command was not found

	exitInterrupted = 128 + 2 // ended by Ctrl-C or another signal, as shells have it
)

// exitCode is an error that only sets the exit code: all has been said.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// usageError is an error in what the user typed or wrote.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// runError is an error of mayfly's own while it ran a command of the guest's.
type runError struct {
	error
	code int
}

func (e runError) Unwrap() error { return e.error }

// errorJSON is an error as --json prints it. What has a code always has the same.
type errorJSON struct {
	Error string     `json:"error"`
	Hint  string     `json:"hint"`
	Code  fault.Code `json:"code,omitempty"`
	Args  fault.Args `json:"args,omitempty"`
}

func newErrorJSON(err error) errorJSON {
	e := errorJSON{Error: termsafe.Abridge(err.Error(), maxMessage), Hint: termsafe.Abridge(hint.Of(err), maxMessage)}
	if f, ok := fault.Of(err); ok {
		e.Code, e.Args = f.Code, make(fault.Args)
		for name, value := range f.Args {
			e.Args[name] = termsafe.Abridge(value, maxMessage)
		}
	}
	return e
}

// nearName gives an error about a name that no machine has the one that is probably meant
// as its hint.
func (a *app) nearName(err error) error {
	f, ok := fault.Of(err)
	if !ok {
		return err
	}
	switch f.Code {
	case fault.MachineNotFound, fault.MachineUndefined, fault.AuditMissing:
	default:
		return err
	}
	name := f.Args["name"]
	running, defined := a.names()
	names := slices.Concat(running, defined)
	if slices.Contains(names, name) {
		return err // a machine of another kind
	}
	if near := suggest.Nearest(name, names); near != "" {
		return hint.Wrap(err, "did you mean "+near+"? mayfly ls lists all machines")
	}
	return err
}

// printError prints err, each joined one on lines of its own, with its hint.
func (a *app) printError(err error, asJSON bool) {
	if asJSON {
		writeJSON(a.Err, newErrorJSON(err), "  ")
		return
	}
	var hints []string
	for _, e := range hint.Split(err) {
		fmt.Fprintln(a.Err, "mayfly: error: "+indented(e.Error()))
		if console := mayfly.Console(e); console != "" {
			fmt.Fprintln(a.Err, "mayfly: the end of the console of the machine:")
			for line := range strings.SplitSeq(console, "\n") {
				fmt.Fprintln(a.Err, "  | "+termsafe.Text(line))
			}
		}
		if h := hint.Of(e); h != "" && !slices.Contains(hints, h) {
			hints = append(hints, h)
		}
	}
	if h := hint.Of(err); h != "" && len(hints) == 0 {
		hints = append(hints, h) // of the whole
	}
	for _, h := range hints {
		fmt.Fprintln(a.Err, "mayfly: hint: "+termsafe.Line(h))
	}
}
