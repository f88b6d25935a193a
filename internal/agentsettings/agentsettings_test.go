package agentsettings

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
)

var update = flag.Bool("update", false, "write the golden file anew")

const guestHome = "/home/guest"

// newHome makes the home of testdata/homes.txtar.
func newHome(t *testing.T) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	archive, err := txtar.ParseFile("testdata/homes.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		text := strings.ReplaceAll(string(f.Data), "HOME", home)
		if f.Name == "links" {
			for line := range strings.Lines(text) {
				name, target, _ := strings.Cut(strings.TrimSpace(line), " -> ")
				link(t, target, filepath.Join(home, name))
			}
			continue
		}
		write(t, filepath.Join(home, f.Name), text)
	}
	if err := os.Chmod(filepath.Join(home, ".claude/status.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	return home
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func readAll(home string, getenv func(string) string) Set {
	return Read(Input{Home: home, GuestHome: guestHome, Workspace: "/work", Agents: codingagent.Names(), Getenv: getenv})
}

func unset(string) string { return "" }

func seed(_, name string) string {
	if path.Ext(name) == ".toml" {
		return "check_for_update_on_startup = false\nnotify = [\"mayfly\"]\n[tui]\nnotification_method = \"osc9\"\ntheme = \"x\"\n"
	}
	return ""
}

// What comes along of a home with settings of all agents is exactly what the golden file has,
// and nothing of it is secret.
func TestRead(t *testing.T) {
	home := newHome(t)
	set := readAll(home, unset)
	files, err := set.Pack(guestHome, "/work", seed)
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	archive := &txtar.Archive{Comment: []byte(strings.ReplaceAll(string(list), home, "HOME") + "\n")}
	for _, f := range files {
		name := f.Path
		if f.Exec {
			name += " (program)"
		}
		archive.Files = append(archive.Files, txtar.File{Name: name, Data: f.Data})
	}
	got := txtar.Format(archive)
	const golden = "testdata/golden.txtar"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("what comes along (-want +got); -update writes it:\n%s", d)
	}
	for _, f := range files {
		if bytes.Contains(f.Data, []byte("SECRET")) || bytes.Contains(f.Data, []byte(home)) {
			t.Errorf("%s has\n%s", f.Path, f.Data)
		}
	}
	for i, agent := range codingagent.Names() {
		if i >= len(set.Agents) || set.Agents[i].Name != agent || len(set.Agents[i].Files) == 0 {
			t.Errorf("nothing of %s comes along", agent)
		}
	}
}

// Between the list and the disk, files change: what looks like a secret by then stays, and so
// does what the list does not have.
func TestPackJudgesAgain(t *testing.T) {
	home := newHome(t)
	set := readAll(home, unset)
	claude := filepath.Join(home, ".claude")
	write(t, filepath.Join(claude, "CLAUDE.md"), "export API_TOKEN=0123456789abcdefSECRET\n")
	write(t, filepath.Join(claude, "commands/new.md"), "new SECRET")
	if err := os.Remove(filepath.Join(claude, "rules/go.md")); err != nil {
		t.Fatal(err)
	}
	link(t, filepath.Join(home, "private/notes.md"), filepath.Join(claude, "rules/go.md"))
	write(t, filepath.Join(home, "private/notes.md"), "token=SECRETSECRET0123456789\n-----BEGIN PRIVATE KEY-----\n")
	files, err := set.Pack(guestHome, "/work", seed)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if bytes.Contains(f.Data, []byte("SECRET")) {
			t.Errorf("%s has %s", f.Path, f.Data)
		}
	}
}

// The user's settings are on top of what mayfly writes where there is no file.
func TestOnTop(t *testing.T) {
	var got map[string]any
	data, err := encodeTOML(map[string]any{"model": "m", "tui": map[string]any{"theme": "mine"}}, seed("", "x.toml"))
	if err == nil {
		err = toml.Unmarshal(data, &got)
	}
	want := map[string]any{
		"model": "m", "check_for_update_on_startup": false, "notify": []any{"mayfly"},
		"tui": map[string]any{"theme": "mine", "notification_method": "osc9"},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("encodeTOML (-want +got), %v:\n%s", err, d)
	}
}

