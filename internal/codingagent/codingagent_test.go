package codingagent

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/credential"
)

// A row is complete, and says nothing that another one says.
func TestAgents(t *testing.T) {
	if !slices.IsSorted(Names()) {
		t.Errorf("Names() = %v; want them sorted", Names())
	}
	name := regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	seen := make(map[string]string)
	for _, a := range Agents() {
		if !name.MatchString(a.Name) || a.Title == "" || len(a.Hosts) == 0 || len(a.stores) == 0 || len(a.unattended) == 0 {
			t.Errorf("the row of %q lacks its name, title, hosts, stores or flags", a.Name)
		}
		if a.Skills.Project == "" || a.Skills.User == "" {
			t.Errorf("%s looks for skills nowhere: %+v", a.Name, a.Skills)
		}
		if strings.Count(a.Package, "@VERSION") != 1 || len(a.Files) == 0 || a.Program == "" {
			t.Errorf("%s is the package %q with %q and the program %q", a.Name, a.Package, a.Files, a.Program)
		}
		for _, key := range append(slices.Clone(a.Nix), a.Package) {
			if other := seen[key]; other != "" {
				t.Errorf("%s is both %s and %s", key, other, a.Name)
			}
			seen[key] = a.Name
		}
	}
}

// Each agent has one place with transcripts, which a variable moves and the user's own name
// for it leads to.
func TestAllTranscripts(t *testing.T) {
	all := AllTranscripts("/h")
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
		if p.Variable == "" || len(p.Files) == 0 || len(p.Dirs) != 2 || !strings.HasPrefix(p.Dirs[0], "/h/"+StateDir+"/"+p.Name) {
			t.Errorf("the transcripts of %s are %+v", p.Name, p)
		}
		s, err := Launch(p.Name, Place{Dir: "/work", Home: "/h"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(s.Links, func(l Link) bool { return l.Path == p.Dirs[1] && l.Target == p.Dirs[0] }) {
			t.Errorf("%s keeps its files by %+v, and has transcripts in %q", p.Name, s.Links, p.Dirs)
		}
	}
	if !slices.Equal(names, Names()) {
		t.Errorf("there are transcripts of %q; want of %q", names, Names())
	}
}

func TestFind(t *testing.T) {
	if a, ok := Find(Default); !ok || a.Name != Default {
		t.Errorf("Find(%q) = %+v, %t", Default, a, ok)
	}
	if a, ok := FindNix("claude-code"); !ok || a.Name != "claude" {
		t.Errorf("FindNix(claude-code) = %+v, %t", a, ok)
	}
	for _, name := range []string{"", "cluade"} {
		if a, ok := Find(name); ok {
			t.Errorf("Find(%q) = %+v", name, a)
		}
		if a, ok := FindNix(name); ok {
			t.Errorf("FindNix(%q) = %+v", name, a)
		}
	}
}

func TestNPM(t *testing.T) {
	a, _ := Find("codex")
	if got, want := a.NPM("1.2"), "@openai/codex@1.2-linux-x64"; got != want {
		t.Errorf("NPM(1.2) = %q; want %q", got, want)
	}
}

// A refusal is in the form of the host's API, and is valid JSON whatever it says.
func TestRefusal(t *testing.T) {
	for host, want := range map[string]string{
		"api.anthropic.com":                 `{"error":{"message":"mayfly: \"no\"","type":"permission_error"},"type":"error"}` + "\n",
		"api.openai.com":                    `{"error":{"code":"refused_by_mayfly","message":"mayfly: \"no\"","param":null,"type":"permission_error"}}` + "\n",
		"chatgpt.com":                       `{"error":{"code":"refused_by_mayfly","message":"mayfly: \"no\"","param":null,"type":"permission_error"}}` + "\n",
		"generativelanguage.googleapis.com": `{"error":{"code":403,"message":"mayfly: \"no\"","status":"PERMISSION_DENIED"}}` + "\n",
		"api.github.com":                    `{"message":"mayfly: \"no\"","status":"Forbidden"}` + "\n",
		"api.business.githubcopilot.com":    `{"error":{"code":"refused_by_mayfly","message":"mayfly: \"no\"","param":null,"type":"permission_error"}}` + "\n",
		"github.com":                        "",
		"example.org":                       "",
	} {
		if got := Refusal(host, 403, `mayfly: "no"`); string(got) != want {
			t.Errorf("Refusal(%s) = %s; want %s", host, got, want)
		}
	}
	if got := Refusal("api.anthropic.com", 502, "x"); !strings.Contains(string(got), "api_error") {
		t.Errorf("a refusal that may be tried again: %s", got)
	}
}

// Where an API has a form for errors, it is known where it takes a key.
func TestKeys(t *testing.T) {
	for _, a := range Agents() {
		for _, h := range a.Hosts {
			if (h.Errors != "") != (len(h.Keys) > 0) && h.Errors != GitHubErrors {
				t.Errorf("%s at %s: errors %q, keys %v", a.Name, h.Name, h.Errors, h.Keys)
			}
		}
	}
}

// A host that an agent does not need is exactly that one, and is let through nowhere.
func TestNeedless(t *testing.T) {
	for host, want := range map[string]string{
		"downloads.claude.ai": "claude", "ab.chatgpt.com": "codex", "play.googleapis.com": "gemini",
		"x.downloads.claude.ai": "", "claude.ai": "", "github.com": "", "raw.githubusercontent.com": "", "": "",
	} {
		if got := NeedlessOf(host); got != want {
			t.Errorf("NeedlessOf(%q) = %q; want %q", host, got, want)
		}
	}
	for _, a := range Agents() {
		for _, name := range a.Needless {
			for _, other := range Agents() {
				for _, h := range other.Hosts {
					if credential.Covers(h.Name, name) {
						t.Errorf("%s does not need %s, and %s reaches it", a.Name, name, other.Name)
					}
				}
			}
		}
	}
}
