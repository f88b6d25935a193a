package commits

import (
	"context"
	"errors"
	"testing"
)

// The first error is returned, and stops the other.
func TestBoth(t *testing.T) {
	wrong := errors.New("wrong")
	good := func(context.Context) error { return nil }
	bad := func(context.Context) error { return wrong }
	waits := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	if err := both(t.Context(), good, good); err != nil {
		t.Errorf("both() of what is well = %v", err)
	}
	for name, err := range map[string]error{
		"first": both(t.Context(), bad, good), "second": both(t.Context(), good, bad),
		"first, and the second waits": both(t.Context(), bad, waits), "second, and the first waits": both(t.Context(), waits, bad),
	} {
		if err != wrong {
			t.Errorf("both() of a failure of the %s = %v", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(wrong)
	if err := both(ctx, waits, waits); err != wrong {
		t.Errorf("both() of what is given up = %v", err)
	}
}
