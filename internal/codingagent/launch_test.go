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
		s, err := Launch(tt.agent, "/work/it", "/home/dev", args)
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
		s, err := Launch(name, dir, home, nil)
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
	s, err := Launch("codex", dir, "/h", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := toml.Unmarshal([]byte(s.Files[0].Text), &got); err != nil {
		t.Fatalf("%v\n%s", err, s.Files[0].Text)
	}
	want := map[string]any{
		"check_for_update_on_startup": false,
		"projects":                    map[string]any{dir: map[string]any{"trust_level": "trusted"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("config.toml: -want +got:\n%s", d)
	}

	s, err = Launch("copilot", dir, "/h", nil)
	if err != nil {
		t.Fatal(err)
	}
	var trust struct{ TrustedFolders []string }
	if err := json.Unmarshal([]byte(s.Files[0].Text), &trust); err != nil || !slices.Equal(trust.TrustedFolders, []string{dir}) {
		t.Errorf("config.json = %s, %v; want it to trust %q", s.Files[0].Text, err, dir)
	}

	s, err = Launch("claude", dir, "/h", nil)
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
	if _, err := Launch("cluade", "/d", "/h", nil); fault.CodeOf(err) != fault.AgentUnknown {
		t.Errorf("Launch(cluade) = %v; want %s", err, fault.AgentUnknown)
	}
	for _, tt := range [][2]string{{"d", "/h"}, {"/d", ""}} {
		if _, err := Launch("claude", tt[0], tt[1], nil); err == nil {
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
		s, err := Launch(agent, "/work", "/h", nil)
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
