package proc

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// A process that neither begins nor says why is not waited for without end.
func TestAwaitBecome(t *testing.T) {
	interrupted := errors.New("interrupted")
	for name, c := range map[string]struct {
		do   func(w *os.File, interrupt context.CancelCauseFunc)
		want string // "" for nil
	}{
		"begins":         {func(w *os.File, _ context.CancelCauseFunc) { w.Close() }, ""},
		"says why":       {func(w *os.File, _ context.CancelCauseFunc) { w.WriteString("no such file\n"); w.Close() }, "no such file"},
		"is interrupted": {func(_ *os.File, interrupt context.CancelCauseFunc) { interrupt(interrupted) }, "interrupted"},
		"is silent":      {func(*os.File, context.CancelCauseFunc) {}, errNotBecome.Error()},
		"never ends":     {func(w *os.File, _ context.CancelCauseFunc) { w.WriteString("so far") }, errNotBecome.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			timeout := time.Minute
			if c.want == errNotBecome.Error() {
				timeout = 20 * time.Millisecond
			}
			c.do(w, cancel)
			err = awaitBecome(ctx, r, timeout)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("awaitBecome() = %q; want %q", got, c.want)
			}
		})
	}
}
