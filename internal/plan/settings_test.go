package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/agentsettings"
	"github.com/mayfly-vm/mayfly/internal/config"
)

// Settings come along of agents that the image has, if the user says so and nothing else is in
// the place of theirs.
func TestSettings(t *testing.T) {
	found := &agentsettings.Set{Home: "/home/u", Agents: []agentsettings.Agent{
		{Name: "claude", Files: []string{"CLAUDE.md"}, Servers: []agentsettings.Server{{Name: "s", Runs: "npx"}}, Left: []agentsettings.Left{{What: "plugins", Why: "x"}}},
		{Name: "codex", Files: []string{"AGENTS.md", "config.toml"}},
	}}
	for _, test := range []struct {
		what   string
		change func(*config.Config)
		want   []string
		note   string
	}{
		{"off", func(c *config.Config) { c.Agent.Settings = false }, nil, ""},
		{"both", func(*config.Config) {}, []string{"claude", "codex"}, "your settings of Claude Code, Codex come along: 3 files, 1 MCP server; 1 left out (mayfly inspect m)"},
		{"one", func(c *config.Config) { c.Image.Agents = []string{"codex"} }, []string{"codex"}, "your settings of Codex come along: 2 files (mayfly inspect m)"},
		{"elsewhere", func(c *config.Config) { c.Env = map[string]string{"CLAUDE_CONFIG_DIR": "/home/dev/.claude"} }, []string{"codex"}, "your settings of Claude Code do not come along"},
	} {
		cfg := config.Default()
		cfg.Image.Agents = []string{"codex", "claude"}
		cfg.Agent.Settings = true
		test.change(&cfg)
		b := builder{cfg: cfg}
		b.plan.Name, b.plan.Image.Agents = "m", cfg.Image.Agents
		b.plan.Guest.User.Home, b.plan.Guest.Env = "/home/dev", cfg.Env
		b.settings(found)
		var got []string
		if b.plan.Guest.Settings != nil {
			for _, a := range b.plan.Guest.Settings.Agents {
				got = append(got, a.Name)
			}
		}
		if !slices.Equal(got, test.want) || b.plan.Guest.HasDotfiles() != (len(test.want) > 0) {
			t.Errorf("%s: settings of %q; want %q", test.what, got, test.want)
		}
		if notes := strings.Join(b.plan.Notes, "\n"); !strings.Contains(notes, test.note) || test.note == "" && notes != "" {
			t.Errorf("%s: the notes are %q; want %q", test.what, notes, test.note)
		}
	}
}
