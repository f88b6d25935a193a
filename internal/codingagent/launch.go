// Package codingagent knows how each coding agent is started in a machine.
//
// In comes an agent's name, the directory that it is to work in, the user's home
// and arguments; out comes a command line with the flag that makes the agent
// work without asking, variables that keep its files in one directory, and
// settings that answer what it would ask at its first start. The machine is the
// wall, so that nothing in it need be confirmed.
//
// The package starts nothing, and knows neither disks nor machines. What it says
// of the agents was tried with the versions that the agents' lock file pins,
// where there is one; of Gemini CLI, with 0.61.
package codingagent

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/mayfly-vm/mayfly/internal/hint"
)

// StateDir is where the agents keep their files, below the home of the guest's
// user: one directory for each agent.
const StateDir = ".local/share/mayfly-agents"

// Spec is how an agent is started.
type Spec struct {
	Agent string
	Argv  []string
	Dir   string   // where it works
	Env   []string // KEY=VALUE, on top of the machine's
	State string   // absolute; all that the agent keeps of its settings and logins
	Dirs  []string // that have to be there; absolute
	Files []File   // settings, to be written before it starts
}

// File is a file with settings: a JSON object with what must be in it and what is
// put where it says nothing, or a text that is written where no file is.
type File struct {
	Path    string // absolute
	Must    json.RawMessage
	Default json.RawMessage
	Tails   []Tail
	Text    string
}

// Tail is the end of a variable, which only the machine knows, to be put into the
// list of the object to which Keys lead.
type Tail struct {
	Keys     []string
	Variable string
	Length   int
}

// Agent is an agent that can be started.
type Agent struct {
	Name  string // and that of its program
	Title string // "Claude Code"

	unattended  []string // flags that make it work without asking
	otherwise   []string // flags with which the user says how it is to ask
	subcommands []string // that do no work, and know no such flags
	after       []string // subcommands behind which the flags stand
	interactive []string // more flags, but for the subcommands that have no screen
	headless    []string // these
	prepare     func(s *Spec)
}

// Agents returns the agents that can be started, sorted by name.
func Agents() []Agent {
	return []Agent{
		{
			Name: "claude", Title: "Claude Code",
			unattended:  []string{"--dangerously-skip-permissions"},
			otherwise:   []string{"--permission-mode", "--allow-dangerously-skip-permissions"},
			subcommands: []string{"agents", "auth", "auto-mode", "doctor", "install", "mcp", "plugin", "plugins", "project", "setup-token", "update", "upgrade"},
			prepare:     claude,
		},
		{
			Name: "codex", Title: "Codex",
			unattended: []string{"--dangerously-bypass-approvals-and-sandbox"},
			otherwise:  []string{"--yolo", "--full-auto", "-a", "--ask-for-approval", "-s", "--sandbox"},
			subcommands: []string{
				"login", "logout", "mcp", "mcp-server", "app-server", "completion", "sandbox", "debug", "apply", "a",
				"cloud", "features", "help", "review", "plugin", "update", "doctor", "agents", "remote-control", "queue",
				"archive", "unarchive", "delete", "migrate-rollouts", "migrate-nfs-db", "exec-server",
			},
			after: []string{"exec", "e", "resume", "fork"},
			// Else it leaves a server behind, which outlives the session and
			// updates the program.
			interactive: []string{"--no-daemon"},
			headless:    []string{"exec", "e"},
			prepare:     codex,
		},
		{
			Name: "gemini", Title: "Gemini CLI",
			unattended:  []string{"--yolo"},
			otherwise:   []string{"-y", "--approval-mode"},
			subcommands: []string{"mcp", "extensions", "extension", "skills", "skill", "hooks", "hook"},
			prepare:     gemini,
		},
		{
			Name: "opencode", Title: "opencode",
			unattended: []string{"--auto"},
			subcommands: []string{
				"completion", "acp", "mcp", "attach", "debug", "providers", "auth", "agent", "upgrade", "uninstall",
				"serve", "web", "models", "stats", "export", "import", "github", "pr", "session", "plugin", "plug", "db",
			},
			after:   []string{"run"},
			prepare: opencode,
		},
	}
}

// Names returns the names of all agents, sorted.
func Names() []string {
	var names []string
	for _, a := range Agents() {
		names = append(names, a.Name)
	}
	return names
}

