package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// What a client of mayfly mcp did in a machine is never thrown away without a word, and a
// machine in which nothing was done does not stay.
func TestMCPSettles(t *testing.T) {
	failing := func(context.Context) (*mayfly.ChangeSet, error) { return nil, errors.New("no list") }
	ignored := func(context.Context) (*mayfly.ChangeSet, error) {
		return &mayfly.ChangeSet{Changes: []mayfly.Change{{Op: "A", Path: "node_modules/x", Ignored: true}}, IgnoredFiles: 1}, nil
	}
	for _, tt := range []struct {
		name    string
		m       fakeStarted
		touched bool
		keep    bool
		fails   bool
	}{
		{name: "never used", m: fakeStarted{changes: oneChange}},
		{name: "used, nothing changed", touched: true},
		{name: "used, changed", m: fakeStarted{changes: oneChange}, touched: true, keep: true},
		{name: "only ignored files", m: fakeStarted{changes: ignored}, touched: true},
		{name: "changes cannot be listed", m: fakeStarted{changes: failing}, touched: true, keep: true, fails: true},
		{name: "has ended", m: fakeStarted{changes: failing, dead: true}, touched: true},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		a := &app{Streams: Streams{In: r, Out: w, Err: w}, getenv: os.Getenv, signals: terminal.NewSignals()}
		m := tt.m
		var kept bool
		m.onKeep = func() { kept = true }
		var box temporary
		box.begin(&fate{a: a, m: &m})
		if tt.touched {
			if err := box.touch(); err != nil || !kept {
				t.Errorf("%s: before something is done in it, the machine is kept: %v, %v", tt.name, kept, err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // by the signal that ends mayfly
		err = box.settle(ctx, a)
		if again := box.settle(ctx, a); again != nil {
			t.Errorf("%s: once more: %v", tt.name, again)
		}
		a.signals.Stop()
		w.Close()
		said, _ := io.ReadAll(r)
		if m.discarded == tt.keep || (err != nil) != tt.fails {
			t.Errorf("%s: discarded %v, %v; want kept %v", tt.name, m.discarded, err, tt.keep)
		}
		if named := strings.Contains(string(said), "machine m is kept: "); named != tt.keep {
			t.Errorf("%s: it says %q", tt.name, said)
		}
	}
}
