package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly"
)

// session is what a guest leaves with changes of each class.
var session = map[string]string{
	"main.go": "package main\n", "docs/a.md": "text\n",
	"run.sh":                "true\n",
	".claude/settings.json": `{"hooks": {"Stop": "sh x"}}`,
	"CON":                   "odd\n",
	".git/hooks/pre-commit": "#!/bin/sh\n",
}

const (
	builds     = "run.sh"
	runs       = ".claude/settings.json"
	suspicious = "CON"
	withheld   = ".git/hooks/pre-commit"
)

// sessionMachine is a machine with these changes, and with a list of the directories that
// they are in.
func sessionMachine(t *testing.T, home string, files map[string]string) *fakeMachine {
	t.Helper()
	m := runFakeMachine(t, home, files)
	for name := range files {
		for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
			m.dirs = append(m.dirs, dir)
		}
	}
	slices.Sort(m.dirs)
	m.dirs = slices.Compact(m.dirs)
	return m
}

// onHost returns the files in the directory of a machine.
func (m *fakeMachine) onHost(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir(m.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, m.dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// Without a terminal only ordinary changes are applied, and those that a path or a flag
// names. What never comes back does not, whatever is asked for.
func TestApplySelection(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string // files
		code int
	}{
		"nothing":        {nil, "docs/a.md main.go", exitHeld},
		"a path":         {[]string{"docs"}, "docs/a.md", exitOK},
		"a file":         {[]string{"main.go", runs}, runs + " main.go", exitOK},
		"a directory":    {[]string{".claude"}, "", exitHeld},
		"a class":        {[]string{"--only", "builds"}, builds, exitOK},
		"two classes":    {[]string{"--only", "builds,ordinary"}, "docs/a.md main.go " + builds, exitOK},
		"all":            {[]string{"--all"}, runs + " " + suspicious + " docs/a.md main.go " + builds, exitHeld},
		"all but":        {[]string{"--all", "--except", ".git", "--except", "/docs", "--except", suspicious}, runs + " main.go " + builds, exitOK},
		"what is hidden": {[]string{withheld}, "", exitHeld},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			m := sessionMachine(t, home, session)
			code := 0
			err := userOf(t, home, nil).command(append([]string{"apply", "m"}, tt.args...)...)
			if exit, ok := errors.AsType[exitCode](err); ok {
				code = int(exit)
			} else if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(m.onHost(t), " "); got != tt.want || code != tt.code {
				t.Errorf("apply %q leaves %q with exit code %d; want %q and %d", tt.args, got, code, tt.want, tt.code)
			}
		})
	}
}

// What is wrong with the arguments is said before anything is applied.
func TestApplyMistakes(t *testing.T) {
	home := t.TempDir()
	m := sessionMachine(t, home, session)
	for _, tt := range []struct{ args, want string }{
		{"--all --only runs", "--all and --only exclude each other"},
		{"--only executes", "--only executes: a class is ordinary, builds, runs or suspicious"},
		{"docs --rebase", "--branch, --checkout, --rebase and --sign are for commits, which do not come with single paths"},
		{"docs --sign", "--branch, --checkout, --rebase and --sign are for commits, which do not come with single paths"},
		{"docs elsewhere", "elsewhere: nothing there was changed"},
		{"--except [", "exclude pattern [: syntax error"},
	} {
		err := userOf(t, home, nil).command(append([]string{"apply", "m"}, strings.Fields(tt.args)...)...)
		if err == nil || err.Error() != tt.want {
			t.Errorf("apply %s = %v; want %q", tt.args, err, tt.want)
		}
	}
	if got := m.onHost(t); len(got) > 0 {
		t.Errorf("the directory has %q", got)
	}
}

