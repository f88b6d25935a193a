// Package fault holds the failures that a caller can tell apart: errors with a
// stable code and the values that it is about.
//
// A package that knows what went wrong returns an [Error]. Its text is the plain
// statement of what failed. It says nothing about how mayfly is driven: a front
// end turns the code and the arguments into its own words, such as the next
// command to type. Codes and arguments are an API: --json prints them, and they
// are only added.
package fault

import (
	"errors"
	"fmt"
)

// Code names one kind of failure.
type Code string

// Args are the values that a failure is about, by the names that the table of
// codes declares. A value that is not known is left out.
type Args map[string]string

// Error is a failure with a code. Its text is that of its cause.
type Error struct {
	Code  Code
	Args  Args
	Cause error // never nil
}

func (e *Error) Error() string { return e.Cause.Error() }

func (e *Error) Unwrap() error { return e.Cause }

// New formats an error as fmt.Errorf does, with %w, and gives it a code.
func New(code Code, args Args, format string, a ...any) error {
	return &Error{code, args, fmt.Errorf(format, a...)}
}

// Wrap gives err a code and leaves its text alone. It returns nil when err is nil.
func Wrap(err error, code Code, args Args) error {
	if err == nil {
		return nil
	}
	return &Error{code, args, err}
}

// Of returns the outermost failure with a code in err.
func Of(err error) (*Error, bool) { return errors.AsType[*Error](err) }

// CodeOf returns the code of the outermost failure in err, or "".
func CodeOf(err error) Code {
	if f, ok := Of(err); ok {
		return f.Code
	}
	return ""
}
