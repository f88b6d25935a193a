package cli

import (
	"errors"
	"fmt"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/terminal"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// app is what all commands share.
type app struct {
	Streams
	version  string
	getenv   func(string) string
	signals  *signals
	progress *terminal.Progress // nil until something takes its time
	explain  *explanation       // nil unless the user asked for one

	verbose bool
	json    bool // the command was asked for JSON
}

// client returns the engine, which tells what it does by tell.
func (a *app) client() (*mayfly.Client, error) {
	return mayfly.New(mayfly.Options{Getenv: a.getenv, OnEvent: a.tell})
}

// note prints one line for the user.
func (a *app) note(format string, args ...any) {
	if a.progress != nil {
		a.progress.Step("", false)
	}
	fmt.Fprintln(a.Err, "mayfly: "+termsafe.Text(fmt.Sprintf(format, args...)))
}

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

// interrupted says in few words that the user ended it.
func (a *app) interrupted(err error) error {
	if err != nil && a.signals.ctx.Err() != nil {
		return runError{errInterrupted, 130}
	}
	return err
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
