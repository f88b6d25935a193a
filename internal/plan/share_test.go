package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/config"
	"github.com/mayfly-vm/mayfly/internal/fault"
)

func TestCheckShare(t *testing.T) {
	p := Protected{
		Homes: []string{"/home/u", ""}, Own: []string{"", "/home/u/.local/state/mayfly"},
		Sockets: []string{"", "/tmp/ssh-x/agent.1", "/srv/docker/docker.sock"},
	}
	for dir, want := range map[string]string{
		"/home/u/src":                          "",
		"/home/u/claude-microvm":               "",
		"/tmp/ssh-y":                           "",
		"/srv/docker-data":                     "",
		"/runner/x":                            "",
		"/":                                    "whole file system",
		"src":                                  "not an absolute path",
		"/home/u":                              "your home",
		"/home":                                "holds your home",
		"/home/u/.ssh":                         "secrets",
		"/home/u/.aws/x":                       "secrets",
		"/home/u/.gnupg":                       "secrets",
		"/home/u/.config":                      "all your programs",
		"/etc/ssl":                             "directory of the system",
		"/run":                                 "directory of the system",
		"/run/user/1000":                       "system's sockets",
		"/var/run/x":                           "system's sockets",
		"/tmp/ssh-x":                           "holds the socket /tmp/ssh-x/agent.1",
		"/srv/docker":                          "holds the socket /srv/docker/docker.sock",
		"/srv/docker/docker.sock":              "holds the socket",
		"/home/u/.local/state":                 "mayfly's own",
		"/home/u/.local/state/mayfly/machines": "mayfly's own",
		"/home/u/a\nb":                         "not printable",
	} {
		err := CheckShare(dir, p)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || fault.CodeOf(err) != fault.ShareRefused) {
			t.Errorf("CheckShare(%q) = %v; want %q", dir, err, want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("CheckShare(%q) = %q; cannot be printed", dir, err)
		}
	}
}

// shared plans a machine of ada's with these shares.
func shared(t *testing.T, ws string, shares ...config.Share) (Plan, error) {
	t.Helper()
	cfg := config.Default()
	cfg.Shares = shares
	if ws != "" {
		cfg.Workspace.Mode = ws
	}
	facts := readFacts(t, "laptop")
	in := Input{Name: "m", Workspace: "/home/ada/src/project", Home: "/home/ada", ShareServer: &ShareServer{Path: "/usr/libexec/virtiofsd", Kind: VirtiofsdRust, Version: "1.13.2"}}
	in.Shares = SharePaths(cfg, facts.User.Home)
	return New(cfg, facts, in)
}

// Who shares a part of a directory once more is told that its guards do not hold there.
func TestOverlappingShares(t *testing.T) {
	for _, hide := range [][]string{nil, {"*.key"}} {
		p, err := shared(t, "", config.Share{Source: "/srv/data", Path: "/a", Hide: hide}, config.Share{Source: "/srv/data/sub", Path: "/b"})
		if err != nil {
			t.Fatal(err)
		}
		tells := func(note string) bool { return strings.HasPrefix(note, "/srv/data is also live by /srv/data/sub: ") }
		if slices.ContainsFunc(p.Notes, tells) != (hide != nil) {
			t.Errorf("hide %q: notes %q", hide, p.Notes)
		}
	}
}

// What is hidden is so in a copy, too; what is protected is of a live share alone.
func TestGuards(t *testing.T) {
	cfg := config.Default()
	cfg.Workspace.Exclude, cfg.Workspace.Hide, cfg.Workspace.Protect = []string{"*.iso"}, []string{".env"}, []string{"/deploy"}
	cfg.Workspace.Hooks = false
	cfg.Shares = []config.Share{{Source: "/srv/data", Hide: []string{"*.key"}, Protect: []string{"conf"}}}
	for _, mode := range []string{ModeCopy, ModeShare} {
		cfg.Workspace.Mode = mode
		in := Input{Name: "m", Workspace: "/home/ada/src/project", Home: "/home/ada", ShareServer: &ShareServer{Path: "/usr/libexec/virtiofsd", Kind: VirtiofsdRust, Version: "1.13.2"}}
		in.Shares = SharePaths(cfg, "/home/ada")
		p, err := New(cfg, readFacts(t, "laptop"), in)
		if err != nil {
			t.Fatal(err)
		}
		data := Share{Source: "/srv/data", Path: "/srv/data", Hide: []string{"*.key"}, Protect: []string{"conf"}, Tag: "share0"}
		want, exclude := []Share{data}, []string{"*.iso", ".env"}
		protects := func(note string) bool { return strings.HasPrefix(note, "workspace.protect has no effect") }
		if mode == ModeShare {
			data.Tag = "share1"
			live := Share{Source: in.Workspace, Path: in.Workspace, Hide: []string{".env"}, Protect: []string{"/deploy"}, Tag: "share0"}
			want, exclude = []Share{live, data}, []string{"*.iso"}
		}
		if d := cmp.Diff(want, p.Shares); d != "" {
			t.Errorf("%s: shares (-want +got):\n%s", mode, d)
		}
		if d := cmp.Diff(exclude, p.Workspace.Exclude); d != "" || slices.ContainsFunc(p.Notes, protects) != (mode == ModeCopy) {
			t.Errorf("%s: notes %q, exclude (-want +got):\n%s", mode, p.Notes, d)
		}
	}
}