// diff lists by class, with reasons, and with the same words for programs.
func TestDiffClasses(t *testing.T) {
	home := t.TempDir()
	sessionMachine(t, home, session)
	list, notes := userOf(t, home, nil).printed(t, "diff", "m")
	want := []string{
		"A  docs/a.md (5 B)", "A  main.go (13 B)",
		"run when you build, test, install or push:", "  A  run.sh (5 B): ",
		"run, or are obeyed, by themselves:", "  A  .claude/settings.json (27 B): ", "  A  .git/hooks/pre-commit (10 B): git runs this hook",
		"suspicious:", "  A  CON (4 B): name acts as an option or a command",
	}
	lines := strings.Split(strings.TrimSpace(list), "\n")
	if len(lines) != len(want) {
		t.Fatalf("diff printed %q", lines)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("diff printed %q; want %q", line, want[i])
		}
	}
	if !strings.Contains(notes, "mayfly: 2 ordinary, 1 runs when you build, 2 run by themselves, 1 suspicious\n") {
		t.Errorf("diff notes %q", notes)
	}
	if list, _ := userOf(t, home, nil).printed(t, "diff", "m", "--name-only", "docs", "CON"); list != "CON\ndocs/a.md\n" {
		t.Errorf("diff --name-only printed %q", list)
	}
	list, _ = userOf(t, home, nil).printed(t, "diff", "m", "--json", runs, withheld)
	var changes []mayfly.Change
	if err := json.Unmarshal([]byte(list), &changes); err != nil || len(changes) != 2 {
		t.Fatalf("diff --json printed %q", list)
	}
	c, hook := changes[0], changes[1]
	if c.Class != mayfly.Runs || len(c.Rules) == 0 || c.Rules[0].Rule != "claude-settings" || c.Rules[0].Reason == "" || c.Withheld || c.Mode != 0o644 {
		t.Errorf("diff --json printed %+v", c)
	}
	if !hook.Withheld || !hook.Hidden {
		t.Errorf("diff --json printed %+v", hook)
	}
}

