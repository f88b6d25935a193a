package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/cli/hint"
	"github.com/mayfly-vm/mayfly/internal/terminal"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// app is what all commands share.
type app struct {
	Streams
	version  string
	getenv   func(string) string
	signals  *terminal.Signals
	client   *mayfly.Client     // from open; nil in commands that need none
	progress *terminal.Progress // nil until something takes its time
	explain  *explanation       // nil unless the user asked for one
	listen   func(mayfly.Event) // nil unless a client wants to know what takes its time

	stuck atomic.Bool // a machine that a command waits for does not answer
	// drawn is our terminal while a program of a machine draws on it.
	drawn atomic.Pointer[terminal.Guard]

	detached bool // the user has left a session, which goes on

	verbose bool
	raw     bool // a machine's output reaches the terminal as it is
	json    bool // the command was asked for JSON
}

// open makes the client, before a command runs that may need it.
func (a *app) open(cmd *cobra.Command, _ []string) (err error) {
	if cmd.HasSubCommands() || cmd.Name() == "help" || cmd.HasParent() && cmd.Parent().Name() == "completion" {
		return nil // it prints help, or a script
	}
	err = a.openClient()
	if strings.HasPrefix(cmd.Name(), cobra.ShellCompRequestCmd) {
		return nil // without a client it completes no names
	}
	return err
}

// openClient makes the client.
func (a *app) openClient() (err error) {
	a.client, err = mayfly.New(mayfly.Options{Getenv: a.getenv, OnEvent: a.tell})
	if err != nil && !filepath.IsAbs(a.getenv("HOME")) {
		err = hint.Wrap(err, "export HOME=DIRECTORY, with your home directory")
	}
	return err
}

// withoutClient lets commands, and theirs, run also where there can be no client.
func withoutClient(commands ...*cobra.Command) {
	for _, c := range commands {
		c.PersistentPreRun = func(*cobra.Command, []string) {}
	}
}

// note prints one line for the user.
func (a *app) note(format string, args ...any) {
	if a.progress != nil {
		a.progress.Step("", false)
	}
	fmt.Fprintln(a.Err, "mayfly: "+indented(fmt.Sprintf(format, args...)))
}

// indented returns a text for people. In it can be a path or a server's words with line
// breaks: what follows one must not look like a hint of ours. However long it is, what is
// printed of it can be read.
func indented(text string) string {
	lines := strings.Split(termsafe.Text(termsafe.Abridge(text, maxMessage)), "\n")
	for i, line := range lines {
		lines[i] = termsafe.Abridge(line, maxLine)
	}
	return strings.Join(lines, "\nmayfly:   ")
}

// What is printed of one message, and of each of its lines, in bytes. A message can have a
// path or an argument in it, which may be of any length.
const (
	maxMessage = 16 << 10
	maxLine    = 2000
)

// debug prints one line for the user who asked for more.
func (a *app) debug(format string, args ...any) {
	if a.verbose {
		a.note(format, args...)
	}
}

// each does f for all names, and joins the errors.
func (a *app) each(names []string, f func(name string) error) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, f(name))
	}
	return errors.Join(errs...)
}

// interrupted says in few words that the user ended it. Main does so with the error of
// every command: what a call says that was broken off is not why it failed.
func (a *app) interrupted(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[exitCode](err); ok {
		return err // the guest's command has ended, and how
	}
	if a.signals.Context().Err() != nil || errors.Is(err, terminal.ErrInterrupted) {
		return runError{terminal.ErrInterrupted, exitInterrupted}
	}
	return err
}
