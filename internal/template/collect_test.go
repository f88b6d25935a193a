package template

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// names returns what is in the store.
func names(t *testing.T, s Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.Name() != lockFile {
			out = append(out, e.Name())
		}
	}
	return out
}

// use sets the time of a template's last use.
func use(t *testing.T, s Store, id Identity, age time.Duration) {
	t.Helper()
	at := time.Now().Add(-age)
	if err := os.Chtimes(filepath.Join(s.Dir, id.Key(), recordFile), at, at); err != nil {
		t.Fatal(err)
	}
}

func TestCollect(t *testing.T) {
	s := newStore(t)
	ids := make(map[string]Identity)
	for name, age := range map[string]time.Duration{"new": 0, "used": time.Hour, "old": 40 * 24 * time.Hour, "unwanted": 0, "open": 50 * 24 * time.Hour} {
		id := identity(t, name)
		tmpl, err := s.Make(t.Context(), id, memoryMiB, nil, save)
		if err != nil {
			t.Fatal(err)
		}
		if name != "open" {
			tmpl.Close()
		} else {
			defer tmpl.Close()
		}
		use(t, s, id, age)
		ids[name] = id
	}
	// What crashes and failures leave.
	for _, dir := range []string{newPrefix + "123", asidePrefix + ids["new"].Key(), deadPrefix + "x"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.Dir, ids["old"].Key(), recordFile+".new"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	being, lock, err := s.temp()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	policy := Policy{MaxAge: MaxAge, MaxBytes: MaxBytes, Dry: true, Wanted: func(r Record) bool { return r.Identity.Image != "unwanted" }}
	before := names(t, s)
	dry, err := s.Collect(policy)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); !slices.Equal(got, before) {
		t.Errorf("a dry collection changed %q to %q", before, got)
	}
	policy.Dry = false
	wet, err := s.Collect(policy)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(dry.Items, wet.Items) || len(wet.Items) != 5 || wet.Bytes == 0 {
		t.Errorf("Collect() removed %q (%d bytes), and would have %q; want the same five", wet.Items, wet.Bytes, dry.Items)
	}
	want := []string{filepath.Base(being), ids["new"].Key(), ids["used"].Key(), ids["open"].Key()}
	slices.Sort(want)
	if got := names(t, s); !slices.Equal(got, want) {
		t.Errorf("left %q; want %q", got, want)
	}
}

// When templates take too much space, those go that were not used for longest.
func TestCollectBytes(t *testing.T) {
	s := newStore(t)
	var ids []Identity
	for i, name := range []string{"a", "b", "c"} {
		id := identity(t, name)
		mustMake(t, s, id).Close()
		use(t, s, id, time.Duration(i)*time.Hour)
		ids = append(ids, id)
	}
	all, err := s.List()
	if err != nil || len(all) != 3 || all[0].Key != ids[0].Key() || all[2].Key != ids[2].Key() {
		t.Fatalf("List() = %v, %v; want three, the last used first", all, err)
	}
	if _, err := s.Collect(Policy{MaxAge: MaxAge, MaxBytes: all[0].Bytes + all[1].Bytes}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.List(); err != nil || len(got) != 2 || got[1].Key != ids[1].Key() {
		t.Errorf("List() = %v, %v; want the two that were used last", got, err)
	}
}

func TestCollectNothing(t *testing.T) {
	s := newStore(t)
	if c, err := s.Collect(Policy{}); err != nil || len(c.Items) != 0 {
		t.Errorf("Collect() without a directory = %v, %v; want nothing", c, err)
	}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("List() without a directory = %v, %v; want nothing", all, err)
	}
}

// A failure that counts is remembered, an old one is not.
func TestCollectFailures(t *testing.T) {
	s := newStore(t)
	mustMake(t, s, identity(t, "a"))
	fresh, old := identity(t, "fresh"), identity(t, "old")
	if err := s.Fail(fresh, os.ErrClosed); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(s.failedPath(old.Key()), Failure{time.Now().Add(-2 * retryAfter), "old"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Collect(Policy{MaxAge: MaxAge, MaxBytes: MaxBytes}); err != nil {
		t.Fatal(err)
	}
	if s.Failed(fresh) == nil {
		t.Error("a fresh failure was forgotten")
	}
	if _, err := os.Stat(s.failedPath(old.Key())); err == nil {
		t.Error("an old failure is still there")
	}
	if _, err := s.Collect(Policy{MaxAge: MaxAge, MaxBytes: MaxBytes, Forget: true}); err != nil {
		t.Fatal(err)
	}
	if s.Failed(fresh) != nil {
		t.Error("a failure was to be forgotten and was not")
	}
}