// Launch says how agent is started in the directory dir with args, for a user
// whose home is home.
func Launch(agent, dir, home string, args []string) (Spec, error) {
	i := slices.IndexFunc(Agents(), func(a Agent) bool { return a.Name == agent })
	if i < 0 {
		return Spec{}, hint.Errorf("mayfly agent NAME "+Names()[0], "no agent %q; there is %s", agent, strings.Join(Names(), ", "))
	}
	if !path.IsAbs(dir) || !path.IsAbs(home) {
		return Spec{}, fmt.Errorf("start %s: %q or %q is not an absolute path", agent, dir, home)
	}
	a := Agents()[i]
	s := Spec{Agent: a.Name, Dir: dir, State: path.Join(home, StateDir, a.Name)}
	s.Argv = append([]string{a.Name}, a.arguments(args)...)
	s.Dirs = []string{s.State}
	a.prepare(&s)
	return s, nil
}

// Env returns the variables with which the agent keeps its files in its directory also
// when its user starts it by hand: those of its own, which mean nothing to others.
func Env(agent, home string) []string {
	s, err := Launch(agent, home, home, nil)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(s.Env, func(kv string) bool { return strings.HasPrefix(kv, "XDG_") })
}

// arguments returns args with the flags for unattended work, unless args say
// otherwise.
func (a Agent) arguments(args []string) []string {
	if len(args) > 0 && slices.Contains(a.subcommands, args[0]) {
		return args
	}
	flags := a.unattended
	if given(args, slices.Concat(a.unattended, a.otherwise)) {
		flags = nil
	}
	if len(args) == 0 || !slices.Contains(a.headless, args[0]) {
		if !given(args, a.interactive) {
			flags = slices.Concat(a.interactive, flags)
		}
	}
	if len(args) > 0 && slices.Contains(a.after, args[0]) {
		return slices.Concat(args[:1], flags, args[1:])
	}
	return slices.Concat(flags, args)
}

// given reports whether one of flags is among args.
func given(args, flags []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return slices.ContainsFunc(args, func(arg string) bool {
		name, _, _ := strings.Cut(arg, "=")
		return slices.Contains(flags, name)
	})
}

// object is a JSON object.
type object map[string]any

func (o object) encode() json.RawMessage {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // of strings, numbers and objects: cannot be
	}
	return b
}

// claude moves both ~/.claude and ~/.claude.json.
func claude(s *Spec) {
	s.Env = []string{
		"CLAUDE_CONFIG_DIR=" + s.State,
		"DISABLE_AUTOUPDATER=1", // the image's is pinned
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
	}
	s.Files = []File{
		{
			Path: path.Join(s.State, ".claude.json"),
			Must: object{
				"hasCompletedOnboarding":        true,
				"bypassPermissionsModeAccepted": true, // as older versions call it
				"projects":                      object{s.Dir: object{"hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true}},
			}.encode(),
			Default: object{"theme": "dark"}.encode(),
			// It would ask whether to use the key that it finds.
			Tails: []Tail{{Keys: []string{"customApiKeyResponses", "approved"}, Variable: "ANTHROPIC_API_KEY", Length: 20}},
		},
		{
			Path: path.Join(s.State, "settings.json"),
			Must: object{"skipDangerousModePermissionPrompt": true}.encode(),
		},
	}
}

// codex refuses to start where CODEX_HOME is not there. It writes config.toml
// itself, and asks whether it may trust a directory only where it would ask for
// permissions too.
func codex(s *Spec) {
	s.Env = []string{"CODEX_HOME=" + s.State}
	s.Files = []File{{
		Path: path.Join(s.State, "config.toml"),
		Text: "check_for_update_on_startup = false\n\n[projects." + tomlString(s.Dir) + "]\ntrust_level = \"trusted\"\n",
	}}
}

// gemini silently forgets --yolo in a directory that it does not trust.
func gemini(s *Spec) {
	s.Env = []string{"GEMINI_CLI_HOME=" + s.State, "GEMINI_CLI_TRUST_WORKSPACE=true"}
	dir := path.Join(s.State, ".gemini")
	s.Dirs = append(s.Dirs, dir)
	s.Files = []File{
		{
			Path:    path.Join(dir, "settings.json"),
			Default: object{"general": object{"enableAutoUpdate": false, "disableAutoUpdate": true}}.encode(),
		},
		{
			Path:    path.Join(dir, "trustedFolders.json"),
			Default: object{s.Dir: "TRUST_FOLDER"}.encode(),
		},
	}
}

// opencode keeps its logins where XDG_DATA_HOME says, and has no name of its own
// for that.
func opencode(s *Spec) {
	config, data := path.Join(s.State, "config"), path.Join(s.State, "data")
	s.Env = []string{"OPENCODE_CONFIG_DIR=" + config, "XDG_DATA_HOME=" + data, "OPENCODE_DISABLE_AUTOUPDATE=1"}
	s.Dirs = append(s.Dirs, config, data)
}

// tomlString quotes s as a basic string of TOML.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
