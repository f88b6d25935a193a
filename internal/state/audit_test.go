package state

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/plan"
)

func TestCollectAudits(t *testing.T) {
	s := Open(t.TempDir())
	if removed, err := s.CollectAudits(time.Now()); removed != nil || err != nil {
		t.Fatalf("CollectAudits without any = %q, %v", removed, err)
	}
	_, lock, err := s.Create(plan.Plan{Version: plan.Version, Name: "living"})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	now := time.Now()
	write := func(name string, age time.Duration, size int64) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, now, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	write(s.At("living").AuditFile(), 2*AuditAge, 1)
	write(s.At("old").AuditFile(), 2*AuditAge, 1)
	write(s.At("new").AuditFile(), time.Hour, 1)
	write(s.At("new").AuditFile()+".old", 2*AuditAge, 1)
	write(s.At("large").AuditFile(), 2*time.Hour, AuditBytes)
	// As an earlier mayfly had it.
	earlier := filepath.Join(filepath.Dir(filepath.Dir(s.At("earlier").AuditFile())), "earlier.jsonl")
	write(earlier, 3*AuditAge, 1)
	removed, err := s.CollectAudits(now)
	if d := cmp.Diff([]string{"earlier", "old", "large"}, removed); d != "" || err != nil {
		t.Errorf("CollectAudits (-want +got):\n%s%v", d, err)
	}
	for name, want := range map[string]bool{"living": true, "new": true, "old": false, "large": false} {
		if _, err := os.Stat(s.At(name).AuditFile()); (err == nil) != want {
			t.Errorf("the record of %s: %v; want it there: %v", name, err, want)
		}
	}
	for _, path := range []string{earlier, filepath.Dir(s.At("old").AuditFile())} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("%s: %v; want it gone", path, err)
		}
	}
}

// A machine's record has a directory of its own, into which that of an earlier mayfly goes.
func TestMakeAuditDir(t *testing.T) {
	s := Open(t.TempDir())
	m, other := s.At("web"), s.At("web-2")
	records := filepath.Dir(filepath.Dir(m.AuditFile()))
	if err := os.MkdirAll(records, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web.jsonl", "web.jsonl.old", "web.jsonl.denied", "web-2.jsonl"} {
		if err := os.WriteFile(filepath.Join(records, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := m.MakeAuditDir(); err != nil {
			t.Fatal(err)
		}
	}
	for _, suffix := range []string{"", ".old", ".denied"} {
		if data, err := os.ReadFile(m.AuditFile() + suffix); err != nil || string(data) != "web.jsonl"+suffix {
			t.Errorf("the record%s: %q, %v; want the earlier one", suffix, data, err)
		}
	}
	if _, err := os.Lstat(filepath.Dir(other.AuditFile())); !os.IsNotExist(err) {
		t.Errorf("the directory of another machine: %v; want none", err)
	}
	if fi, err := os.Stat(filepath.Dir(m.AuditFile())); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v; want it closed to others", fi.Mode(), err)
	}
}
