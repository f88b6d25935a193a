package skill

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/fault"
)

func TestSkill(t *testing.T) {
	for _, s := range []string{text, stamped(text)} {
		if err := Lint(Name, s); err != nil {
			t.Errorf("SKILL.md: %v", err)
		}
	}
}

func TestLint(t *testing.T) {
	ok := "---\nname: a-b\ndescription: Makes a. Use when asked.\n---\ntext\n"
	if err := Lint("a-b", ok); err != nil {
		t.Errorf("Lint() = %v; want nil", err)
	}
	for _, test := range []struct{ old, new, want string }{
		{"---\n", "", "front matter"},
		{"name: a-b", "name: A_b", "name is"},
		{"name: a-b", "name: b-a", "name is"},
		{"name: a-b", "name: claude-b", "reserved"},
		{"name: a-b", "name: " + strings.Repeat("a", 65), "name is"},
		{"Makes a.", "Makes <b>.", "< or >"},
		{"Makes a.", strings.Repeat("a", 1024), "characters"},
		{"Makes a.", "Makes: a.", "quotes"},
		{"Makes a.", "I make a.", "third person"},
		{"Use when asked", "Ask", "Use when"},
		{"text\n", strings.Repeat("x\n", 500), "lines"},
		{"text\n", "", "lines"},
		{"description:", "colour:", "no key"},
		{"description:", "description", "no key and value"},
		{"name: a-b\n", "name: a-b\nname: a-b\n", "twice"},
	} {
		if err := Lint("a-b", strings.Replace(ok, test.old, test.new, 1)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Lint(with %q for %q) = %v; want %q", test.new, test.old, err, test.want)
		}
	}
}

// What an agent would run, for a request with and without packages.
func TestCommands(t *testing.T) {
	values := map[string]string{"NAME": "dcs", "PROFILE": "go,claude", "PACKAGE": "", "URL": "https://host.example/dcs.git"}
	var got []string
	for _, c := range Commands(text) {
		filled, err := Fill(c, values)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, filled)
	}
	want := []string{
		"mayfly ls --json",
		"mayfly new dcs --json --profile go,claude --clone https://host.example/dcs.git",
		"mayfly check dcs --json",
		"mayfly inspect dcs --json",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Commands() (-want +got):\n%s", d)
	}
	if _, err := Fill("mayfly new NAME", nil); err == nil {
		t.Error("Fill(no values) = nil; want an error")
	}
	if got := Commands("```sh\n# why\na \\\n  b\n```\nc\n```text\nd\n```\n"); len(got) != 1 || got[0] != "a b" {
		t.Errorf("Commands() = %q; want a b", got)
	}
}

func environment(home string, more ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(more); i += 2 {
			if more[i] == name {
				return more[i+1]
			}
		}
		if name == "HOME" {
			return home
		}
		return ""
	}
}

