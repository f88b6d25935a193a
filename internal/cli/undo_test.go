package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
)

// An apply is taken back by the machine's name or from the directory.
func TestUndo(t *testing.T) {
	home := t.TempDir()
	m := runFakeMachine(t, home, map[string]string{"a": "1", "b": "2"})
	if err := os.Mkdir(filepath.Join(m.dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := func() string {
		t.Helper()
		var names []string
		filepath.WalkDir(m.dir, func(p string, _ os.DirEntry, err error) error {
			names = append(names, strings.TrimPrefix(p, m.dir))
			return err
		})
		return strings.Join(names, " ")
	}
	before := files()
	user := func() *app { return userOf(t, home, nil) }
	if err := user().command("undo", "m"); errorCode(err) != "undo-none" {
		t.Errorf("undo before an apply = %v; want the code undo-none", err)
	}
	if _, notes := user().printed(t, "undo", "--list"); notes != "mayfly: nothing can be taken back\n" {
		t.Errorf("undo --list printed %q", notes)
	}
	_, notes := user().printed(t, "apply", "m")
	if !strings.Contains(notes, "mayfly undo m takes them back\n") {
		t.Errorf("apply printed %q; want how it is taken back", notes)
	}
	after := files()
	list, _ := user().printed(t, "undo", "--list", "--json")
	var all []mayfly.Undoable
	if err := json.Unmarshal([]byte(list), &all); err != nil || len(all) != 1 || all[0].Name != "m" || all[0].Dir != m.dir || all[0].Changes != 2 {
		t.Errorf("undo --list --json printed %q, %v", list, err)
	}
	// What was changed since is named and stays.
	if err := os.WriteFile(filepath.Join(m.dir, "a"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(m.dir, "sub"))
	if err := user().command("undo"); err == nil {
		t.Error("undo with a conflict = nil; want an error")
	}
	if text, err := os.ReadFile(filepath.Join(m.dir, "a")); string(text) != "mine" {
		t.Errorf("the edited file holds %q, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "a"), []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(m.dir)
	_, notes = user().printed(t, "undo")
	if want := fmt.Sprintf("mayfly: took back 2 of 2 changes to %s, applied by m\n", m.dir); notes != want {
		t.Errorf("undo printed %q; want %q", notes, want)
	}
	if got := files(); got != before || after == before {
		t.Errorf("files are %s, after the apply %s; want %s", got, after, before)
	}
}
