package review

import "github.com/mayfly-vm/mayfly/internal/review/settings"

// agentRules are about what coding agents on the host run or obey at their next start.
var agentRules = []rule{
	{
		id: "claude-settings", class: Runs,
		reason: "Claude Code runs or allows this at its next start",
		paths:  []string{".claude/settings*.json"},
		when:   keyed(settings.JSON, func(c settings.Change) bool { return true }),
	},
}
