package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	mode := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// What a machine changes in a live share of what the host runs is told once, also if nobody
// saw the machine's end, with what was there before.
func TestLiveTold(t *testing.T) {
	var told []string
	var kept string
	e := testEngine(t, func(ev Event) {
		if strings.HasPrefix(ev.Code, "live-") {
			told = append(told, strings.Join(strings.Fields(ev.Code+" "+ev.Args["count"]+" "+ev.Args["op"]+" "+ev.Args["path"]+" "+ev.Args["class"]+" "+ev.Args["rule"]), " "))
			kept += ev.Args["kept"]
		}
	})
	work, docs, other := t.TempDir(), t.TempDir(), t.TempDir()
	put(t, filepath.Join(work, ".git/config"), "[core]\n\tbare = false\n")
	put(t, filepath.Join(work, ".git/hooks/pre-push"), "#!/bin/sh\nscripts/check\n")
	put(t, filepath.Join(work, "scripts/check"), "#!/bin/sh\n")
	put(t, filepath.Join(work, "main.go"), "package main\n")
	put(t, filepath.Join(docs, ".envrc"), "export A=1\n")
	p := plan.Plan{Name: "m", Shares: []plan.Share{{Source: work, Path: work}, {Source: docs, Path: "/docs", ReadOnly: true}, {Source: other, Path: "/other"}}}
	if err := e.watchLive(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	m := Machine{e: e, p: p}
	m.m.Name = "m"
	if got, err := m.LiveChanges(t.Context()); err != nil || len(got.Changes) > 0 {
		t.Errorf("LiveChanges() at once = %+v, %v; want none", got, err)
	}
	put(t, filepath.Join(work, "main.go"), "package other\n")
	put(t, filepath.Join(work, "Makefile"), "all:\n\tcurl x | sh\n")
	put(t, filepath.Join(work, ".git/config"), "[core]\n\tbare = false\n\tfsmonitor = ./x\n")
	put(t, filepath.Join(work, ".git/index"), "x")
	put(t, filepath.Join(work, "scripts/check"), "#!/bin/sh\nevil\n")
	put(t, filepath.Join(work, "sub/.vscode/tasks.json"), `{"tasks": [{"command": "x", "runOptions": {"runOn": "folderOpen"}}]}`)
	put(t, filepath.Join(other, "CLAUDE.md"), "Obey.\n")
	put(t, filepath.Join(docs, ".envrc"), "export A=2\n") // which the machine cannot have done
	got, err := m.LiveChanges(t.Context())
	if err != nil || len(got.Changes) != 4 || len(told) > 0 {
		t.Errorf("LiveChanges() = %+v, %v; want 4 changes", got, err)
	}
	want := []string{
		"live-changed 3", "live-change M .git/config runs git-config", "live-change M scripts/check runs referenced",
		"live-change A sub/.vscode/tasks.json runs vscode-task", "live-kept", "live-changed 1", "live-change A CLAUDE.md runs agent-text",
	}
	e.tellLive(t.Context(), "other")
	if len(told) > 0 {
		t.Errorf("of another machine was told %q", told)
	}
	e.tellLive(t.Context(), "")
	e.tellLive(t.Context(), "m")
	// Shares are told of in the order of their names, which are random here.
	if work > other {
		want = append(want[5:], want[:5]...)
	}
	if d := cmp.Diff(want, told); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
	if text, err := os.ReadFile(filepath.Join(kept, ".git/config")); string(text) != "[core]\n\tbare = false\n" {
		t.Errorf("the kept configuration is %q, %v", text, err)
	}
	// Old records go.
	if err := e.collectLive(time.Now().Add(time.Hour)); err != nil || !exists(kept) {
		t.Errorf("collectLive() = %v; want that the record stays", err)
	}
	if err := e.collectLive(time.Now().Add(liveAge + time.Hour)); err != nil || exists(kept) {
		t.Errorf("collectLive() = %v; want that the record is gone", err)
	}
}

// A start tells of the run before, and a run that changes nothing leaves nothing.
func TestLiveKilled(t *testing.T) {
	var told []string
	e := testEngine(t, func(ev Event) { told = append(told, ev.Code) })
	work := t.TempDir()
	p := plan.Plan{Name: "m", Shares: []plan.Share{{Source: work, Path: work}}}
	if err := e.watchLive(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(work, ".envrc"), "evil\n")
	if err := e.watchLive(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"live-changed", "live-change"}, told); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
	e.tellLive(t.Context(), "m")
	if len(told) != 2 {
		t.Errorf("told %q; want nothing more", told)
	}
	if n := len(e.liveRecords("")); n != 0 {
		t.Errorf("%d records are left; want none", n)
	}
	// What is wrong with a record is told once, and holds up nothing.
	if err := e.watchLive(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(work); err == nil {
		t.Fatal("the directory was empty")
	}
	os.RemoveAll(work)
	put(t, work, "a file")
	told = nil
	e.tellLive(t.Context(), "m")
	e.tellLive(t.Context(), "m")
	if d := cmp.Diff([]string{"live-unknown"}, told); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}
