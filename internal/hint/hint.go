// Package hint attaches to an error the next command that a user should type.
//
// An error carries at most one hint that is shown: the outermost. The command
// line prints it on a line of its own; everything else ignores it.
package hint

import (
	"errors"
	"fmt"
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
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	return ""
}
