// Package hook reads what a coding agent's hooks say, and makes of it what the list of
// machines tells: what the agent does, and the last that it said.
//
// A hook is a program that a coding agent starts when something happens, and tells in JSON
// what that is. The guest's own program is that hook; it runs with the rights of the
// guest's user, and hands a Report to the guest agent. Whoever runs in the machine can
// report whatever they like: of their own machine.
package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/naming"
)

// Max bounds a report in bytes.
const Max = 4 << 10

// Report is what the program of a session does.
type Report struct {
	Session string            `json:"session"`
	State   wire.SessionState `json:"state"`
	Last    string            `json:"last,omitempty"` // at most wire.MaxLast bytes, on one line
	// Reminder says that it has waited for a while, for what it has told of in general.
	Reminder bool `json:"reminder,omitempty"`
}

// Decode reads a report, which anybody in the guest may have written.
func Decode(data []byte) (Report, error) {
	var r Report
	if len(data) > Max {
		return r, errors.New("the report is too long")
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return Report{}, err
	}
	if !naming.ValidSession(r.Session) {
		return Report{}, fmt.Errorf("bad name of a session %q", r.Session)
	}
	if !slices.Contains(told, r.State) {
		return Report{}, fmt.Errorf("no program reports that it is %q", r.State)
	}
	r.Last = line(r.Last)
	return r, nil
}

// told are the states that a program can tell of itself.
var told = []wire.SessionState{wire.StateAnswer, wire.StatePermission, wire.StateWorks, wire.StateIdle, wire.StateDone}

// event is what the hooks of all coding agents tell, as far as it is used.
type event struct {
	// Claude Code, code.claude.com/docs/en/hooks.
	Name             string                     `json:"hook_event_name"`
	NotificationType string                     `json:"notification_type"`
	Message          string                     `json:"message"`
	Prompt           string                     `json:"prompt"`
	Tool             string                     `json:"tool_name"`
	Input            map[string]json.RawMessage `json:"tool_input"`
	LastMessage      string                     `json:"last_assistant_message"`
	Failure          json.RawMessage            `json:"error"`
	// Codex's notify, developers.openai.com/codex/config-advanced.
	Type         string `json:"type"`
	CodexMessage string `json:"last-assistant-message"`
}

// Parse reads what a hook was told, and returns the report of a session that has no name
// yet. It is not ok if that says nothing of what the program does.
func Parse(data []byte) (r Report, ok bool) {
	var e event
	if json.Unmarshal(data, &e) != nil {
		return Report{}, false
	}
	switch {
	case e.Name == "" && e.Type == "agent-turn-complete":
		r.State, r.Last = wire.StateDone, lastLine(e.CodexMessage)
	case e.Name == "SessionStart":
		r.State = wire.StateIdle
	case e.Name == "UserPromptSubmit":
		r.State, r.Last = wire.StateWorks, line(e.Prompt)
	case e.Name == "Stop":
		r.State, r.Last = wire.StateDone, lastLine(e.LastMessage)
	case e.Name == "StopFailure":
		r.State, r.Last = wire.StateAnswer, line("error: "+text(e.Failure))
	case (e.Name == "PreToolUse" || e.Name == "PermissionRequest") && asks(e.Tool):
		r.State, r.Last = wire.StateAnswer, e.wants()
	case e.Name == "PermissionRequest":
		r.State, r.Last = wire.StatePermission, e.wants()
	case e.Name == "Notification":
		r = e.reminder()
	}
	return r, r.State != ""
}

// asks reports whether a tool of Claude Code's is a question to its user.
func asks(tool string) bool { return tool == "AskUserQuestion" || tool == "ExitPlanMode" }

// reminder is what a notification of Claude Code's means.
func (e event) reminder() Report {
	switch kind := e.NotificationType; {
	case strings.Contains(kind, "permission"):
		return Report{State: wire.StatePermission, Last: line(e.Message), Reminder: true}
	case strings.Contains(kind, "elicitation_dialog"), kind == "agent_needs_input":
		return Report{State: wire.StateAnswer, Last: line(e.Message), Reminder: true}
	case kind == "idle_prompt":
		return Report{State: wire.StateIdle, Reminder: true}
	}
	return Report{}
}

// Notice is what a notification on the terminal means, of a program without hooks or of
// what it has no hook for.
func Notice(notice string) wire.SessionState {
	for _, asks := range []string{
		"Approval requested", "Codex wants to edit", // Codex
		"Claude needs your permission", "Claude Code needs your approval",
	} {
		if strings.HasPrefix(notice, asks) {
			return wire.StatePermission
		}
	}
	return wire.StateAnswer
}

// wants says what a tool is to do.
func (e event) wants() string {
	var questions []struct {
		Question string `json:"question"`
	}
	if json.Unmarshal(e.Input["questions"], &questions) == nil && len(questions) > 0 {
		return line(questions[0].Question)
	}
	for _, key := range []string{"command", "file_path", "notebook_path", "url", "plan", "pattern", "query", "description", "path"} {
		if value := text(e.Input[key]); value != "" {
			return line(e.Tool + ": " + value)
		}
	}
	return line(e.Tool)
}

// text returns a value that is a string.
func text(value json.RawMessage) string {
	var s string
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

// line returns the beginning of s, from its first line with something on it.
func line(s string) string {
	for l := range strings.Lines(s) {
		if l = clean(l); l != "" {
			return l
		}
	}
	return ""
}

// lastLine returns the last line of s with something on it.
func lastLine(s string) string {
	for {
		i := strings.LastIndexByte(s, '\n')
		if l := clean(s[i+1:]); l != "" || i < 0 {
			return l
		}
		s = s[:i]
	}
}

// clean makes one line fit to be told. What a terminal must not get the host takes out.
func clean(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), 4*wire.MaxLast)], ""))), " ")
	if len(s) <= wire.MaxLast {
		return s
	}
	const ellipsis = "…"
	return strings.ToValidUTF8(s[:wire.MaxLast-len(ellipsis)], "") + ellipsis
}
