package cli

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
)

// liveMachine is a machine that has its workspace live since it was as it is now.
func liveMachine(t *testing.T, home string, files map[string]string) *fakeMachine {
	t.Helper()
	m := pickedMachine(t, home, files, nil)
	p, err := m.Plan()
	if err != nil {
		t.Fatal(err)
	}
	p.Workspace.Mode = "share"
	p.Shares = []plan.Share{{Source: m.dir, Path: m.dir}}
	// The record of what was watched, as a start of the machine writes it.
	type entry struct {
		Path  []byte
		Kind  int
		Mode  uint32
		Size  int
		Sum   string
		CTime int64
		Inode uint64
		Kept  bool
	}
	store := filepath.Join(home, ".local/state/mayfly/live", "m.1")
	share := struct {
		Dir     string
		Entries []entry
		Levels  int
	}{m.dir, nil, -1}
	const regular = 1
	for name, text := range files {
		kept := filepath.Join(store, "before/0", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(kept), 0o700), os.WriteFile(kept, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		if name != "main.go" { // which is not watched
			share.Entries = append(share.Entries, entry{[]byte(name), regular, 0o644, len(text), fmt.Sprintf("%x", sha256.Sum256([]byte(text))), 0, 0, true})
		}
	}
	record := map[string]any{"name": "m", "shares": []any{share}}
	if err := errors.Join(state.WriteJSON(m.File(state.PlanFile), p), state.WriteJSON(filepath.Join(store, "record.json"), record)); err != nil {
		t.Fatal(err)
	}
	return m
}

// Of a live workspace --patch and --stat show what the host runs by itself, from copies, and
// one line says how all else is seen.
func TestDiffLive(t *testing.T) {
	const settings, before = ".claude/settings.json", "{\n\"a\": 1\n}\n"
	home := t.TempDir()
	m := liveMachine(t, home, map[string]string{settings: before, "Makefile": "all:\n", ".git/config": "[core]\n\tbare = false\n", "main.go": "package main\n"})
	for _, args := range [][]string{nil, {"--patch"}, {"--stat"}} {
		out, notes := userOf(t, home, nil).printed(t, append([]string{"diff", "m"}, args...)...)
		if out != "" || !strings.Contains(notes, "no file changed that this computer runs by itself; all other changes are in your directory already: git diff there shows them\n") {
			t.Errorf("diff %q of what did not change printed %q and %q", args, out, notes)
		}
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(m.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(settings, "{\n\"a\": 1,\n\"hooks\": {\"Stop\": \"x\x1b[2J\"}\n}\n")
	write(".envrc", "export A=1\n")
	write("main.go", "package other\n")
	const look = "all other changes are in your directory already; look at these before you run git there\n"
	out, notes := userOf(t, home, nil).printed(t, "diff", "m", "--patch")
	for _, want := range []string{"M  .claude/settings.json", "--- a/.claude/settings.json\n+++ b/.claude/settings.json\n@@ -1,3 +1,4 @@\n", "\n-\"a\": 1\n+\"a\": 1,\n", "A  .envrc", "--- /dev/null\n+++ b/.envrc\n@@ -0,0 +1 @@\n+export A=1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("diff --patch printed no %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "package other") || strings.Contains(out, "\x1b") || !strings.Contains(notes, look) {
		t.Errorf("diff --patch printed\n%s\n%s", out, notes)
	}
	out, notes = userOf(t, home, nil).printed(t, "diff", "m", "--stat")
	if !strings.Contains(out, "+2 -1  "+filepath.Join(m.dir, settings)+"\n") || !strings.Contains(out, "2 changes, +3 -1 lines\n") || !strings.Contains(notes, look) {
		t.Errorf("diff --stat printed\n%s\n%s", out, notes)
	}
	out, _ = userOf(t, home, nil).printed(t, "diff", "m", "--patch", "--json", m.dir+"/.envrc")
	var changes []mayfly.LiveChange
	if err := json.Unmarshal([]byte(out), &changes); err != nil || len(changes) != 1 || len(changes[0].Hunks) != 1 || changes[0].Hunks[0].Lines[0] != "+export A=1\n" {
		t.Errorf("diff --patch --json printed %v\n%s", err, out)
	}
	// What the machine makes of it meanwhile is bounded.
	write(".envrc", strings.Repeat(strings.Repeat("x", 1023)+"\n", 1100))
	write(settings, "\x00")
	out, _ = userOf(t, home, nil).printed(t, "diff", "m", "--patch")
	if !strings.Contains(out, "too large to compare line by line\n") || !strings.Contains(out, "binary content\n") || strings.Contains(out, "x\nx") {
		t.Errorf("diff --patch printed\n%.2000s", out)
	}
}
