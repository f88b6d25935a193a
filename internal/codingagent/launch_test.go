package codingagent

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

func TestLaunchArgv(t *testing.T) {
	const (
		claude = "--dangerously-skip-permissions"
		codex  = "--dangerously-bypass-approvals-and-sandbox"
	)
	for _, tt := range []struct{ agent, args, want string }{
		{"claude", "", "claude " + claude},
		{"claude", "-p hi", "claude " + claude + " -p hi"},
		{"claude", "--version", "claude " + claude + " --version"},
		{"claude", "-p hi " + claude, "claude -p hi " + claude},
		{"claude", "--permission-mode plan", "claude --permission-mode plan"},
		{"claude", "--permission-mode=plan", "claude --permission-mode=plan"},
		{"claude", "-- --permission-mode", "claude " + claude + " -- --permission-mode"},
		{"claude", "mcp list", "claude mcp list"},
		{"codex", "", "codex --no-daemon " + codex},
		{"codex", "fix", "codex --no-daemon " + codex + " fix"},
		{"codex", "exec fix", "codex exec " + codex + " fix"},
		{"codex", "resume", "codex resume --no-daemon " + codex},
		{"codex", "--no-daemon", "codex " + codex + " --no-daemon"},
		{"codex", "login", "codex login"},
		{"codex", "-a never", "codex --no-daemon -a never"},
		{"codex", "exec --yolo fix", "codex exec --yolo fix"},
		{"copilot", "", "copilot --allow-all"},
		{"copilot", "-p hi", "copilot --allow-all -p hi"},
		{"copilot", "--deny-tool=shell -p hi", "copilot --allow-all --deny-tool=shell -p hi"},
		{"copilot", "--allow-tool=write -p hi", "copilot --allow-tool=write -p hi"},
		{"copilot", "login", "copilot login"},
		{"gemini", "", "gemini --yolo"},
		{"gemini", "-y", "gemini -y"},
		{"gemini", "--approval-mode=plan", "gemini --approval-mode=plan"},
		{"opencode", "", "opencode --auto"},
		{"opencode", "run fix", "opencode run --auto fix"},
		{"opencode", "auth login", "opencode auth login"},
	} {
		args := strings.Fields(tt.args)
		before := slices.Clone(args)
		s, err := Launch(tt.agent, Place{Dir: "/work/it", Home: "/home/dev"}, args)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.Argv, " "); got != tt.want {
			t.Errorf("Launch(%s, %q).Argv = %q; want %q", tt.agent, tt.args, got, tt.want)
		}
		if !slices.Equal(args, before) {
			t.Errorf("Launch(%s, %q) changed its arguments to %q", tt.agent, tt.args, args)
		}
	}
}

