package review

import "testing"

var agentCases = []evalCase{
	{change: Change{Path: ".claude/settings.local.json", Old: file(`{}`), New: file(`{"permissions": {"allow": ["Bash(*)"]}}`)}, class: Runs, rules: []string{"claude-settings"}},
	{change: Change{Path: ".Claude/Settings.JSON", New: file(`{"hooks": {}}`)}, class: Runs, rules: []string{"claude-settings"}},
	{change: Change{Path: ".claude/settings.json", Old: file(`{"a": 1}`), New: file(`{"a": 1`)}, class: Runs, rules: []string{"claude-settings"}},
	{change: Change{Path: ".claude/settings.json", Old: file(`{"a":1}`), New: file("// why\n{\"a\": 1}\n")}},
}

func TestAgents(t *testing.T) { evaluate(t, agentCases) }
