package mayfly

import "github.com/mayfly-vm/mayfly/internal/agentsettings"

// AgentSettings is what of a user's own settings of a coding agent comes along into a machine,
// and what stays on the host.
type AgentSettings struct {
	Agent string
	Dir   string // on the host
	// Files are below the agent's directory in the machine. Of files with settings they have
	// only Keys: "settings.json: model".
	Files   []string
	Keys    []string
	Servers []MCPServer
	Left    []LeftSetting
	More    int // are left besides
}

// MCPServer is one that a coding agent has: a program of the machine, or a remote one.
type MCPServer struct {
	Name string
	Runs string // "npx"
	Host string // "mcp.example.com", which the machine has to reach
}

// LeftSetting is a file or a setting that stays on the host, and why.
type LeftSetting struct{ What, Why string }

func agentSettings(set *agentsettings.Set) []AgentSettings {
	if set == nil {
		return nil
	}
	return convert(set.Agents, func(a agentsettings.Agent) AgentSettings {
		return AgentSettings{
			Agent: a.Name, Dir: a.Dir, Files: a.Files, Keys: a.Settings, More: a.MoreLeft,
			Servers: convert(a.Servers, func(s agentsettings.Server) MCPServer { return MCPServer(s) }),
			Left:    convert(a.Left, func(l agentsettings.Left) LeftSetting { return LeftSetting(l) }),
		}
	})
}
