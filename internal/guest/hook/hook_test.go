package hook

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// What the hooks of coding agents tell is a state and a line.
func TestParse(t *testing.T) {
	for _, tt := range []struct {
		hook  string
		state wire.SessionState
		last  string
	}{
		{`{"hook_event_name":"SessionStart","source":"startup"}`, wire.StateIdle, ""},
		{`{"hook_event_name":"UserPromptSubmit","prompt":"\n fix the  tests\nplease"}`, wire.StateWorks, "fix the tests"},
		{`{"hook_event_name":"Stop","stop_hook_active":false,"last_assistant_message":"I changed:\n- a\n\nShall I go on?\n"}`, wire.StateDone, "Shall I go on?"},
		{`{"hook_event_name":"Stop"}`, wire.StateDone, ""},
		{`{"hook_event_name":"StopFailure","error":"rate_limit"}`, wire.StateAnswer, "error: rate_limit"},
		{`{"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"rm -rf x","description":"Remove"}}`, wire.StatePermission, "Bash: rm -rf x"},
		{`{"hook_event_name":"PermissionRequest","tool_name":"Write","tool_input":{"file_path":"/w/a.go","content":"x"}}`, wire.StatePermission, "Write: /w/a.go"},
		{`{"hook_event_name":"PermissionRequest","tool_name":"mcp__x__y","tool_input":{"n":1}}`, wire.StatePermission, "mcp__x__y"},
		{`{"hook_event_name":"PermissionRequest","tool_name":"AskUserQuestion","tool_input":{"questions":[{"question":"Which one?"}]}}`, wire.StateAnswer, "Which one?"},
		{`{"hook_event_name":"PreToolUse","tool_name":"AskUserQuestion","tool_input":{"questions":[{"question":"Which one?"}]}}`, wire.StateAnswer, "Which one?"},
		{`{"hook_event_name":"PreToolUse","tool_name":"ExitPlanMode","tool_input":{"plan":"# Plan\n1. do"}}`, wire.StateAnswer, "ExitPlanMode: # Plan"},
		{`{"hook_event_name":"Notification","notification_type":"permission_prompt","message":"Claude needs your permission to use Bash"}`, wire.StatePermission, "Claude needs your permission to use Bash"},
		{`{"hook_event_name":"Notification","notification_type":"elicitation_dialog","message":"A server asks"}`, wire.StateAnswer, "A server asks"},
		{`{"hook_event_name":"Notification","notification_type":"idle_prompt","message":"Claude is waiting for your input"}`, wire.StateIdle, ""},
		{`{"type":"agent-turn-complete","turn-id":"1","input-messages":["x"],"last-assistant-message":"Done.\n"}`, wire.StateDone, "Done."},
		// What says nothing, or is something else than it should be.
		{`{"hook_event_name":"Notification","notification_type":"auth_success"}`, "", ""},
		{`{"hook_event_name":"PreToolUse","tool_name":"Bash"}`, "", ""},
		{`{"hook_event_name":"Stop","last_assistant_message":7}`, "", ""},
		{`{"type":"approval-requested"}`, "", ""},
		{`[]`, "", ""}, {`null`, "", ""}, {``, "", ""}, {`{`, "", ""},
	} {
		r, ok := Parse([]byte(tt.hook))
		want := Report{State: tt.state, Last: tt.last, Reminder: tt.state != "" && strings.Contains(tt.hook, "notification_type")}
		if r != want || ok != (tt.state != "") {
			t.Errorf("Parse(%s) = %+v, %v; want %+v", tt.hook, r, ok, want)
		}
	}
}

// A notification on the terminal says whether it is for a permission.
func TestNotice(t *testing.T) {
	for notice, want := range map[string]wire.SessionState{
		"Approval requested: rm -rf x": wire.StatePermission, "Codex wants to edit a.go": wire.StatePermission,
		"Claude needs your permission to use Bash": wire.StatePermission,
		"Claude is waiting for your input":         wire.StateAnswer, "Which one?": wire.StateAnswer, "": wire.StateAnswer,
	} {
		if got := Notice(notice); got != want {
			t.Errorf("Notice(%q) = %q; want %q", notice, got, want)
		}
	}
}

// A report that our program does not write is refused, and what it may say is bounded.
func TestDecode(t *testing.T) {
	long, _ := json.Marshal(Report{Session: "s", State: wire.StateDone, Last: strings.Repeat("ä\x1b[2J\n", 200)})
	r, err := Decode(long)
	if err != nil || len(r.Last) > wire.MaxLast || strings.ContainsAny(r.Last, "\n\x1b") {
		t.Errorf("Decode(%.40s…) = %+v, %v", long, r, err)
	}
	for _, bad := range []string{
		``, `{}`, `{"session":"../x","state":"done"}`, `{"session":"s","state":"crashed"}`, `{"session":"s","state":"stopped"}`,
		`{"session":"s","state":"x"}`, `{"session":"s","state":"done"} x`, `{"session":"s","state":"done","last":"` + strings.Repeat("x", Max) + `"}`,
	} {
		if r, err := Decode([]byte(bad)); err == nil {
			t.Errorf("Decode(%.60s) = %+v; want an error", bad, r)
		}
	}
}

// FuzzParse checks that whatever a hook is told becomes a report that the agent takes.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"ls"}}`))
	f.Add([]byte(`{"hook_event_name":"Stop","last_assistant_message":"a\nb"}`))
	f.Add([]byte(`{"hook_event_name":"PreToolUse","tool_name":"AskUserQuestion","tool_input":{"questions":[{"question":"?"}]}}`))
	f.Add([]byte(`{"type":"agent-turn-complete","last-assistant-message":"\u0000\u001b"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, ok := Parse(data)
		if !ok {
			return
		}
		if len(r.Last) > wire.MaxLast || !utf8.ValidString(r.Last) || strings.ContainsAny(r.Last, "\r\n\x1b\x00") {
			t.Fatalf("Parse(%q) = %+v", data, r)
		}
		r.Session = "s"
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(b); err != nil || got != r {
			t.Fatalf("Decode(%s) = %+v, %v; want %+v", b, got, err, r)
		}
	})
}

// FuzzDecode checks that what anybody sends to the agent is refused, or bounded.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"session":"claude","state":"needs permission","last":"Bash: ls"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err == nil && (len(r.Last) > wire.MaxLast || r.State == "" || r.Session == "") {
			t.Fatalf("Decode(%q) = %+v", data, r)
		}
	})
}
