package codingagent

// Hook is a program of the guest that a coding agent's hooks start: it reports what the
// agent does, for the list of machines. It is there while there are sessions.
const Hook = "/run/mayfly-session/mayfly-guest report"

// hookLine starts Hook by a shell. The agent's settings outlive the machine's run, and may
// be carried elsewhere: where the program is not, nothing happens.
const hookLine = "test ! -x /run/mayfly-session/mayfly-guest || " + Hook

// claudeHooks are the hooks of Claude Code that say what it does. A user's own stay beside
// them. What it asks for is known from two: not every version asks for permission to ask.
func claudeHooks() []Item {
	const seconds = 10
	var items []Item
	for _, h := range []struct {
		event, matcher string
		async          bool // it does not wait for it
	}{
		{event: "SessionStart", async: true},
		{event: "UserPromptSubmit"},
		{event: "PreToolUse", matcher: "AskUserQuestion|ExitPlanMode"},
		{event: "PermissionRequest"},
		{event: "Notification"},
		{event: "Stop"},
		{event: "StopFailure"},
	} {
		command := object{"type": "command", "command": hookLine, "timeout": seconds}
		if h.async {
			command["async"] = true
		}
		entry := object{"hooks": []any{command}}
		if h.matcher != "" {
			entry["matcher"] = h.matcher
		}
		items = append(items, Item{Keys: []string{"hooks", h.event}, Value: entry.encode()})
	}
	return items
}

// codexHooks are settings of Codex, before the tables of its file, and in the table tui.
// It tells a program only of the end of its turn, and its terminal when it asks for
// something: in text, and whether or not somebody looks on. Hooks it would ask about first.
const (
	codexNotify = `notify = ["sh", "-c", "test ! -x /run/mayfly-session/mayfly-guest || ` + Hook + ` \"$1\"", "sh"]` + "\n"
	codexTUI    = "[tui]\nnotification_method = \"osc9\"\nnotification_condition = \"always\"\n"
)