// A variable of the host's moves an agent's directory, with what is beside it in the home.
func TestVariableMoves(t *testing.T) {
	home, dir := newHome(t), t.TempDir()
	write(t, filepath.Join(dir, "CLAUDE.md"), "Elsewhere.")
	write(t, filepath.Join(dir, ".claude.json"), `{"theme": "dark"}`)
	set := Read(Input{Home: home, GuestHome: guestHome, Agents: []string{"claude"}, Getenv: func(name string) string {
		if name == "CLAUDE_CONFIG_DIR" {
			return dir
		}
		return ""
	}})
	if len(set.Agents) != 1 || set.Agents[0].Dir != dir || !slices.Equal(set.Agents[0].Files, []string{".claude.json", "CLAUDE.md"}) {
		t.Errorf("Read() = %+v; want the two files of %s", set, dir)
	}
}

// No link takes all of an agent's directory along, wherever a variable moved it.
func TestLinkToMoved(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, "cfg/claude")
	write(t, filepath.Join(dir, "projects/p/notes.md"), "a conversation")
	write(t, filepath.Join(dir, "CLAUDE.md"), "x")
	link(t, dir, filepath.Join(dir, "skills/itself"))
	link(t, filepath.Join(home, "cfg"), filepath.Join(dir, "skills/parent"))
	link(t, dir, filepath.Join(home, ".codex/skills/theirs"))
	set := Read(Input{Home: home, GuestHome: guestHome, Agents: []string{"claude", "codex"}, Getenv: func(name string) string {
		return map[string]string{"CLAUDE_CONFIG_DIR": dir}[name]
	}})
	if len(set.Agents) != 2 || !slices.Equal(set.Agents[0].Files, []string{"CLAUDE.md"}) || len(set.Agents[0].Left) != 2 || len(set.Agents[1].Files) != 0 {
		t.Errorf("Read() = %+v; want CLAUDE.md, and no link followed", set)
	}
}

// Bounds leave things on the host and are no errors.
func TestBounds(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, ".claude")
	write(t, filepath.Join(dir, "CLAUDE.md"), strings.Repeat("x", maxFile+1))
	write(t, filepath.Join(dir, "settings.json"), strings.Repeat("[", 1<<20-1))
	write(t, filepath.Join(dir, "skills", strings.Repeat("d/", maxDepth+1)+"SKILL.md"), "deep")
	write(t, filepath.Join(dir, "skills/binary"), "a\x00b")
	for i := range maxFiles + 10 {
		write(t, filepath.Join(dir, "commands", fmt.Sprintf("c%04d.md", i)), "c")
	}
	set := Read(Input{Home: home, GuestHome: home, Agents: []string{"claude"}, Getenv: unset})
	if len(set.Agents) != 1 || len(set.Agents[0].Files) != maxFiles {
		t.Fatalf("Read() takes %d files; want %d", len(set.Agents[0].Files), maxFiles)
	}
	left := make(map[string]string)
	for _, l := range set.Agents[0].Left {
		left[l.What] = l.Why
	}
	for _, what := range []string{"CLAUDE.md", "settings.json"} {
		if left[what] == "" {
			t.Errorf("%s is not named as left out: %v", what, left)
		}
	}
	for _, home := range []string{"", "/", filepath.Join(home, "none"), filepath.Join(dir, "CLAUDE.md")} {
		if set := Read(Input{Home: home, GuestHome: guestHome, Agents: []string{"claude", "none"}, Getenv: unset}); len(set.Agents) != 0 {
			t.Errorf("Read() of the home %q = %+v; want none", home, set)
		}
	}
}

// What nests too deep, also by the dots of its keys, is left, and so is what grows when it is
// written anew.
func TestDeep(t *testing.T) {
	deep := strings.Repeat("a.", maxNesting) + "a"
	for name, text := range map[string]string{
		"dots": "model = \"m\"\nhistory." + deep + " = 1\n",
		"head": "model = \"m\"\n[history." + deep + "]\nb = 1\n",
		"size": "",
	} {
		home := t.TempDir()
		dir, file := ".codex", "config.toml"
		if name == "size" {
			dir, file = ".config/opencode", "opencode.json"
			text = `{"agent": {"x": ` + strings.Repeat("[", 25) + strings.Repeat("1,", 50_000) + "1" + strings.Repeat("]", 25) + `}}`
		}
		write(t, filepath.Join(home, dir, file), text)
		set := readAll(home, unset)
		if len(set.Agents) != 1 || len(set.Agents[0].Files) != 0 || len(set.Agents[0].Left) != 1 || set.Agents[0].Left[0].What != file {
			t.Errorf("%s: Read() = %.1000v; want %s be left", name, set, file)
		}
	}
	j := judge{r: &reader{}}
	if out, ok := j.nested("a."+deep, map[string]any{"b": "c"}); ok || len(j.r.agent.Left) != 1 {
		t.Errorf("nested() at %d dots = %v, %v", maxNesting+1, out, j.r.agent.Left)
	}
}

