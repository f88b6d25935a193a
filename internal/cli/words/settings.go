package words

import (
	"fmt"
	"strings"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// settings adds what comes along of the user's settings of coding agents, and what does not.
func (r *rows) settings(all []mayfly.AgentSettings) {
	for _, s := range all {
		name := "settings"
		add := func(format string, args ...any) {
			r.add(name, format, args...)
			name = ""
		}
		if len(s.Files) == 0 {
			add("of %s: none of yours", s.Agent)
		} else {
			add("of %s: yours of %s: %s", s.Agent, termsafe.Quote(s.Dir), strings.Join(settingsFiles(s), ", "))
		}
		for _, m := range s.Servers {
			if m.Host != "" {
				add("MCP server %s, at %s: needs --allow %s unless the machine reaches it", termsafe.Quote(m.Name), termsafe.Line(m.Host), termsafe.Line(m.Host))
			} else {
				add("MCP server %s, which runs %s in the machine", termsafe.Quote(m.Name), termsafe.Line(m.Runs))
			}
		}
		for _, l := range s.Left {
			add("left out: %s: %s", termsafe.Line(l.What), termsafe.Line(l.Why))
		}
		if s.More > 0 {
			add("left out: %d more", s.More)
		}
	}
}

// settingsFiles names files, those of a directory of the agent's as one, and those with
// settings with their keys.
func settingsFiles(s mayfly.AgentSettings) []string {
	var names []string
	count := make(map[string]int)
	for _, file := range s.Files {
		parts := strings.SplitN(file, "/", 3)
		name := parts[0]
		if len(parts) > 2 {
			name = parts[0] + "/" + parts[1] + "/"
		} else if len(parts) > 1 {
			name = file
		}
		if count[name]++; count[name] == 1 {
			names = append(names, name)
		}
	}
	for i, name := range names {
		var keys []string
		for _, k := range s.Keys {
			if key, ok := strings.CutPrefix(k, name+": "); ok {
				keys = append(keys, key)
			}
		}
		text := termsafe.Line(name)
		if n := count[name]; n > 1 {
			text += fmt.Sprintf(" (%d files)", n)
		}
		names[i] = text + parenthesis(termsafe.Line(strings.Join(keys, ", ")))
	}
	return names
}
