package cli

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// A guest that never answers does not hold up who starts its machine.
func TestSeedOfASilentGuest(t *testing.T) {
	m := state.Machine{Name: "m", Dir: t.TempDir()}
	l, err := net.Listen("unix", filepath.Join(m.Dir, state.SocketFile))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var request, seed map[string]any
		// The supervisor's answer, and then the guest's silence.
		err = errors.Join(wire.ReadMessage(conn, &request), wire.WriteMessage(conn, control.Granted()), wire.ReadMessage(conn, &seed))
		if err != nil {
			t.Error(err)
		}
		cancel()
		conn.Read(make([]byte, 1))
	}()
	done := make(chan error, 1)
	go func() { done <- new(app).seed(ctx, m, codingagent.Spec{}) }()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("seed() = %v; want that it was given up", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("seed() waits for ever")
		return
	}
	<-served
}
