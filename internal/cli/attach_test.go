package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/hint"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

func TestPickSession(t *testing.T) {
	m := state.Machine{Name: "m"}
	run, ended := func(n string) wire.SessionInfo { return wire.SessionInfo{Name: n} }, func(n string) wire.SessionInfo { return wire.SessionInfo{Name: n, Exited: true} }
	for _, tt := range []struct {
		sessions   []wire.SessionInfo
		want, hint string
	}{
		{nil, "", "mayfly agent m"},
		{[]wire.SessionInfo{run("a")}, "a", ""},
		{[]wire.SessionInfo{ended("a")}, "a", ""},
		{[]wire.SessionInfo{ended("a"), run("b"), ended("c")}, "b", ""},
		{[]wire.SessionInfo{run("a"), run("b")}, "", "mayfly attach m a"},
		{[]wire.SessionInfo{ended("a"), ended("b")}, "", "mayfly attach m a"},
	} {
		got, err := pickSession(m, tt.sessions)
		if got != tt.want || hint.Of(err) != tt.hint || (err == nil) != (tt.hint == "") {
			t.Errorf("pickSession(%+v) = %q, %v, hint %q; want %q, hint %q", tt.sessions, got, err, hint.Of(err), tt.want, tt.hint)
		}
	}
}

func TestOnlyAgent(t *testing.T) {
	m := state.Machine{Name: "m"}
	for _, tt := range []struct {
		agents     []string
		want, hint string
	}{
		{nil, "", "mayfly run --keep --profile claude"},
		{[]string{"codex"}, "codex", ""},
		{[]string{"claude", "codex"}, "", "mayfly agent m claude"},
	} {
		got, err := onlyAgent(m, plan.Plan{Image: plan.Image{Agents: tt.agents}})
		if got != tt.want || hint.Of(err) != tt.hint {
			t.Errorf("onlyAgent(%v) = %q, %v, hint %q; want %q, hint %q", tt.agents, got, err, hint.Of(err), tt.want, tt.hint)
		}
	}
}

func TestMissingAgent(t *testing.T) {
	m, p := state.Machine{Name: "m"}, plan.Plan{Image: plan.Image{Agents: []string{"codex"}}}
	missing := guestError(fault.Wrap(&client.GuestError{Text: "claude: command not found"}, fault.CommandNotFound, nil))
	for _, tt := range []struct {
		err   error
		agent string
		hint  string
	}{
		{missing, "claude", "mayfly run --keep --profile claude"},
		{missing, "codex", ""}, // it is in the image, and was removed
		{exitCode(127), "claude", ""},
		{nil, "claude", ""},
	} {
		got := missingAgent(tt.err, m, p, tt.agent)
		if hint.Of(got) != tt.hint || !errors.Is(got, tt.err) && !strings.Contains(got.Error(), tt.err.Error()) {
			t.Errorf("missingAgent(%v, %s) = %v, hint %q; want hint %q", tt.err, tt.agent, got, hint.Of(got), tt.hint)
		}
		if run, ok := errors.AsType[runError](got); ok && run.code != exitMissing {
			t.Errorf("missingAgent(%v) has the code %d", tt.err, run.code)
		}
	}
}

// A terminal is given back wherever the output was cut off, and left alone when
// there was none.
func TestShownTerminal(t *testing.T) {
	var out strings.Builder
	shown := &shownTerminal{to: &out}
	shown.leave()
	if out.Len() > 0 {
		t.Errorf("without output leave() wrote %q", out.String())
	}
	shown.Write([]byte("\x1b[?1049h\x1b[?2004h\x1b]2;cut o"))
	written := out.Len()
	shown.leave()
	got := out.String()[written:]
	for _, want := range []string{"\x18", "\x1b[?1049l", "\x1b[?2004l", "\x1b[23;2t"} {
		if !strings.Contains(got, want) {
			t.Errorf("leave() wrote %q; want %q in it", got, want)
		}
	}
}
