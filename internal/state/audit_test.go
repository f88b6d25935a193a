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
	removed, err := s.CollectAudits(now)
	if d := cmp.Diff([]string{"old", "large"}, removed); d != "" || err != nil {
		t.Errorf("CollectAudits (-want +got):\n%s%v", d, err)
	}
	for name, want := range map[string]bool{"living": true, "new": true, "old": false, "large": false} {
		if _, err := os.Stat(s.At(name).AuditFile()); (err == nil) != want {
			t.Errorf("the record of %s: %v; want it there: %v", name, err, want)
		}
	}
}
