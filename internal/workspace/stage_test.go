package workspace

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func TestStage(t *testing.T) {
	to := tree{"a": {File, 0o644, "same"}, "b": {File, 0o644, "same"}, "c": {File, 0o644, "other"}, "d": {Dir, 0o755, ""}}
	edits, err := diffAll(t.Context(), &Manifest{}, tree{}, sequence([]Change{
		to["a"].change("a"), to["b"].change("b"), to["c"].change("c"), to["d"].change("d"),
	}))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() + "/staging"
	var asked []string
	fetch := func(ctx context.Context, paths []string, put func(string, io.Reader) error) error {
		asked = append(asked, paths...)
		return to.fetch(ctx, paths, put)
	}
	s, err := Stage(t.Context(), dir, Pointers(edits), fetch, StageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(asked) != 2 {
		t.Errorf("fetched %q; want each content once", asked)
	}
	for _, e := range edits[:3] {
		f, err := s.open(&e)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(f); err != nil || string(b) != to[e.Path].data {
			t.Errorf("staged %s = %q, %v; want %q", e.Path, b, err, to[e.Path].data)
		}
		f.Close()
	}
	asked = nil
	if _, err := Stage(t.Context(), dir, Pointers(edits), fetch, StageOptions{}); err != nil || len(asked) != 0 {
		t.Errorf("second Stage fetched %q (%v); want nothing", asked, err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("staging directory has mode %v (%v); want 0700", fi.Mode(), err)
	}
	if err := s.Remove(); err != nil {
		t.Error(err)
	}
}

func TestStageRefuses(t *testing.T) {
	listed := tree{"a": {File, 0o644, "listed"}}
	edits, err := diffAll(t.Context(), &Manifest{}, tree{}, sequence([]Change{listed["a"].change("a")}))
	if err != nil {
		t.Fatal(err)
	}
	sends := func(path, content string) Fetch {
		return func(ctx context.Context, paths []string, put func(string, io.Reader) error) error {
			return put(path, strings.NewReader(content))
		}
	}
	huge := edits[0]
	huge.NewSize = 1 << 62
	liar := edits[0]
	liar.Path, liar.NewSize = "b", 3
	tests := []struct {
		name  string
		edits []Edit
		fetch Fetch
		limit int64
	}{
		{"other content", edits, sends("a", "mailed"), 0},
		{"longer", edits, sends("a", "listed and more"), 0},
		{"shorter", edits, sends("a", "list"), 0},
		{"endless", edits, func(ctx context.Context, paths []string, put func(string, io.Reader) error) error {
			return put("a", endless{})
		}, 0},
		{"another path", edits, sends("b", "listed"), 0},
		{"a path out of the tree", edits, sends("../a", "listed"), 0},
		{"twice", edits, func(ctx context.Context, paths []string, put func(string, io.Reader) error) error {
			return errors.Join(put("a", strings.NewReader("listed")), put("a", strings.NewReader("listed")))
		}, 0},
		{"nothing", edits, func(context.Context, []string, func(string, io.Reader) error) error { return nil }, 0},
		{"over the limit", edits, listed.fetch, 5},
		{"more than any disk", []Edit{huge}, listed.fetch, 1<<63 - 1},
		{"overflow", []Edit{huge, {Path: "b", Op: Add, NewKind: File, NewSize: 1 << 62, Sum: [32]byte{1}}}, listed.fetch, 1<<63 - 1},
		{"one hash, two sizes", []Edit{edits[0], liar}, listed.fetch, 0},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		if _, err := Stage(t.Context(), dir, Pointers(tt.edits), tt.fetch, StageOptions{Limit: tt.limit}); err == nil {
			t.Errorf("%s: Stage = nil; want an error", tt.name)
		}
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range left {
			if strings.HasPrefix(l.Name(), ".") {
				t.Errorf("%s: %s is left", tt.name, l.Name())
			}
		}
	}
}

// endless is a content without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Two may use what is staged. Who is the last removes it.
func TestStageShared(t *testing.T) {
	dir := t.TempDir() + "/staging"
	to := tree{"a": {File, 0o644, "x"}}
	edits := []Edit{{Op: Add, Path: "a", NewKind: File, NewSize: 1, Sum: to["a"].change("a").Sum}}
	first, err := Stage(t.Context(), dir, Pointers(edits), to.fetch, StageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Stage(t.Context(), dir, Pointers(edits), nil, StageOptions{}) // all of it is there
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Remove(); err != nil {
		t.Error(err)
	}
	if !second.Has(&edits[0]) {
		t.Error("the contents are gone while they are used")
	}
	if err := second.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the contents are left")
	}
}