// A path is named as in the current directory, or as in the workspace.
func TestPathsOfWorkspace(t *testing.T) {
	home := t.TempDir()
	m := sessionMachine(t, home, map[string]string{"docs/a.md": "a", "docs/docs/b.md": "b"})
	if err := os.Mkdir(filepath.Join(m.dir, "docs"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(m.dir, "docs"))
	for _, tt := range []struct{ path, want string }{
		{"a.md", "docs/a.md\n"}, {"docs/a.md", "docs/a.md\n"}, {"docs", "docs/docs/b.md\n"},
		{".", "docs/a.md\ndocs/docs/b.md\n"}, {m.dir + "/docs/docs", "docs/docs/b.md\n"},
	} {
		if got, _ := userOf(t, home, nil).printed(t, "diff", "m", "--name-only", tt.path); got != tt.want {
			t.Errorf("diff --name-only %s printed %q; want %q", tt.path, got, tt.want)
		}
	}
}

// answering answers questions on a terminal in their order.
func answering(user *os.File, dialogue []string) (done chan []string) {
	done = make(chan []string, 1)
	go func() {
		var asked []string
		buf := make([]byte, 4096)
		text := ""
		for len(asked) < len(dialogue) {
			n, err := user.Read(buf)
			if err != nil {
				break
			}
			text += string(buf[:n])
			if strings.HasSuffix(text, "] ") {
				line := text[strings.LastIndexByte(text, '\n')+1:]
				asked = append(asked, strings.TrimSpace(line))
				text = ""
				user.WriteString(dialogue[len(asked)-1] + "\n")
			}
		}
		done <- asked
		io.Copy(io.Discard, user)
	}()
	return done
}

// run asks about ordinary changes at once, about what builds run as a group, and about the
// others one by one. What is held back keeps the machine, and is named.
func TestRunQuestions(t *testing.T) {
	const first, group, third, fourth = "apply the 2 ordinary changes? [yes/no/keep/pick/diff]", "apply 1 change that runs when you build? [yes/no/diff/drop]",
		"apply .claude/settings.json? [yes/no/diff/drop]", "apply CON? [yes/no/diff/drop]"
	files := make(map[string]string)
	for name, text := range session {
		if name != withheld {
			files[name] = text
		}
	}
	for name, tt := range map[string]struct {
		o       runOptions
		answers []string
		asked   []string
		want    string
		code    int
		kept    bool
	}{
		"yes to all":         {runOptions{}, []string{"y", "y", "y", "y"}, []string{first, group, third, fourth}, runs + " CON docs/a.md main.go " + builds, 0, false},
		"no is the default":  {runOptions{}, []string{"y", "", "", ""}, []string{first, group, third, fourth}, "docs/a.md main.go", exitHeld, true},
		"one is dropped":     {runOptions{}, []string{"y", "y", "y", "drop"}, []string{first, group, third, fourth}, runs + " docs/a.md main.go " + builds, 0, false},
		"no":                 {runOptions{}, []string{"n"}, []string{first}, "", 0, false},
		"keep":               {runOptions{}, []string{"k"}, []string{first}, "", 0, true},
		"apply":              {runOptions{apply: true}, []string{"n", "n", "y"}, []string{group, third, fourth}, "CON docs/a.md main.go", exitHeld, true},
		"apply all":          {runOptions{apply: true, all: true}, nil, nil, runs + " CON docs/a.md main.go " + builds, 0, false},
		"left at the second": {runOptions{}, []string{"y", "\x04"}, []string{first, group}, "", exitError, true},
		"left at the last":   {runOptions{}, []string{"y", "y", "y", "\x04"}, []string{first, group, third, fourth}, "", exitError, true},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			fake := sessionMachine(t, home, files)
			user, ours := pseudoTerminal(t)
			asked := answering(user, tt.answers)
			m := &fakeStarted{changes: func(ctx context.Context) (*mayfly.ChangeSet, error) {
				real, err := userOf(t, home, nil).client.Machine(ctx, "m")
				if err != nil {
					return nil, err
				}
				return real.Changes(ctx, false)
			}}
			_, err := runFake(t, m, tt.o, ours)
			code := 0
			if exit, ok := errors.AsType[exitCode](err); ok {
				code = int(exit)
			} else if err != nil {
				code = exitError
			}
			select {
			case got := <-asked:
				if !slices.Equal(got, tt.asked) {
					t.Errorf("asked was %q; want %q", got, tt.asked)
				}
			case <-time.After(time.Minute):
				t.Error("not all was asked")
			}
			if got := strings.Join(fake.onHost(t), " "); got != tt.want || code != tt.code || m.kept != tt.kept || m.discarded == tt.kept {
				t.Errorf("the directory has %q, exit code %d, kept %t, discarded %t; want %q, %d, %t", got, code, m.kept, m.discarded, tt.want, tt.code, tt.kept)
			}
		})
	}
}

// Without a terminal --apply takes what is ordinary, and holds the rest back in a machine
// that is kept.
func TestRunHoldsBack(t *testing.T) {
	home := t.TempDir()
	fake := sessionMachine(t, home, session)
	m := &fakeStarted{changes: func(ctx context.Context) (*mayfly.ChangeSet, error) {
		real, err := userOf(t, home, nil).client.Machine(ctx, "m")
		if err != nil {
			return nil, err
		}
		return real.Changes(ctx, false)
	}}
	printed, err := runFake(t, m, runOptions{apply: true}, nil)
	if code, _ := errors.AsType[exitCode](err); code != exitHeld || !m.kept || m.discarded {
		t.Errorf("run --apply = %v; kept %t", err, m.kept)
	}
	if got := strings.Join(fake.onHost(t), " "); got != "docs/a.md main.go" {
		t.Errorf("the directory has %q", got)
	}
	for _, want := range []string{"held back: .claude/settings.json: ", "held back: .git/hooks/pre-commit: git runs this hook", "mayfly apply m PATH", "machine m is kept"} {
		if !strings.Contains(printed, want) {
			t.Errorf("run --apply printed no %q:\n%s", want, printed)
		}
	}
}

