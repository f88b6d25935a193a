package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// The place where an agent's files are expected is the one where they are, with the dotfiles
// in it; what is the user's there stays.
func TestSeedLink(t *testing.T) {
	base := t.TempDir()
	home, dotfiles := filepath.Join(base, "home"), filepath.Join(base, "dotfiles")
	state := filepath.Join(home, "state")
	put := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(name, want string) {
		t.Helper()
		if data, err := os.ReadFile(filepath.Join(home, name)); err != nil || string(data) != want {
			t.Errorf("%s holds %q, %v; want %q", name, data, err, want)
		}
	}
	put(filepath.Join(dotfiles, ".claude/CLAUDE.md"), "mine")
	put(filepath.Join(dotfiles, ".claude/settings.json"), "{}")
	put(filepath.Join(dotfiles, ".claude/commands/fix.md"), "fix")
	put(filepath.Join(dotfiles, ".claude/agents/a.md"), "a")
	put(filepath.Join(dotfiles, "state/deep.md"), "deep")
	put(filepath.Join(state, "agents"), "a file") // in the way of a directory
	put(filepath.Join(state, "commands/own.md"), "own")
	// As linkDotfiles leaves it.
	if err := os.Symlink(filepath.Join(dotfiles, ".claude"), filepath.Join(home, ".claude")); err != nil {
		t.Fatal(err)
	}
	link := wire.SeedLink{Path: filepath.Join(home, ".claude"), Target: state, Below: []string{".claude", "state"}}
	copies := map[string]bool{filepath.Join(state, "settings.json"): true}
	seed := func() {
		t.Helper()
		if err := seedLink(link, home, dotfiles, copies); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		seed()
		holds(".claude/CLAUDE.md", "mine")
		holds(".claude/commands/fix.md", "fix")
		holds(".claude/commands/own.md", "own")
		holds(".claude/agents", "a file")
		holds(".claude/deep.md", "deep")
		holds("state/settings.json", "{}")
	}
	if to, err := os.Readlink(link.Path); err != nil || to != state {
		t.Errorf("the place leads to %q, %v; want %q", to, err, state)
	}
	if fi, err := os.Lstat(filepath.Join(state, "settings.json")); err != nil || !fi.Mode().IsRegular() {
		t.Errorf("settings, which are written, are %v, %v; want a file", fi, err)
	}

	// Another start: what the host has now.
	if err := os.Remove(filepath.Join(dotfiles, ".claude/commands/fix.md")); err != nil {
		t.Fatal(err)
	}
	put(filepath.Join(dotfiles, ".claude/commands/new.md"), "new")
	put(filepath.Join(dotfiles, ".claude/settings.json"), `{"a":1}`)
	seed()
	holds("state/commands/new.md", "new")
	holds("state/settings.json", "{}")
	if _, err := os.Lstat(filepath.Join(state, "commands/fix.md")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a link to a dotfile that is no more: %v", err)
	}

	// Without dotfiles.
	link = wire.SeedLink{Path: filepath.Join(home, "a/b/.codex"), Target: state, Below: []string{".codex"}}
	seed()
	holds("a/b/.codex/settings.json", "{}")

	// The user's own.
	put(filepath.Join(home, ".gemini/x"), "x")
	link = wire.SeedLink{Path: filepath.Join(home, ".gemini"), Target: state}
	seed()
	holds(".gemini/x", "x")
	if err := os.Symlink("elsewhere", filepath.Join(home, ".copilot")); err != nil {
		t.Fatal(err)
	}
	link = wire.SeedLink{Path: filepath.Join(home, ".copilot"), Target: state, Below: []string{".copilot"}}
	seed()
	if to, _ := os.Readlink(link.Path); to != "elsewhere" {
		t.Errorf("a link of the user's leads to %q", to)
	}

	// What is mounted on the way is not written to.
	link = wire.SeedLink{Path: "/dev/shm/mayfly-test-link", Target: state}
	if seed(); exists(link.Path) {
		os.Remove(link.Path)
		t.Error("a link was made on another file system")
	}
	link.Below = []string{"../x"}
	if err := seedLink(link, home, dotfiles, nil); err == nil {
		t.Error("a name that leads out of the dotfiles is taken")
	}
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}