// What is read is bounded, whether it is taken or not, and so are the files of all agents.
func TestBoundsOfAll(t *testing.T) {
	home := t.TempDir()
	claude, codex := filepath.Join(home, ".claude"), filepath.Join(home, ".codex")
	for i := range 70 {
		write(t, filepath.Join(claude, "skills/big", fmt.Sprintf("b%02d", i)), strings.Repeat("a\x00", maxFile/2))
	}
	write(t, filepath.Join(codex, "AGENTS.md"), "x")
	write(t, filepath.Join(codex, "config.toml"), "model = 'm'\n")
	why := func(a Agent, what string) string {
		for _, l := range a.Left {
			if strings.HasPrefix(l.What, what) {
				return l.Why
			}
		}
		return ""
	}
	set := Read(Input{Home: home, GuestHome: guestHome, Agents: []string{"claude", "codex"}, Getenv: unset})
	if got, want := why(set.Agents[0], "skills/big/b63"), "it is no text"; got != want {
		t.Errorf("the last file within the bound: %q; want %q", got, want)
	}
	if got, want := why(set.Agents[0], "skills/big/b64"), "more than 64 MiB would be read"; got != want {
		t.Errorf("the first file beyond: %q; want %q", got, want)
	}
	r := reader{}
	r.leave(strings.Repeat("é", 150)+"a", "x")
	r.leave(strings.Repeat("é", 150)+"b", "x")
	if len(r.agent.Left) != 1 {
		t.Errorf("what is the same when it is clipped is left %d times: %v", len(r.agent.Left), r.agent.Left)
	}

	if err := os.RemoveAll(claude); err != nil {
		t.Fatal(err)
	}
	for i := range maxFiles {
		write(t, filepath.Join(claude, "commands", fmt.Sprintf("c%04d.md", i)), "c")
	}
	set = Read(Input{Home: home, GuestHome: guestHome, Agents: []string{"claude", "codex"}, Getenv: unset})
	if len(set.Agents) != 2 || len(set.Agents[0].Files) != maxFiles || len(set.Agents[1].Files) != 0 ||
		why(set.Agents[1], "AGENTS.md") != tooMany || why(set.Agents[1], "config.toml") != tooMany {
		t.Errorf("beyond %d files, codex has %+v; want what it has be left", maxFiles, set.Agents[1:])
	}
}

// A file that another program has a lease on is not waited for.
func TestLease(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	write(t, name, "x")
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("no leases:", err)
	}
	begin := time.Now()
	if got, err := open(name, 0); err == nil {
		got.Close()
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("open() of a file with a lease took %v", took)
	}
}

// A variable that names the usual directory moves the file beside it, too.
func TestMoved(t *testing.T) {
	home := newHome(t)
	dir := filepath.Join(home, ".claude")
	write(t, filepath.Join(dir, ".claude.json"), `{"theme": "moved"}`)
	set := Read(Input{Home: home, GuestHome: guestHome, Agents: []string{"claude"}, Getenv: func(name string) string {
		return map[string]string{"CLAUDE_CONFIG_DIR": dir}[name]
	}})
	files, err := set.Pack(guestHome, "", seed)
	if err != nil {
		t.Fatal(err)
	}
	has := false
	for _, f := range files {
		has = has || path.Base(f.Path) == ".claude.json" && strings.Contains(string(f.Data), "moved")
	}
	if !has || !slices.Contains(set.Agents[0].Files, "status.sh") {
		t.Errorf("Read() = %+v; want .claude.json of %s, and the status line", set, dir)
	}
}