// More single questions than anybody answers are not asked: a line says what does.
func TestManyQuestions(t *testing.T) {
	home := t.TempDir()
	files := map[string]string{"main.go": "package main\n"}
	for i := range mostAlone + 1 {
		files[".claude/commands/"+string(rune('a'+i))+".md"] = "do\n"
	}
	m := sessionMachine(t, home, files)
	user, ours := pseudoTerminal(t)
	printed := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(user)
		printed <- string(text)
	}()
	err := userOf(t, home, ours).command("apply", "m")
	if code, _ := errors.AsType[exitCode](err); code != exitHeld {
		t.Errorf("apply = %v", err)
	}
	ours.Close()
	if text := <-printed; !strings.Contains(text, "it holds them back; mayfly apply m -p asks about each") {
		t.Errorf("apply printed\n%s", text)
	}
	if got := strings.Join(m.onHost(t), " "); got != "main.go" {
		t.Errorf("the directory has %q", got)
	}
}

// Many changes fit on a screen.
func TestOverviewFits(t *testing.T) {
	files := map[string]string{}
	for i := range 950 {
		files[filepath.Join([]string{"src", "src/api", "src/db", "docs", "web/app/pages"}[i%5], strings.Repeat("x", 1+i/100)+string(rune('a'+i%26))+string(rune('a'+i/26%26))+".go")] = "x"
	}
	for i := range 30 {
		files["scripts/"+string(rune('a'+i%26))+string(rune('a'+i/26))+".sh"] = "x"
	}
	home := t.TempDir()
	sessionMachine(t, home, files)
	a := userOf(t, home, nil)
	m, err := a.client.Machine(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	set, err := m.Changes(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if err := set.Review(t.Context(), mayfly.ReviewOptions{}); err != nil {
		t.Fatal(err)
	}
	var screen strings.Builder
	a.overview(&screen, set, set.Changes, mostOrdinary)
	if n := strings.Count(screen.String(), "\n"); n > 20 || !strings.Contains(screen.String(), "web/app/pages/: 190 added") || !strings.Contains(screen.String(), "  30 changes in scripts/: a script; runs") {
		t.Errorf("%d lines:\n%s", n, &screen)
	}
}

// Each directory is in the overview once, wherever the names of its files sort.
func TestOverviewOnce(t *testing.T) {
	var changes []mayfly.Change
	for _, p := range []string{"a", "b", "d/x", "d/y", "e", "f", "g/x", "g/y", "h", "i"} {
		changes = append(changes, mayfly.Change{Op: "A", Path: p, Kind: "file"})
	}
	var out strings.Builder
	printTree(&out, changes)
	const want = "   in this directory: 6 added\n   d/: 2 added\n   g/: 2 added\n"
	if out.String() != want {
		t.Errorf("printTree printed\n%s; want\n%s", &out, want)
	}
}

// The user's own rules raise classes, and lower that of a path that they name exactly.
func TestOwnRules(t *testing.T) {
	home := t.TempDir()
	sessionMachine(t, home, session)
	dir := filepath.Join(home, ".config/mayfly")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const own = "version = 1\n[review]\nruns = [\"docs/**\"]\nordinary = [\"CON\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	list, _ := userOf(t, home, nil).printed(t, "diff", "m", "--json", "docs/a.md", "CON")
	var changes []mayfly.Change
	if err := json.Unmarshal([]byte(list), &changes); err != nil || len(changes) != 2 {
		t.Fatalf("diff --json printed %q", list)
	}
	want := map[string]mayfly.Class{"CON": mayfly.Ordinary, "docs/a.md": mayfly.Runs}
	for _, c := range changes {
		if c.Class != want[c.Path] {
			t.Errorf("the class of %s is %s, want %s: %+v", c.Path, c.Class, want[c.Path], c.Rules)
		}
	}
}