// All that an agent keeps is below one directory, and settings are objects.
func TestLaunchState(t *testing.T) {
	const dir, home = `/work/a "b\c`, "/home/dev"
	for _, name := range Names() {
		s, err := Launch(name, Place{Dir: dir, Home: home}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := path.Join(home, StateDir, name)
		if s.State != want || s.Agent != name || s.Dir != dir || s.Argv[0] != name || s.Dirs[0] != want {
			t.Errorf("Launch(%s) = %+v; want its state in %s", name, s, want)
		}
		for _, p := range append(slices.Clone(s.Dirs), paths(s)...) {
			if !strings.HasPrefix(p+"/", want+"/") {
				t.Errorf("Launch(%s): %s is not below %s", name, p, want)
			}
		}
		if !slices.ContainsFunc(s.Env, func(kv string) bool { return strings.Contains(kv, "="+want) }) {
			t.Errorf("Launch(%s).Env = %q; want its directory", name, s.Env)
		}
		for _, f := range s.Files {
			for _, data := range []json.RawMessage{f.Must, f.Default} {
				var object map[string]any
				if len(data) > 0 && json.Unmarshal(data, &object) != nil {
					t.Errorf("Launch(%s): %s is no object: %s", name, f.Path, data)
				}
			}
			if (f.Text == "") == (len(f.Must)+len(f.Default) == 0) {
				t.Errorf("Launch(%s): %s is neither an object nor a text, or both", name, f.Path)
			}
		}
	}
}

func paths(s Spec) []string {
	var all []string
	for _, f := range s.Files {
		all = append(all, f.Path)
	}
	return all
}

func TestLaunchSettings(t *testing.T) {
	const dir = "/work/a \"b\\c\x01ä.d"
	s, err := Launch("codex", Place{Dir: dir, Home: "/h"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := toml.Unmarshal([]byte(s.Files[0].Text), &got); err != nil {
		t.Fatalf("%v\n%s", err, s.Files[0].Text)
	}
	want := map[string]any{
		"check_for_update_on_startup": false,
		"notify":                      []any{"sh", "-c", "test ! -x /run/mayfly-session/mayfly-guest || " + Hook + ` "$1"`, "sh"},
		"tui":                         map[string]any{"notification_method": "osc9", "notification_condition": "always"},
		"analytics":                   map[string]any{"enabled": false},
		"features":                    map[string]any{"plugins": false, "api_key_model_discovery": false},
		"projects":                    map[string]any{dir: map[string]any{"trust_level": "trusted"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("config.toml: -want +got:\n%s", d)
	}

	s, err = Launch("copilot", Place{Dir: dir, Home: "/h"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var trust struct{ TrustedFolders []string }
	if err := json.Unmarshal([]byte(s.Files[0].Text), &trust); err != nil || !slices.Equal(trust.TrustedFolders, []string{dir}) {
		t.Errorf("config.json = %s, %v; want it to trust %q", s.Files[0].Text, err, dir)
	}

	s, err = Launch("claude", Place{Dir: dir, Home: "/h"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var state struct {
		HasCompletedOnboarding bool
		Projects               map[string]struct{ HasTrustDialogAccepted bool }
	}
	if err := json.Unmarshal(s.Files[0].Must, &state); err != nil || !state.HasCompletedOnboarding || !state.Projects[dir].HasTrustDialogAccepted {
		t.Errorf(".claude.json = %s, %v; want no dialogs in %q", s.Files[0].Must, err, dir)
	}
}

func TestLaunchRefuses(t *testing.T) {
	if _, err := Launch("cluade", Place{Dir: "/d", Home: "/h"}, nil); fault.CodeOf(err) != fault.AgentUnknown {
		t.Errorf("Launch(cluade) = %v; want %s", err, fault.AgentUnknown)
	}
	for _, tt := range [][2]string{{"d", "/h"}, {"/d", ""}} {
		if _, err := Launch("claude", Place{Dir: tt[0], Home: tt[1]}, nil); err == nil {
			t.Errorf("Launch(%q) = nil; want an error", tt)
		}
	}
}

// The key that the user lends an agent is where that one looks for it, and only if there
// is one.
func TestLaunchKeys(t *testing.T) {
	for agent, want := range map[string]struct{ file, variable string }{
		"codex":  {"auth.json", "OPENAI_API_KEY"},
		"gemini": {".gemini/settings.json", "GEMINI_API_KEY"},
	} {
		s, err := Launch(agent, Place{Dir: "/work", Home: "/h"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(s.Files, func(f File) bool { return f.Variable != "" })
		if i < 0 || s.Files[i].Path != path.Join(s.State, want.file) || s.Files[i].Variable != want.variable {
			t.Errorf("Launch(%s).Files = %+v; want %s with %s", agent, s.Files, want.file, want.variable)
			continue
		}
		if text := s.Files[i].Text; text != "" {
			var auth struct {
				Mode string `json:"auth_mode"`
				Key  string `json:"OPENAI_API_KEY"`
			}
			if err := json.Unmarshal([]byte(strings.ReplaceAll(text, Value, `"sk-1"`)), &auth); err != nil || auth.Mode != "apikey" || auth.Key != "sk-1" {
				t.Errorf("%s: %v: %s", agent, err, text)
			}
		}
	}
}

// An agent has its files where the user's variables and mounts say, and what is not said
// stays as it was: the variables are left to the machine.
func TestLaunchPlace(t *testing.T) {
	const home = "/home/dev"
	env := func(kv ...string) map[string]string {
		m := make(map[string]string)
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for _, tt := range []struct {
		name, agent string
		at          Place
		file        string   // the first of its settings
		env         []string // that it has, or with "!" has not
		links       []string // PATH TARGET
	}{
		{
			"as mayfly has it", "claude", Place{}, "/S/claude/.claude.json",
			[]string{"CLAUDE_CONFIG_DIR=/S/claude", "!BASH_DEFAULT_TIMEOUT_MS"}, []string{"/home/dev/.claude /S/claude"},
		},
		{
			"as a machine repeats it", "claude", Place{Env: env("CLAUDE_CONFIG_DIR", "/S/claude")}, "/S/claude/.claude.json",
			[]string{"!CLAUDE_CONFIG_DIR", "DISABLE_AUTOUPDATER=1"}, []string{"/home/dev/.claude /S/claude"},
		},
		{
			"a place of the user's", "claude", Place{Env: env("CLAUDE_CONFIG_DIR", "/srv/c", "DISABLE_AUTOUPDATER", "0")}, "/srv/c/.claude.json",
			[]string{"!CLAUDE_CONFIG_DIR", "!DISABLE_AUTOUPDATER"}, []string{"/home/dev/.claude /srv/c"},
		},
		{
			"the agent's own place", "claude", Place{Env: env("CLAUDE_CONFIG_DIR", home+"/.claude")}, home + "/.claude/.claude.json",
			[]string{"!CLAUDE_CONFIG_DIR"}, nil,
		},
		{
			"no variable", "claude", Place{Env: env("CLAUDE_CONFIG_DIR", "")}, home + "/.claude.json",
			[]string{"!CLAUDE_CONFIG_DIR"}, nil,
		},
		{
			"a share in its place", "claude", Place{Mounts: []string{home + "/.claude"}}, home + "/.claude/.claude.json",
			[]string{"CLAUDE_CONFIG_DIR=/home/dev/.claude"}, nil,
		},
		{
			"a share of mayfly's place", "claude", Place{Mounts: []string{"/S"}}, "/S/claude/.claude.json",
			[]string{"CLAUDE_CONFIG_DIR=/S/claude"}, []string{"/home/dev/.claude /S/claude"},
		},
		{
			"an emulated CPU", "claude", Place{Emulated: true, Env: env("BASH_MAX_TIMEOUT_MS", "1")}, "/S/claude/.claude.json",
			[]string{"BASH_DEFAULT_TIMEOUT_MS=600000", "!BASH_MAX_TIMEOUT_MS"}, []string{"/home/dev/.claude /S/claude"},
		},
		{
			"the workspace is the agent's directory", "claude", Place{Dir: home + "/.claude"}, "/S/claude/.claude.json",
			[]string{"CLAUDE_CONFIG_DIR=/S/claude"}, nil,
		},
		{
			"another agent's variable", "codex", Place{Env: env("CLAUDE_CONFIG_DIR", "/srv/c")}, "/S/codex/config.toml",
			[]string{"CODEX_HOME=/S/codex"}, []string{"/home/dev/.codex /S/codex"},
		},
		{
			"codex elsewhere", "codex", Place{Env: env("CODEX_HOME", "/srv/c")}, "/srv/c/config.toml",
			[]string{"!CODEX_HOME"}, []string{"/home/dev/.codex /srv/c"},
		},
		{
			"a home below the variable", "gemini", Place{Env: env("GEMINI_CLI_HOME", "/srv/g")}, "/srv/g/.gemini/settings.json",
			[]string{"!GEMINI_CLI_HOME"}, []string{"/home/dev/.gemini /srv/g/.gemini"},
		},
		{
			"a volume below the variable", "gemini", Place{Mounts: []string{home + "/.gemini"}}, home + "/.gemini/settings.json",
			[]string{"GEMINI_CLI_HOME=/home/dev"}, nil,
		},
		{
			"two directories, one above mounted", "opencode", Place{Mounts: []string{home + "/.config"}}, "",
			[]string{"OPENCODE_CONFIG_DIR=/home/dev/.config/opencode", "XDG_DATA_HOME=/S/opencode/data"},
			[]string{"/home/dev/.local/share/opencode /S/opencode/data/opencode"},
		},
		{
			"data of the user's", "opencode", Place{Env: env("XDG_DATA_HOME", "/srv/d")}, "",
			[]string{"OPENCODE_CONFIG_DIR=/S/opencode/config", "!XDG_DATA_HOME"},
			[]string{"/home/dev/.config/opencode /S/opencode/config", "/home/dev/.local/share/opencode /srv/d/opencode"},
		},
	} {
		state := func(s string) string { return strings.ReplaceAll(s, "/S", home+"/"+StateDir) }
		at := tt.at
		at.Home = home
		if at.Dir == "" {
			at.Dir = "/work"
		}
		for i, m := range at.Mounts {
			at.Mounts[i] = state(m)
		}
		for k, v := range at.Env {
			at.Env[k] = state(v)
		}
		s, err := Launch(tt.agent, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.file != "" && s.Files[0].Path != state(tt.file) {
			t.Errorf("%s: settings are in %s; want %s", tt.name, s.Files[0].Path, state(tt.file))
		}
		for _, want := range tt.env {
			key, not := strings.CutPrefix(want, "!")
			has := slices.ContainsFunc(s.Env, func(kv string) bool {
				return kv == state(key) || not && strings.HasPrefix(kv, key+"=")
			})
			if has == not {
				t.Errorf("%s: Env = %q; want %s", tt.name, s.Env, want)
			}
		}
		var links []string
		for _, l := range s.Links {
			links = append(links, l.Path+" "+l.Target)
		}
		for i := range tt.links {
			tt.links[i] = state(tt.links[i])
		}
		if d := cmp.Diff(tt.links, links); d != "" {
			t.Errorf("%s: links: -want +got:\n%s", tt.name, d)
		}
	}
}

// The hooks that say what an agent does are put beside the user's, in its own words, and
// are the same at each start: a list does not grow.
func TestHooks(t *testing.T) {
	place := Place{Dir: "/work/it", Home: "/home/dev"}
	claude, err := Launch("claude", place, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(claude.Files, func(f File) bool { return path.Base(f.Path) == "settings.json" })
	var events []string
	for _, item := range claude.Files[i].Items {
		var entry struct {
			Matcher string
			Hooks   []struct {
				Type, Command string
				Timeout       int
			}
		}
		if err := json.Unmarshal(item.Value, &entry); err != nil {
			t.Fatal(err)
		}
		if len(item.Keys) != 2 || item.Keys[0] != "hooks" || len(entry.Hooks) != 1 || entry.Hooks[0].Type != "command" ||
			!strings.HasSuffix(entry.Hooks[0].Command, "|| "+Hook) || entry.Hooks[0].Timeout == 0 {
			t.Errorf("the hook %v is %s", item.Keys, item.Value)
		}
		events = append(events, item.Keys[1])
	}
	if want := []string{"SessionStart", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "Notification", "Stop", "StopFailure"}; !slices.Equal(events, want) {
		t.Errorf("Claude Code's hooks are of %q; want %q", events, want)
	}
	again, err := Launch("claude", place, nil)
	if err != nil || cmp.Diff(claude.Files, again.Files) != "" {
		t.Errorf("another start has other settings, or %v: %s", err, cmp.Diff(claude.Files, again.Files))
	}

	codex, err := Launch("codex", place, nil)
	if err != nil {
		t.Fatal(err)
	}
	var settings struct {
		Notify []string
		TUI    struct {
			Method    string `toml:"notification_method"`
			Condition string `toml:"notification_condition"`
		}
		Projects map[string]any
	}
	if err := toml.Unmarshal([]byte(codex.Files[0].Text), &settings); err != nil {
		t.Fatal(err)
	}
	if n := settings.Notify; len(n) != 4 || !strings.Contains(n[2], Hook+` "$1"`) {
		t.Errorf("Codex's notify is %q", n)
	}
	if settings.TUI.Method != "osc9" || settings.TUI.Condition != "always" || settings.Projects["/work/it"] == nil {
		t.Errorf("Codex's settings are %+v", settings)
	}
}
