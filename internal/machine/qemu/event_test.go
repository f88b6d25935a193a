package qemu

import (
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

func TestParseEvent(t *testing.T) {
	for _, tt := range []struct {
		name, data string
		want       machine.Event
	}{
		{"STOP", `{}`, machine.Event{Kind: machine.Paused}},
		{"STOP", ``, machine.Event{Kind: machine.Paused}},
		{"RESUME", `null`, machine.Event{Kind: machine.Resumed}},
		{"BLOCK_IO_ERROR", `{"device": "", "node-name": "slot1", "operation": "write", "action": "stop", "nospace": true, "reason": "No space left on device"}`,
			machine.Event{Kind: machine.IOError, Disk: "slot1", NoSpace: true, Halts: true, Reason: "No space left on device"}},
		{"BLOCK_IO_ERROR", `{"device": "", "operation": "read", "action": "report", "reason": "Input/output error"}`,
			machine.Event{Kind: machine.IOError, Reason: "Input/output error"}},
		{"BLOCK_IO_ERROR", `{"nospace": "yes", "action": 5}`, machine.Event{Kind: machine.IOError}},
		{"GUEST_PANICKED", `{"action": "pause"}`, machine.Event{Kind: machine.Panicked, Reason: "pause"}},
		{"SHUTDOWN", `{"guest": true, "reason": "guest-reset"}`, machine.Event{Kind: machine.Shutdown, Reason: machine.ByGuestReset}},
		{"RESET", `{"guest": true, "reason": "guest-reset"}`, machine.Event{Kind: machine.Reset, Reason: "guest-reset"}},
		{"WATCHDOG", `{"action": "reset"}`, machine.Event{Kind: machine.Watchdog, Reason: "reset"}},
		{"MEMORY_FAILURE", `{"recipient": "guest", "action": "inject", "flags": {}}`, machine.Event{Kind: machine.MemoryFailure, Reason: "inject"}},
		{"VSERPORT_CHANGE", `{"open": true, "id": "x"}`, machine.Event{Kind: machine.UnknownEvent, Reason: "VSERPORT_CHANGE"}},
		{"\x1b[2J", `{}`, machine.Event{Kind: machine.UnknownEvent, Reason: termsafe.Line("\x1b[2J")}},
		{strings.Repeat("X", 4096), `[]`, machine.Event{Kind: machine.UnknownEvent, Reason: strings.Repeat("X", maxText)}},
	} {
		if got := parseEvent(tt.name, json.RawMessage(tt.data)); got != tt.want {
			t.Errorf("parseEvent(%.20q, %s) = %+v; want %+v", tt.name, tt.data, got, tt.want)
		}
	}
}

// Events come in their order, also amid replies, and end with the connection.
func TestMonitorEvents(t *testing.T) {
	var got []machine.Event
	m, err := newMonitor(fakeQEMU(t, greeting, func(string) string {
		return `{"event": "STOP"}` + "\n" + `{"timestamp": {}, "event": "SHUTDOWN", "data": {"reason": "guest-panic"}}` + "\n" + `{"return": {}, "id": %d}`
	}), func(e machine.Event) { got = append(got, e) })
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Execute("query", nil, nil); err != nil {
		t.Fatal(err)
	}
	m.conn.Close()
	<-m.done
	want := []machine.Event{{Kind: machine.Paused}, {Kind: machine.Shutdown, Reason: machine.ByGuestPanic}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("the events were %+v; want %+v", got, want)
	}
}

// A flood of events holds nobody up, and the newest are heard.
func TestEventFlood(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		defer theirs.Close()
		io.WriteString(theirs, greeting)
		theirs.Read(make([]byte, 100))
		io.WriteString(theirs, `{"return": {}, "id": 1}`+"\n")
		for range 10_000 {
			io.WriteString(theirs, `{"event": "RESUME"}`+"\n")
		}
		io.WriteString(theirs, `{"event": "STOP"}`+"\n")
	}()
	events := make(chan machine.Event, machine.EventBuffer)
	m, err := newMonitor(ours, func(e machine.Event) { machine.Post(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	<-m.done
	close(events)
	var last machine.Event
	n := 0
	for last = range events {
		n++
	}
	if n != machine.EventBuffer || last.Kind != machine.Paused {
		t.Errorf("%d events wait, the last is %q; want %d, %q", n, last.Kind, machine.EventBuffer, machine.Paused)
	}
}

// FuzzEvent checks that no text of an event is long, or unfit to be shown.
func FuzzEvent(f *testing.F) {
	f.Add("BLOCK_IO_ERROR", []byte(`{"node-name": "slot1", "action": "stop", "nospace": true, "reason": "\u001b"}`))
	f.Add("X", []byte(`{`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		e := parseEvent(name, data)
		for _, text := range []string{e.Reason, e.Disk} {
			// What stands for a refused character can be longer than that.
			if len(text) > 4*maxText || text != termsafe.Line(text) {
				t.Errorf("parseEvent(%q, %q) has the text %q", name, data, text)
			}
		}
		if e.Kind == "" {
			t.Errorf("parseEvent(%q, %q) has no kind", name, data)
		}
	})
}
