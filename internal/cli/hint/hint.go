// Package hint finds the next command that a user should type after an error.
//
// A failure with a code (package fault) has its hint in a table here. The command
// line attaches hints to errors of its own. Of all the hints in an error only the
// outermost is shown, on a line of its own.
package hint

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

// hinted is an error with a hint. It prints as the error alone.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// Errorf formats an error as fmt.Errorf does and attaches hint to it.
func Errorf(hint, format string, args ...any) error {
	return &hinted{fmt.Errorf(format, args...), hint}
}

// Wrap attaches hint to err. It returns nil when err is nil.
func Wrap(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

// Of returns the outermost hint of err, or "".
func Of(err error) string {
	switch e := err.(type) {
	case *hinted:
		return e.hint
	case *fault.Error:
		if h := For(e.Code, e.Args); h != "" {
			return h
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return Of(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if h := Of(inner); h != "" {
				return h
			}
		}
	}
	return ""
}

// Split returns the errors that err joins, also below wrappers that add nothing to
// the text: each can have a hint of its own.
func Split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		var texts []string
		for _, e := range joined.Unwrap() {
			all = append(all, Split(e)...)
			texts = append(texts, e.Error())
		}
		if strings.Join(texts, "\n") == err.Error() {
			return all
		}
	}
	if inner := errors.Unwrap(err); inner != nil && inner.Error() == err.Error() {
		if all := Split(inner); len(all) > 1 {
			return all
		}
	}
	return []error{err}
}