func TestInstall(t *testing.T) {
	home, project := t.TempDir(), t.TempDir()
	other := filepath.Join(home, "other")
	for _, test := range []struct {
		target Target
		want   string
	}{
		{Target{Agent: "claude", Getenv: environment(home)}, home + "/.claude/skills"},
		{Target{Agent: "claude", Getenv: environment(home, "CLAUDE_CONFIG_DIR", other)}, other + "/skills"},
		{Target{Agent: "codex", Getenv: environment(home)}, home + "/.agents/skills"},
		{Target{Agent: "copilot", Getenv: environment(home)}, home + "/.copilot/skills"},
		{Target{Agent: "copilot", Getenv: environment(home, "COPILOT_HOME", other+"/copilot")}, other + "/copilot/skills"},
		{Target{Agent: "opencode", Getenv: environment(home)}, home + "/.config/opencode/skills"},
		{Target{Agent: "opencode", Getenv: environment(home, "XDG_CONFIG_HOME", other)}, other + "/opencode/skills"},
		{Target{Agent: "gemini", Getenv: environment(home)}, home + "/.gemini/skills"},
		{Target{Agent: "gemini", Getenv: environment(home, "GEMINI_CLI_HOME", other)}, other + "/.gemini/skills"},
		{Target{Agent: "claude", Project: project}, project + "/.claude/skills"},
		{Target{Agent: "codex", Project: project}, project + "/.agents/skills"},
		{Target{Agent: "opencode", Project: project}, project + "/.opencode/skills"},
		{Target{Agent: "gemini", Project: project}, project + "/.gemini/skills"},
	} {
		path := test.want + "/create-mayfly-machine/SKILL.md"
		for _, changed := range []bool{true, false} {
			got, err := Install(test.target)
			if want := (Result{path, changed}); got != want || err != nil {
				t.Errorf("Install(%s) = %v, %v; want %v", test.target.Agent, got, err, want)
			}
		}
		if b, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(b), text) {
			t.Errorf("%s: %.40q, %v", path, b, err)
		}
		if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
			t.Errorf("%s: %v, %v; want one file", path, entries, err)
		}
	}
	_, err := Install(Target{Agent: "clippy", Project: project})
	if f, ok := fault.Of(err); !ok || f.Code != fault.SkillAgentUnknown || !strings.Contains(f.Args["known"], "opencode") {
		t.Errorf("Install(clippy) = %v; want an error with the agents", err)
	}
	if _, err := Install(Target{Agent: "claude", Getenv: environment("")}); err == nil {
		t.Error("Install(no HOME) = nil; want an error")
	}
}

func TestInstallReplaces(t *testing.T) {
	for _, test := range []struct {
		name, old string
		force, ok bool
	}{
		{"older", stamped("an older text\n"), false, true},
		{"changed", stamped("an older text\n") + "mine\n", false, false},
		{"changed in the middle", strings.Replace(stamped("an older text\n"), "older", "other", 1), false, false},
		{"somebody's", "mine\n", false, false},
		{"forced", "mine\n", true, true},
	} {
		project := t.TempDir()
		path := filepath.Join(project, ".claude/skills", Name, "SKILL.md")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(test.old), 0o644)); err != nil {
			t.Fatal(err)
		}
		_, err := Install(Target{Agent: "claude", Project: project, Force: test.force})
		want := stamped(text)
		if !test.ok {
			want = test.old
			if fault.CodeOf(err) != fault.SkillChanged {
				t.Errorf("%s: Install() = %v; want %s", test.name, err, fault.SkillChanged)
			}
		} else if err != nil {
			t.Errorf("%s: Install() = %v", test.name, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s: the file holds %.40q, %v; want %.40q", test.name, b, err, want)
		}
	}
}

// A project may be anybody's: its links lead nowhere.
func TestInstallStaysInProject(t *testing.T) {
	for _, link := range []string{".claude", ".claude/skills", ".claude/skills/" + Name, ".claude/skills/" + Name + "/SKILL.md"} {
		project, outside := t.TempDir(), t.TempDir()
		target := outside
		if strings.HasSuffix(link, ".md") {
			target = filepath.Join(outside, "file")
			if err := os.WriteFile(target, []byte("mine"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(project, link)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
			t.Fatal(err)
		}
		if res, err := Install(Target{Agent: "claude", Project: project}); err == nil {
			t.Errorf("Install(%s is a link) = %v; want an error", link, res)
		}
		Install(Target{Agent: "claude", Project: project, Force: true})
		entries, err := os.ReadDir(outside)
		if err != nil || len(entries) > 1 || len(entries) == 1 && entries[0].Name() != "file" {
			t.Errorf("%s: outside there is %v, %v", link, entries, err)
		}
		if b, err := os.ReadFile(filepath.Join(outside, "file")); err == nil && string(b) != "mine" {
			t.Errorf("%s: the file outside holds %.20q", link, b)
		}
	}
}
