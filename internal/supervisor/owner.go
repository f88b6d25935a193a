package supervisor

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/control"
)

// errEnded is why a machine ends that nobody needs any more.
var errEnded = errors.New("the machine was ended")

// owner is what is known of who started the machine, and of who asks for its end.
type owner struct {
	kept chan struct{} // closed when the owner lets the machine live on
	gone chan struct{} // closed when the owner ended without that
	stop chan struct{} // closed when the end is asked for
	once sync.Once
}

func newOwner() *owner {
	return &owner{kept: make(chan struct{}), gone: make(chan struct{}), stop: make(chan struct{})}
}

// watch reads the owner's pipe until its end.
func (o *owner) watch(pipe io.Reader) {
	var b [1]byte
	if n, _ := pipe.Read(b[:]); n == 1 && b[0] == control.KeepByte {
		close(o.kept)
		return
	}
	close(o.gone)
}

// requestStop asks for the machine's end.
func (o *owner) requestStop() { o.once.Do(func() { close(o.stop) }) }

// isKept reports whether the machine may outlive its owner.
func (o *owner) isKept() bool {
	select {
	case <-o.kept:
		return true
	default:
		return false
	}
}

// need returns a context that ends with errEnded when nobody needs the machine any
// more.
func (o *owner) need(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-o.gone:
			cancel(errEnded)
		case <-o.stop:
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}
