package proc

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"
)

const (
	// becomeTimeout bounds the time that a mayfly takes to limit itself and become another
	// program: some ten milliseconds, and seconds on a busy computer.
	becomeTimeout = 30 * time.Second
	// maxWhy bounds the reason why it did not, in bytes.
	maxWhy = 4 << 10
)

var errNotBecome = errors.New("it does not begin: its own set-up takes too long")

// AwaitBecome waits until the process with the other end of the pipe r has become another
// program, by which that end is closed, or says why it has not. Who gets an error ends the
// process.
func AwaitBecome(ctx context.Context, r *os.File) error { return awaitBecome(ctx, r, becomeTimeout) }

func awaitBecome(ctx context.Context, r *os.File, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errNotBecome)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Now()) })
	defer stop()
	why, err := io.ReadAll(io.LimitReader(r, maxWhy))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return context.Cause(ctx)
	case err == nil && len(why) > 0:
		return errors.New(strings.TrimSpace(string(why)))
	}
	return err
}
