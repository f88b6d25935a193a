package mayfly

import (
	"errors"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/fault"
)

// Error is a failure that a caller can tell apart. docs/reference/errors.md lists the
// codes and their arguments.
type Error struct {
	// Code is stable, such as "name-taken".
	Code string
	// Args are the values that the failure is about, by name. One that is not known is
	// not there.
	Args map[string]string
	// Cause says what failed, and is never nil.
	Cause error
}

func (e *Error) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// ErrInput is in errors about what the caller wrote, a setting or a file, as opposed to
// what came of it.
var ErrInput = engine.ErrInput

// public makes err one of this package: an Error, if it has a code.
func public(err error) error {
	if f, ok := fault.Of(err); ok {
		return &Error{string(f.Code), f.Args, err}
	}
	return err
}

// Console returns the last lines that the kernel of a machine has printed, when err is
// about a machine that ended or never came to be. They are fit to be printed, but are the
// guest's words.
func Console(err error) string {
	if e, ok := errors.AsType[*control.Error](err); ok {
		return e.Event.Console
	}
	return ""
}
