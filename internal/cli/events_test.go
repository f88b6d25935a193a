package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// watchedMachine makes a machine, below home, whose supervisor tells events, and no more.
func watchedMachine(t *testing.T, home, name string, events ...control.Event) {
	t.Helper()
	m := state.Machine{Name: name, Dir: filepath.Join(home, ".local/state/mayfly/machines", name)}
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(m.Dir, state.SocketFile))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var req control.Request
		if err := errors.Join(wire.ReadMessage(conn, &req), wire.WriteMessage(conn, control.Granted())); err != nil || req.Op != control.OpWatch {
			t.Errorf("the request is %+v, %v; want to watch", req, err)
		}
		out := json.NewEncoder(conn)
		for _, e := range events {
			if err := out.Encode(e); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-served
	})
}

// appIn is the command line of the user whose home it is.
func appIn(home string) *app {
	a := &app{getenv: func(name string) string {
		if name == "HOME" {
			return home
		}
		return ""
	}}
	if err := a.open(&cobra.Command{}, nil); err != nil {
		panic(err)
	}
	return a
}

// printedBy returns what f prints.
func printedBy(t *testing.T, a *app, f func() error) (string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a.Out = w
	done := make(chan error, 1)
	go func() {
		done <- f()
		w.Close()
	}()
	var out bytes.Buffer
	if _, err := io.Copy(&out, r); err != nil {
		t.Fatal(err)
	}
	return out.String(), <-done
}

func TestEvents(t *testing.T) {
	life := []control.Event{
		{Nanos: 1e6, Phase: control.PhaseMakeTemplate},
		{Nanos: 2e6, Note: "a \x1b[31mred note"},
		{Nanos: 1234e6, Ready: true, Start: &control.Start{Reason: "asked for"}},
		{Nanos: 2e9, Phase: control.PhaseStop},
		{Nanos: 3e9, Ended: true, Error: "the machine ended unexpectedly", Code: "a-code"},
	}
	for _, tt := range []struct {
		json bool
		want []string
	}{
		{false, []string{
			"    0.001 s  boot a template",
			"    0.002 s  note: a ",
			"    1.234 s  ready: the machine booted: asked for",
			"    2.000 s  end the machine",
			"    3.000 s  error: the machine ended unexpectedly",
			"    3.000 s  ended",
		}},
		{true, []string{
			`{"machine":"m","nanos":1000000,"phase":"make-template"}`,
			`{"machine":"m","nanos":2000000,"note":"a `,
			`{"machine":"m","nanos":1234000000,"ready":true,"start":{"reason":"asked for"}}`,
			`{"machine":"m","nanos":2000000000,"phase":"stop"}`,
			`{"machine":"m","nanos":3000000000,"error":"the machine ended unexpectedly","code":"a-code","ended":true}`,
		}},
	} {
		home := t.TempDir()
		a := appIn(home)
		a.json = tt.json
		watchedMachine(t, home, "m", life...)
		out, err := printedBy(t, a, func() error { return a.events(t.Context(), []string{"m"}) })
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if err != nil || len(lines) != len(tt.want) || strings.Contains(out, "\x1b") {
			t.Fatalf("events() = %v, printed %q; want %q", err, out, tt.want)
		}
		for i, line := range lines {
			if !strings.HasPrefix(line, tt.want[i]) {
				t.Errorf("line %q; want %q", line, tt.want[i])
			}
		}
	}
}

// The events of several machines are told with their names, and one that is lost does
// not end the others'.
func TestEventsOfAll(t *testing.T) {
	home := t.TempDir()
	a := appIn(home)
	watchedMachine(t, home, "one", control.Event{Phase: control.PhaseBoot}, control.Event{Lost: true})
	watchedMachine(t, home, "two", control.Event{Ready: true, Start: &control.Start{Template: "0123"}}, control.Event{Ended: true})
	watchedMachine(t, home, "three", control.Event{Phase: control.PhaseBoot})
	out, err := printedBy(t, a, func() error { return a.events(t.Context(), []string{"one", "two", "three"}) })
	if !errors.Is(err, control.ErrLost) || !strings.Contains(err.Error(), "machine three: its supervisor ended unexpectedly") {
		t.Errorf("events() = %v; want that events of one were lost, and that three died", err)
	}
	for _, want := range []string{"s  one: boot\n", "s  two: ready: the machine began from template 0123\n", "s  two: ended\n", "s  three: boot\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("printed %q; want %q in it", out, want)
		}
	}
}
