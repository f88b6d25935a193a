package agent

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
)

// pack returns an archive of the files with these names, AGENT/NAME, which hold them.
func pack(t *testing.T, last time.Time, names ...string) io.Reader {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, name := range names {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(name)), Mode: 0o4777, ModTime: last}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &archive
}

// Conversations come back to where the agent keeps them, with the times of their last words.
// What is there already stays, through no link anything is written, and of a database that is
// there no part is replaced.
func TestRestore(t *testing.T) {
	dir := t.TempDir()
	claude, opencode := filepath.Join(dir, "claude"), filepath.Join(dir, "opencode")
	places := []codingagent.Transcripts{
		{Name: "claude", Dirs: []string{claude}, Files: []string{"projects"}},
		{Name: "opencode", Dirs: []string{opencode}, Files: []string{"opencode.db", "opencode.db-wal", "storage"}},
	}
	g := startGuest(t)
	last := time.Now().Add(-time.Hour).Truncate(time.Second)
	restore := func(files, kept int, names ...string) {
		t.Helper()
		got, err := client.Restore(g.open(t), places, pack(t, last, names...))
		if err != nil || got.Files != files || got.Kept != kept {
			t.Errorf("Restore(%q) = %+v, %v; want %d and %d", names, got, err, files, kept)
		}
	}
	text := func(name string) string {
		data, _ := os.ReadFile(filepath.Join(dir, name))
		return string(data)
	}
	restore(2, 0, "claude/projects/p/a.jsonl", "claude/projects/p/b.jsonl")
	fi, err := os.Stat(filepath.Join(claude, "projects/p/a.jsonl"))
	if err != nil || fi.Mode().Perm() != 0o600 || !fi.ModTime().Equal(last) {
		t.Errorf("it is %v, %v", fi, err)
	}
	if err := os.WriteFile(filepath.Join(claude, "projects/p/a.jsonl"), []byte("more"), 0o600); err != nil {
		t.Fatal(err)
	}
	restore(1, 1, "claude/projects/p/a.jsonl", "claude/projects/p/c.jsonl")
	if got := text("claude/projects/p/a.jsonl"); got != "more" {
		t.Errorf("what was there is %q", got)
	}
	if left, err := filepath.Glob(filepath.Join(claude, "projects/p/.*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	restore(3, 0, "opencode/opencode.db", "opencode/opencode.db-wal", "opencode/storage/s.json")
	if err := os.Remove(filepath.Join(opencode, "opencode.db-wal")); err != nil {
		t.Fatal(err)
	}
	restore(1, 2, "opencode/opencode.db", "opencode/opencode.db-wal", "opencode/storage/t.json")
	if text("opencode/opencode.db-wal") != "" || text("opencode/opencode.db") != "opencode/opencode.db" {
		t.Error("a part of a database was replaced")
	}
	// What is no conversation, and what a link leads out of.
	elsewhere := t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(claude, "projects/out")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"claude/settings.json", "other/projects/a", "claude/projects/out/a", "claude/projects/../settings.json"} {
		if got, err := client.Restore(g.open(t), places, pack(t, last, name)); err == nil {
			t.Errorf("Restore(%q) = %+v", name, got)
		}
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 || text("claude/settings.json") != "" {
		t.Errorf("written elsewhere: %v, %v", entries, err)
	}
	// A time to come would be the last for ever.
	last = time.Now().Add(time.Hour)
	restore(1, 0, "claude/projects/p/later")
	if fi, err := os.Stat(filepath.Join(claude, "projects/p/later")); err != nil || fi.ModTime().After(time.Now()) {
		t.Errorf("it is %v, %v", fi, err)
	}
}

// A database comes with its log, as one state, behind locks; one that does not fit with its
// log does not come at all, and programs that an agent has fetched do not come either.
func TestTranscriptsOfDatabase(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, ".local/share/mayfly-agents/opencode/data/opencode")
	bin := filepath.Join(home, ".gemini/tmp/bin")
	db := filepath.Join(dir, "opencode.db")
	err := errors.Join(os.MkdirAll(dir, 0o700), os.MkdirAll(bin, 0o700), os.WriteFile(bin+"/rg", nil, 0o700),
		os.WriteFile(db, []byte("db"), 0o600), os.WriteFile(db+"-shm", nil, 0o600), os.WriteFile(db+"-wal", []byte("log"), 0o600),
		os.Chtimes(db, time.Time{}, time.Unix(1, 0)))
	if err != nil {
		t.Fatal(err)
	}
	g := startGuest(t)
	var out bytes.Buffer
	if _, err := client.Transcripts(g.open(t), home, time.Minute, &out); err != nil {
		t.Fatal(err)
	}
	if names, _ := unpack(t, &out); strings.Join(names, " ") != "opencode/opencode.db opencode/opencode.db-wal" {
		t.Errorf("there are %q; want the database, then its log", names)
	}
	all := joinDatabases([]transcript{{name: "wal", path: db + "-wal", size: 3}, {name: "db", path: db, size: 2}})
	if len(all) != 1 || all[0].wal == nil {
		t.Fatalf("joined: %+v", all)
	}
	out.Reset()
	if err := sendTranscripts(&out, all, tarEnd+2*tarFile+4, time.Now().Add(time.Minute)); err != nil || out.Len() > 0 {
		t.Errorf("half a database: %d bytes, %v", out.Len(), err)
	}
	// Nobody merges or begins the log anew meanwhile.
	release := holdDatabase(db)
	shm, err := os.OpenFile(db+"-shm", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer shm.Close()
	taken := func() (n int) {
		for _, at := range []int64{120, 121, 124} {
			lock := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
			if unix.FcntlFlock(shm.Fd(), unix.F_OFD_SETLK, &lock) != nil {
				n++
			}
			lock.Type = unix.F_UNLCK
			unix.FcntlFlock(shm.Fd(), unix.F_OFD_SETLK, &lock)
		}
		return n
	}
	if n := taken(); n != 2 {
		t.Errorf("%d locks are held; want those for the merge and the restart, and not that for writing", n)
	}
	release()
	if n := taken(); n != 0 {
		t.Errorf("%d locks are held afterwards", n)
	}
}
