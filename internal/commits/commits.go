// Package commits takes commits that were made in a machine into a repository of the
// user's.
//
// A bundle of git's goes in, as a guest sent it: hostile. It is unpacked in a quarantine,
// a repository of mayfly's own that borrows the user's objects, where git checks every
// object and this package bounds them. A summary comes out that can be shown, and, when
// the user wants them, branches refs/heads/mayfly/MACHINE/BRANCH of the user's
// repository, by one transaction. Nothing is forced, and nothing else of the repository
// changes: not HEAD, index, stash or files. Forward does more, where the branch that is
// checked out can simply go on.
//
// git works on the user's repository through a view of it, which has its objects and
// references but none of its configuration and hooks. So nothing of the user's runs,
// whatever version git is of. What the user's git does later with these branches is the
// user's own.
package commits

import (
	"errors"
	"fmt"
	"time"

	"github.com/mayfly-vm/mayfly/internal/image/tool"
)

// The reasons why commits are not taken. ErrRefused is about what came from the machine,
// ErrRepository about the user's repository.
var (
	ErrRefused    = errors.New("the machine's commits were refused")
	ErrRepository = errors.New("mayfly cannot bring commits into this repository")
)

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

func unfit(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRepository, fmt.Errorf(format, args...))
}

// Limits bound what a machine may send.
type Limits struct {
	Bundle  int64         // bytes of it
	Objects int           // in it
	Object  int64         // bytes of one
	Total   int64         // bytes of all
	Depth   int           // of one that is the difference to another that is one, and so on
	Commits int           // new ones
	Time    time.Duration // of all that git does in the quarantine
	Compare time.Duration // of finding those of a branch that the user has by other commits
}

// DefaultLimits are for a machine in which somebody worked, also on a large project.
func DefaultLimits() Limits {
	return Limits{
		Bundle:  2 << 30,
		Objects: 500_000,
		Object:  512 << 20,
		Total:   16 << 30,
		Depth:   4096, // git's own default is 50, and 4095 the most that it makes
		Commits: 100_000,
		Time:    10 * time.Minute,
		Compare: 20 * time.Second,
	}
}

// tool returns the bounds of one git.
func (l Limits) tool() tool.Limits {
	return tool.Limits{CPU: l.Time, FileSize: l.Bundle + l.Bundle/2 + 64<<20, Data: 1 << 30}
}
