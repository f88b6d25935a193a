package cli_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mayfly-vm/mayfly/internal/plan"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/script"
)

func TestMain(m *testing.M) { script.Main(m) }

// What needs no machine, as users type it.
func TestScript(t *testing.T) {
	commands := script.Commands()
	commands["dead"], commands["old"] = dead, old
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Cmds:  commands,
		Setup: fence,
	})
}

// fence gives a script a home of its own, and an emulator that only has a
// version.
func fence(env *testscript.Env) error {
	for name, dir := range map[string]string{
		"HOME": "home", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache",
	} {
		env.Setenv(name, filepath.Join(env.WorkDir, dir))
		if err := os.MkdirAll(filepath.Join(env.WorkDir, dir, "mayfly"), 0o755); err != nil {
			return err
		}
	}
	env.Setenv("USER", "alice")
	env.Setenv("GORACE", "atexit_sleep_ms=0") // else every command takes a second more
	project := filepath.Join(env.WorkDir, "home/project")
	env.Cd = project
	qemu := filepath.Join(env.WorkDir, "qemu")
	env.Setenv("MAYFLY_QEMU", qemu)
	return errors.Join(
		os.MkdirAll(project, 0o755),
		os.WriteFile(qemu, []byte("#!/bin/sh\n[ \"$1\" = --version ] || exit 1\necho 'QEMU emulator version '${FAKE_VERSION:-10.0.2}\n"), 0o755),
	)
}

// dead NAME makes what a machine leaves when the power fails.
func dead(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: dead NAME")
	}
	p := plan.Plan{Version: plan.Version, Name: args[0], Workspace: plan.Workspace{Path: ts.Getenv("HOME") + "/project", Mode: "copy"}}
	store := state.Open(filepath.Join(ts.Getenv("XDG_STATE_HOME"), "mayfly"))
	m, lock, err := store.Create(p)
	ts.Check(err)
	defer lock.Release()
	ts.Check(state.WriteJSON(m.File(state.StatusFile), state.Status{Phase: state.Running, Kept: true}))
	ts.Check(os.WriteFile(m.File(state.ConsoleFile), []byte("a guest's last words\x1b[31m\n"), 0o600))
	ts.Check(os.WriteFile(m.File(state.ScratchFile), nil, 0o600))
}

// old FILE makes the file an hour older.
func old(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: old FILE")
	}
	hourAgo := time.Now().Add(-time.Hour)
	ts.Check(os.Chtimes(ts.MkAbs(args[0]), hourAgo, hourAgo))
}
