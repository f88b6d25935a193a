// Package cli is the command line: it turns arguments into calls of the other
// packages and is the only one that prints.
//
// What was asked for goes to standard output, the rest to standard error.
// Errors end with a hint, the next command to type. There is one file for each
// command.
package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// Exit codes. Beside them, run and exec exit with the code of the guest's
// command, or 128 and the number of the signal that ended it.
const (
	exitOK      = 0
	exitError   = 1   // the command did not do what was asked
	exitUsage   = 2   // the arguments, or a configuration file, are wrong
	exitMayfly  = 125 // mayfly failed while it ran the guest's command
	exitCannot  = 126 // the guest's command could not be started
	exitMissing = 127 // the guest's command was not found
)

// Streams are the standard streams of the process.
type Streams struct {
	In  *os.File
	Out *os.File
	Err *os.File
}

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

// gcPercent is the garbage collector's target, runtime/debug.SetGCPercent. A start or an
// image's build needs some ten MiB for a moment: collecting it four times less often costs
// little and saves a third of the CPU time of packing.
const gcPercent = 400

// Main runs the command line args and returns the exit code.
func Main(version string, args []string, streams Streams) int {
	// What the caller left open, a pipe of its own say, is not for machines:
	// they would hold it open as long as they live.
	unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	debug.SetGCPercent(gcPercent)
	a := &app{Streams: streams, version: version, getenv: os.Getenv}
	a.signals = newSignals()
	defer a.signals.stop()
	defer func() {
		if a.progress != nil {
			a.progress.Stop()
		}
	}()

	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	cmd, err := root.ExecuteContextC(a.signals.ctx)
	if err == nil {
		return exitOK
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code) // all has been said
	}
	a.printError(err, a.json)
	if _, ok := errors.AsType[usageError](err); ok || errors.Is(err, mayfly.ErrInput) {
		if hint.Of(err) == "" && cmd != nil {
			fmt.Fprintf(a.Err, "mayfly: hint: %s --help\n", cmd.CommandPath())
		}
		return exitUsage
	}
	if run, ok := errors.AsType[runError](err); ok {
		return run.code
	}
	return exitError
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mayfly",
		Short: "Run coding agents in disposable micro-VMs",
		Long: `mayfly runs coding agents, and anything else that you do not want to trust, in
disposable micro-VMs. A machine works on a private copy of a directory; what it
changed comes back only when you say so. Then it is thrown away.`,
		Example: `  mayfly run -- claude --dangerously-skip-permissions
  mayfly run -- sh -c 'make && make test'
  mayfly doctor`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "say what is done and how long it takes")
	root.AddGroup(
		&cobra.Group{ID: "machines", Title: "Machines:"},
		&cobra.Group{ID: "host", Title: "This computer:"},
	)
	commands := []*cobra.Command{
		a.runCommand(),
		a.newCommand(),
		a.checkCommand(),
		a.editCommand(),
		a.startCommand(),
		a.stopCommand(),
		a.restartCommand(),
		a.resetCommand(),
		a.agentCommand(),
		a.attachCommand(),
		a.execCommand(),
		a.shellCommand(),
		a.sshCommand(),
		a.cpCommand(),
		a.diffCommand(),
		a.applyCommand(),
		a.lsCommand(),
		a.inspectCommand(),
		a.topCommand(),
		a.logsCommand(),
		a.eventsCommand(),
		a.rmCommand(),
		a.exportCommand(),
		a.initCommand(),
		a.importCommand(),
		a.policyCommand(),
		a.auditCommand(),
		a.portCommand(),
	}
	for _, c := range append(commands, a.agentCommands()...) {
		c.GroupID = "machines"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{
		a.imageCommand(),
		a.updateCommand(),
		a.gcCommand(),
		a.netCommand(),
		a.sshConfigCommand(),
		a.systemdCommand(),
		a.doctorCommand(),
		a.skillCommand(),
		a.versionCommand(),
	} {
		c.GroupID = "host"
		root.AddCommand(c)
	}
	root.SetHelpCommandGroupID("host")
	root.SetCompletionCommandGroupID("host")
	root.AddCommand(a.attackCommand(), a.sshProxyCommand(), a.manCommand())
	root.AddCommand(a.internalCommands()...)
	return root
}

// unknownCommand is the Args of a command that has only commands of its own.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usageError{fmt.Errorf("unknown command %q (did you mean %s?)", args[0], strings.Join(near, " or "))}
	}
	return usageError{fmt.Errorf("unknown command %q", args[0])}
}

// usageArgs makes the errors of check usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// errorJSON is an error as --json prints it. What has a code always has the same.
type errorJSON struct {
	Error string     `json:"error"`
	Hint  string     `json:"hint"`
	Code  fault.Code `json:"code,omitempty"`
	Args  fault.Args `json:"args,omitempty"`
}

func newErrorJSON(err error) errorJSON {
	e := errorJSON{Error: err.Error(), Hint: hint.Of(err)}
	if f, ok := fault.Of(err); ok {
		e.Code, e.Args = f.Code, f.Args
	}
	return e
}

// printError prints err, each joined one on lines of its own, with its hint.
func (a *app) printError(err error, asJSON bool) {
	if asJSON {
		a.printJSON(a.Err, newErrorJSON(err))
		return
	}
	var hints []string
	for _, e := range flatten(err) {
		fmt.Fprintf(a.Err, "mayfly: error: %s\n", strings.ReplaceAll(termsafe.Text(e.Error()), "\n", "\nmayfly: "))
		if console := mayfly.Console(e); console != "" {
			fmt.Fprintln(a.Err, "mayfly: the last words on the console of the machine:")
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

// flatten returns the errors that err joins, also below wrappers that add
// nothing to the text.
func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		var texts []string
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
			texts = append(texts, e.Error())
		}
		if strings.Join(texts, "\n") == err.Error() {
			return all
		}
	}
	if inner := errors.Unwrap(err); inner != nil && inner.Error() == err.Error() {
		if all := flatten(inner); len(all) > 1 {
			return all
		}
	}
	return []error{err}
}

func (a *app) printJSON(w io.Writer, v any) error { return writeJSON(w, v, "  ") }

// writeJSON writes v as JSON with an indent, and on one line without. The terminal that it
// may be for takes more characters for controls than JSON escapes.
func writeJSON(w io.Writer, v any, indent string) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(termsafe.JSON(text.Bytes()))
	return err
}

// signals turns the process's signals into the end of a context, or hands them
// to whoever forwards them to a guest's command. After the first that ended
// the context, the next one kills.
type signals struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	ch      chan os.Signal
	forward chan chan<- os.Signal
	done    chan struct{}
}

var errInterrupted = errors.New("interrupted")

func newSignals() *signals {
	s := &signals{ch: make(chan os.Signal, 8), forward: make(chan chan<- os.Signal), done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	signal.Notify(s.ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go s.run()
	return s
}

func (s *signals) run() {
	var to chan<- os.Signal
	for {
		select {
		case to = <-s.forward:
		case sig := <-s.ch:
			if to != nil {
				select {
				case to <- sig:
				default:
				}
				continue
			}
			s.cancel(errInterrupted)
			signal.Stop(s.ch)
		case <-s.done:
			return
		}
	}
}

// forwardTo hands signals to ch until it is called with nil.
func (s *signals) forwardTo(ch chan<- os.Signal) { s.forward <- ch }

func (s *signals) stop() {
	signal.Stop(s.ch)
	close(s.done)
	s.cancel(nil)
}