// The whole directory of an agent may be a link into dotfiles, and not one into what is hidden
// or elsewhere.
func TestLinkedDirectory(t *testing.T) {
	elsewhere := t.TempDir()
	write(t, filepath.Join(elsewhere, "CLAUDE.md"), "x")
	for target, want := range map[string]bool{
		"dotfiles/.claude": true, "dotfiles/claude": true, ".dotfiles/claude": true, ".config/dotfiles/claude": true,
		".ssh": false, ".secret/claude": false, "dotfiles/.secret/claude": false, ".codex/sessions": false, "": false,
	} {
		home := t.TempDir()
		to := elsewhere
		if target != "" {
			to = filepath.Join(home, target)
			write(t, filepath.Join(to, "CLAUDE.md"), "x")
		}
		link(t, to, filepath.Join(home, ".claude"))
		set := Read(Input{Home: home, GuestHome: home, Agents: []string{"claude"}, Getenv: unset})
		if got := len(set.Agents) == 1 && len(set.Agents[0].Files) == 1; got != want {
			t.Errorf("a link to %q: %+v; want %t", to, set, want)
		}
		if !want && (len(set.Agents) != 1 || len(set.Agents[0].Left) != 1) {
			t.Errorf("a link to %q is not named: %+v", to, set)
		}
	}
}

func TestSecret(t *testing.T) {
	for text, want := range map[string]bool{
		"claude-opus-4-20250514": false, "us.anthropic.claude-sonnet-4-5-20250929-v1:0": false, "Bash(npm run test:*)": false,
		"@modelcontextprotocol/server-sequential-thinking": false, "https://mcp.example.com/mcp": false, "mcp__github__create_pull_request": false,
		"Read(/home/u/.config/**)": false, "max_tokens=32000 means much": false, "": false,
		"Bearer abcdefgh12345": true, "ghp_012345678901234567890123456789abcdef": true, "AKIA0123456789ABCDEF": true,
		"https://user:pass@example.com": true, "--token=abcdef": true, "curl -H 'Authorization: x'": true,
		"https://mcp.example.org/s/a8f5f167f44f4964e6c998dee827110c": true, "550e8400-e29b-41d4-a716-446655440000": true, "a8f5f167f44f4964e6c998dee827110c": true, "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY": true,
		"export TOKEN=0123456789abcdef": true,
	} {
		if got := secret(text); got != want {
			t.Errorf("secret(%q) = %t; want %t", text, got, want)
		}
	}
}

// FuzzSettings has whatever a file of settings says be judged: nothing but keys of the list
// comes out, and what comes out can be read.
func FuzzSettings(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/homes.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		if ext := path.Ext(file.Name); ext == ".json" || ext == ".jsonc" || ext == ".toml" {
			f.Add(file.Data)
		}
	}
	f.Add([]byte(`{"mcpServers":{"a":{"command":["x",1]},"b":{"url":"http://[::1]:x"},"c":null}}`))
	f.Add([]byte("history." + strings.Repeat("a.", 2000) + "a = 1\n[tui.keymap." + strings.Repeat("a.", 28) + "a]\nb.c.d = \"x\"\n"))
	f.Add([]byte("a = 1979-05-27T07:32:00Z\n[[mcp_servers]]\nmodel = nan\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range codingagent.Names() {
			a, _ := codingagent.Find(name)
			own := a.OwnSettings()
			for _, file := range own.Files {
				doc, err := parse(data, file.TOML)
				if err != nil {
					continue
				}
				r := &reader{budget: &budget{}, own: own, typed: "/home/u", home: "/nowhere", guestHome: guestHome, agent: Agent{Name: name, Dir: "/nowhere"}, files: make(map[string]content)}
				j := judge{r: r, f: file}
				table := j.table("", doc)
				for key := range table {
					if file.Keys[key] == 0 && !j.parent(key) {
						t.Errorf("%s: %s comes along", file.Path, key)
					}
				}
				var out []byte
				if file.TOML {
					out, err = encodeTOML(table, "")
				} else {
					out, err = encodeJSON(table)
				}
				if err == nil {
					_, err = parse(out, file.TOML)
				}
				if err != nil {
					t.Errorf("%s: %v in\n%s", file.Path, err, out)
				}
			}
		}
	})
}
