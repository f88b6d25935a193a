package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/agentsettings"
	"github.com/mayfly-vm/mayfly/internal/codingagent"
)

// settings decides about the user's own settings of coding agents, and says what comes along.
func (b *builder) settings(found *agentsettings.Set) {
	if found == nil || !b.cfg.Agent.Settings {
		return
	}
	set := agentsettings.Set{Home: found.Home}
	var titles []string
	files, servers, left := 0, 0, 0
	for _, a := range found.Agents {
		agent, ok := codingagent.Find(a.Name)
		if !ok || !slices.Contains(b.plan.Image.Agents, a.Name) {
			continue
		}
		if !b.showsSettings(agent) {
			b.note("your settings of %s do not come along: its files are in another place of this machine", agent.Title)
			continue
		}
		set.Agents = append(set.Agents, a)
		if len(a.Files) > 0 {
			titles = append(titles, agent.Title)
		}
		files, servers, left = files+len(a.Files), servers+len(a.Servers), left+len(a.Left)+a.MoreLeft
	}
	if len(set.Agents) == 0 {
		return
	}
	b.plan.Guest.Settings = &set
	text := "none of your settings of coding agents come along"
	if files > 0 {
		text = fmt.Sprintf("your settings of %s come along: %s", strings.Join(titles, ", "), count(files, "file"))
		if servers > 0 {
			text += ", " + count(servers, "MCP server")
		}
	}
	if left > 0 {
		text += fmt.Sprintf("; %d left out", left)
	}
	b.note("%s (mayfly inspect %s)", text, b.plan.Name)
}

// showsSettings reports whether the files of an agent are where those of the user's appear.
func (b *builder) showsSettings(agent codingagent.Agent) bool {
	spec, err := codingagent.Launch(agent.Name, b.plan.Place(), nil)
	at := path.Join(codingagent.SettingsDir, agent.OwnSettings().At)
	return err == nil && slices.ContainsFunc(spec.Links, func(l codingagent.Link) bool { return slices.Contains(l.Below, at) })
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