func TestShares(t *testing.T) {
	p, err := shared(t, ModeShare, config.Share{Source: "~/agent", Path: "~/state"}, config.Share{Source: "/srv/data", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []Share{
		{Source: "/home/ada/src/project", Path: "/home/ada/src/project", Tag: "share0", Hooks: true},
		{Source: "/home/ada/agent", Path: "/home/ada/state", Tag: "share1"},
		{Source: "/srv/data", Path: "/srv/data", ReadOnly: true, Tag: "share2"},
	}
	if d := cmp.Diff(want, p.Shares); d != "" {
		t.Errorf("Shares: (-want +got)\n%s", d)
	}
	if p.ShareServer == nil || p.ShareServer.Kind != VirtiofsdRust {
		t.Errorf("ShareServer = %+v; want that of the input", p.ShareServer)
	}
	// vhost-user and memory that is copied on write exclude each other.
	if want := (Template{Reason: "it has live directories"}); !cmp.Equal(p.Template, want) {
		t.Errorf("Template = %+v; want %+v", p.Template, want)
	}
	if p.Workspace.Copied() || p.Dir() != "/home/ada/src/project" {
		t.Errorf("Workspace = %+v; want it live, and commands to start there", p.Workspace)
	}
	if !strings.Contains(strings.Join(p.Notes, "\n"), "/home/ada/src/project is live") {
		t.Errorf("Notes = %q; want one on the workspace", p.Notes)
	}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(data)
	if d := cmp.Diff(p, again); err != nil || d != "" {
		t.Errorf("Decode(Encode(p)): %v\n%s", err, d)
	}

	none, err := shared(t, "")
	if err != nil || none.Shares != nil || none.ShareServer != nil || !none.Template.Use {
		t.Errorf("without shares: %+v, %+v, %+v, %v; want none and a template", none.Shares, none.ShareServer, none.Template, err)
	}
}

// Where an agent of the host has its log-in, the user is told what becomes of it.
func TestSharedLogins(t *testing.T) {
	for source, want := range map[string]string{
		"~/.claude": "Claude Code", "~/.codex": "Codex", "~/.copilot": "Copilot", "~/.gemini": "Gemini", "~/.local/share/opencode": "opencode",
		"~/.claude/skills": "", "~/agent": "", "~/.config/opencode": "",
	} {
		p, err := shared(t, "", config.Share{Source: source, ReadOnly: true})
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		notes := strings.Join(p.Notes, "\n")
		if got := strings.Contains(notes, "keeps its log-in on this host"); got != (want != "") || !strings.Contains(notes, want) {
			t.Errorf("%s: notes %q; want one on %q", source, notes, want)
		}
	}
}

func TestSharesRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		mode   string
		shares []config.Share
		want   string
	}{
		"a home":                         {shares: []config.Share{{Source: "~"}}, want: "your home"},
		"keys":                           {shares: []config.Share{{Source: "~/.ssh", ReadOnly: true}}, want: "secrets"},
		"on the machine's home":          {shares: []config.Share{{Source: "/srv/x", Path: "~"}}, want: "home directory of the machine's user"},
		"on the machine's root":          {shares: []config.Share{{Source: "/srv/x", Path: "/"}}, want: "its path in the machine, /"},
		"on the machine's system":        {shares: []config.Share{{Source: "/srv/x", Path: "/etc/cron.d"}}, want: "/etc/cron.d"},
		"on its programs":                {shares: []config.Share{{Source: "/srv/x", Path: "/usr/bin/x"}}, want: "machine's own"},
		"on its sockets":                 {shares: []config.Share{{Source: "/srv/x", Path: "/run/x"}}, want: "machine's own"},
		"in the copied workspace":        {shares: []config.Share{{Source: "/srv/x", Path: "/home/ada/src/project/x"}}, want: "overlaps the workspace"},
		"over the copied workspace":      {shares: []config.Share{{Source: "/home/ada/src"}}, want: "overlaps the workspace"},
		"in the live workspace":          {mode: ModeShare, shares: []config.Share{{Source: "/home/ada/src/project/x"}}, want: "overlaps that of /home/ada/src/project"},
		"twice":                          {shares: []config.Share{{Source: "/srv/x"}, {Source: "/srv/y", Path: "/srv/x"}}, want: "overlaps that of /srv/x"},
		"control characters in the path": {shares: []config.Share{{Source: "/srv/x", Path: "/srv/\n"}}, want: "no absolute path"},
		"too many": {shares: func() (all []config.Share) {
			for _, c := range "abcdefghi" {
				all = append(all, config.Share{Source: "/srv/" + string(c)})
			}
			return all
		}(), want: "a machine can have 8"},
	} {
		if _, err := shared(t, tt.mode, tt.shares...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: New() = %v; want an error with %q", name, err, tt.want)
		}
	}
}
