package engine

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

func TestPickSession(t *testing.T) {
	m := Machine{m: state.Machine{Name: "m"}}
	run, ended := func(n string) wire.SessionInfo { return wire.SessionInfo{Name: n} }, func(n string) wire.SessionInfo { return wire.SessionInfo{Name: n, Exited: true} }
	for _, tt := range []struct {
		sessions []wire.SessionInfo
		want     string
		code     fault.Code
	}{
		{nil, "", fault.SessionNone},
		{[]wire.SessionInfo{run("a")}, "a", ""},
		{[]wire.SessionInfo{ended("a")}, "a", ""},
		{[]wire.SessionInfo{ended("a"), run("b"), ended("c")}, "b", ""},
		{[]wire.SessionInfo{run("a"), run("b")}, "", fault.SessionAmbiguous},
		{[]wire.SessionInfo{ended("a"), ended("b")}, "", fault.SessionAmbiguous},
	} {
		got, err := m.PickSession(tt.sessions)
		if got != tt.want || fault.CodeOf(err) != tt.code || (err == nil) != (tt.code == "") {
			t.Errorf("PickSession(%+v) = %q, %v, code %q; want %q, code %q", tt.sessions, got, err, fault.CodeOf(err), tt.want, tt.code)
		}
	}
}

func TestOnlyAgent(t *testing.T) {
	for _, tt := range []struct {
		agents []string
		want   string
		code   fault.Code
	}{
		{nil, "", fault.AgentNone},
		{[]string{"codex"}, "codex", ""},
		{[]string{"claude", "codex"}, "", fault.AgentAmbiguous},
	} {
		m := Machine{m: state.Machine{Name: "m"}, p: plan.Plan{Image: plan.Image{Agents: tt.agents}, Guest: plan.Guest{User: plan.User{Home: "/home/me"}}}}
		spec, err := m.CodingAgent("", nil)
		got := spec.Agent
		if got != tt.want || fault.CodeOf(err) != tt.code {
			t.Errorf("CodingAgent of %v = %q, %v, code %q; want %q, code %q", tt.agents, got, err, fault.CodeOf(err), tt.want, tt.code)
		}
	}
}

func TestMissingAgent(t *testing.T) {
	m := Machine{m: state.Machine{Name: "m"}, p: plan.Plan{Image: plan.Image{Agents: []string{"codex"}}}}
	missing := commandError(fault.Wrap(&client.GuestError{Text: "claude: command not found"}, fault.CommandNotFound, nil))
	for _, tt := range []struct {
		err   error
		agent string
		code  fault.Code
	}{
		{missing, "claude", fault.AgentMissing},
		{missing, "codex", fault.CommandNotFound}, // it is in the image, and was removed
		{errors.New("exit code 127"), "claude", ""},
		{nil, "claude", ""},
	} {
		got := m.MissingAgent(tt.err, tt.agent)
		if fault.CodeOf(got) != tt.code || !errors.Is(got, tt.err) && !strings.Contains(got.Error(), tt.err.Error()) {
			t.Errorf("MissingAgent(%v, %s) = %v, code %q; want code %q", tt.err, tt.agent, got, fault.CodeOf(got), tt.code)
		}
	}
}

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
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			var request control.Request
			// The supervisor's answer, and then the guest's silence.
			if err := errors.Join(wire.ReadMessage(conn, &request), wire.WriteMessage(conn, control.Granted())); err != nil {
				t.Error(err)
			}
			if request.Op == control.OpWatch {
				continue // nothing happens to the machine
			}
			var seed map[string]any
			if err := wire.ReadMessage(conn, &seed); err != nil {
				t.Error(err)
			}
			cancel()
			conn.Read(make([]byte, 1))
			return
		}
	}()
	done := make(chan error, 1)
	go func() {
		_, err := Machine{e: testEngine(t, nil), m: m}.Prepare(ctx, codingagent.Spec{})
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Prepare() = %v; want that it was given up", err)
		}
	case <-time.After(time.Minute):
		t.Error("Prepare() waits for ever")
		return
	}
	<-served
}

// Whether a machine will have a workspace is known before it starts.
func TestExpectWorkspace(t *testing.T) {
	e := testEngine(t, nil)
	for name, dir := range map[string]string{"with": t.TempDir(), "without": ""} {
		var settings []config.Setting
		if dir != "" {
			settings = []config.Setting{{From: "test", Key: "workspace.path", Value: dir}}
		}
		if _, err := e.Define(t.Context(), Definition{Name: name, Settings: settings}); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{"with": true, "without": false, "nobody": true} {
		if has, err := e.ExpectWorkspace(name); has != want || err != nil {
			t.Errorf("ExpectWorkspace(%q) = %t, %v; want %t", name, has, err, want)
		}
	}
}

// What cannot be right of a coding agent is found before anything is built.
func TestExpectAgent(t *testing.T) {
	e := testEngine(t, nil)
	for name, agents := range map[string][]string{"none": nil, "one": {"claude", "claude"}, "two": {"claude", "codex"}} {
		if _, err := e.Define(t.Context(), Definition{Name: name, Settings: []config.Setting{{From: "test", Key: "image.agents", Value: agents}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		machine, agent string
		inImage        bool
		code           fault.Code
	}{
		{"one", "", true, ""},
		{"one", "claude", true, ""},
		{"one", "codex", false, ""}, // it may come in another way
		{"one", "cluade", false, fault.AgentUnknown},
		{"none", "", false, fault.AgentNone},
		{"none", "claude", false, ""},
		{"two", "", false, fault.AgentAmbiguous},
		{"two", "codex", true, ""},
		{"nobody", "codex", true, ""}, // what it has is not for this to say
		{"nobody", "cluade", false, fault.AgentUnknown},
	} {
		inImage, err := e.ExpectAgent(tt.machine, tt.agent)
		if inImage != tt.inImage || fault.CodeOf(err) != tt.code {
			t.Errorf("ExpectAgent(%q, %q) = %t, %v; want %t and the code %q", tt.machine, tt.agent, inImage, err, tt.inImage, tt.code)
		}
	}
}
