package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// A watch tells of each state once: of what was so at its beginning, of what changes, of
// machines that come and go, and of nothing that a machine does not say for a moment.
func TestSessionWatch(t *testing.T) {
	is := func(name string, state wire.SessionState, since int64) wire.SessionInfo {
		return wire.SessionInfo{Name: name, State: state, Since: since}
	}
	list := func(s ...wire.SessionInfo) []wire.SessionInfo { return append([]wire.SessionInfo{}, s...) }
	works, asks := is("claude", wire.StateWorks, 1), is("claude", wire.StatePermission, 5)
	var w sessionWatch
	for _, step := range []struct {
		what string
		seen seenSessions
		want []SessionChange
	}{
		{"it begins", seenSessions{"a": list(works), "b": list()}, []SessionChange{{"a", works, true}}},
		{"nothing is new", seenSessions{"a": list(works), "b": list()}, nil},
		{"one asks", seenSessions{"a": list(asks), "b": list()}, []SessionChange{{"a", asks, false}}},
		{"one does not answer", seenSessions{"a": nil, "b": nil}, nil},
		{"it is the same as before", seenSessions{"a": list(asks), "b": list()}, nil},
		{"it asks once more", seenSessions{"a": list(is("claude", wire.StatePermission, 9)), "b": list()}, []SessionChange{{"a", is("claude", wire.StatePermission, 9), false}}},
		{"another begins, and input comes", seenSessions{"a": list(works), "b": list(works, is("x", wire.StateIdle, 1))},
			[]SessionChange{{"a", works, false}, {"b", works, false}, {"b", is("x", wire.StateIdle, 1), false}}},
		{"it works on after input", seenSessions{"a": list(is("claude", wire.StateWorks, 9)), "b": list(works, is("x", wire.StateIdle, 1))}, nil},
		{"one machine ends, and one comes", seenSessions{"b": list(works), "c": list(asks)},
			[]SessionChange{{Machine: "a"}, {"c", asks, false}}},
		{"all end", seenSessions{}, []SessionChange{{Machine: "b"}, {Machine: "c"}}},
	} {
		got := w.take(step.seen)
		if d := cmp.Diff(step.want, got); d != "" {
			t.Errorf("%s: -want +got:\n%s", step.what, d)
		}
	}
}
