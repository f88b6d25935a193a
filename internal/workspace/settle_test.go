package workspace

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// settled takes the guest's tree to, and settles what differs.
func (s *session) settled(t testing.TB, from, to tree, placed *Placed) {
	t.Helper()
	s.take(t, to, changes(rand.New(rand.NewPCG(1, 1)), from, to))
	listed := func(p string) bool { return slices.ContainsFunc(s.edits, func(e Edit) bool { return e.Path == p }) }
	left, err := Settle(t.Context(), s.dir, s.app.Manifest, s.edits, placed, listed)
	if err != nil {
		t.Fatal(err)
	}
	s.edits = left
}

// applySome applies those edits that are wanted, as a front end does.
func (s *session) applySome(t testing.TB, placed *Placed, wanted func(e *Edit) bool) Result {
	t.Helper()
	all := s.edits
	s.edits = some(all, func(i int) bool { return wanted(&all[i]) })
	placed.Add(Pointers(s.edits))
	name := filepath.Join(t.TempDir(), "placed")
	if err := placed.Write(name); err != nil {
		t.Fatal(err)
	}
	read, err := ReadPlaced(name)
	if err != nil {
		t.Fatal(err)
	}
	*placed = *read
	return s.apply(t)
}

func (s *session) listed() string {
	var lines []string
	for _, e := range s.edits {
		if !e.Implied {
			lines = append(lines, e.Op.String()+" "+e.Path)
		}
	}
	return strings.Join(lines, ", ")
}

// What is on the host already is in no list, and what the machine changed once more is no
// conflict with what was applied before. What the user changed since still is.
func TestSettle(t *testing.T) {
	dir, file := node{Dir, 0o755, ""}, func(text string) node { return node{File, 0o644, text} }
	from := tree{"a": file("1"), "b": file("1"), "gone": file("1"), "l": {Symlink, 0o777, "a"}, "d": dir, "d/x": file("1"), "m": file("1")}
	first := tree{"a": file("2"), "b": file("2"), "l": {Symlink, 0o777, "b"}, "d": dir, "d/x": file("2"), "n": dir, "n/y": file("2"), "m": {File, 0o755, "1"}}
	for name, tt := range map[string]struct {
		then   func(tree)             // what the guest does after the first apply
		host   func(dir string) error // and the user
		listed string                 // after that
		after  func(tree)             // what differs from the guest's tree at the end
		clash  string
	}{
		"nothing":      {func(tree) {}, nil, "", nil, ""},
		"edited":       {func(g tree) { g["a"], g["n/y"] = file("3"), file("3") }, nil, "M a, M n/y", nil, ""},
		"same size":    {func(g tree) { g["a"] = file("4") }, nil, "M a", nil, ""},
		"mode":         {func(g tree) { g["a"] = node{File, 0o755, "2"} }, nil, "M a", nil, ""},
		"mode back":    {func(g tree) { g["m"] = node{File, 0o644, "2"} }, nil, "M m", nil, ""},
		"deleted":      {func(g tree) { delete(g, "a"); delete(g, "l") }, nil, "D a, D l", nil, ""},
		"came again":   {func(g tree) { g["gone"] = file("3") }, nil, "A gone", nil, ""},
		"as packed":    {func(g tree) { g["a"], g["gone"], g["l"] = file("1"), file("1"), from["l"] }, nil, "M a, A gone, M l", nil, ""},
		"added, gone":  {func(g tree) { delete(g, "n/y") }, nil, "D n/y", nil, ""},
		"another link": {func(g tree) { g["l"] = node{Symlink, 0o777, "d"} }, nil, "M l", nil, ""},
		"a link now":   {func(g tree) { g["a"] = node{Symlink, 0o777, "d"} }, nil, "M a", nil, ""},
		"and the user's": {func(g tree) { g["a"], g["b"] = file("3"), file("3") },
			func(dir string) error { return os.WriteFile(dir+"/a", []byte("9"), 0o644) }, "M a, M b", func(h tree) { h["a"] = file("9") }, "a"},
		"not the guest's": {func(g tree) { g["b"] = file("3") },
			func(dir string) error { return os.WriteFile(dir+"/a", []byte("9"), 0o644) }, "M a, M b", func(h tree) { h["a"] = file("9") }, "a"},
		"the user did it": {func(g tree) { g["a"] = file("3") },
			func(dir string) error { return os.WriteFile(dir+"/a", []byte("3"), 0o644) }, "", nil, ""},
		"taken back": {func(g tree) { g["a"] = file("3") },
			func(dir string) error { return os.WriteFile(dir+"/a", []byte("1"), 0o644) }, "M a", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t, from)
			placed := newPlaced()
			s.settled(t, from, first, placed)
			if res := s.applySome(t, placed, all); len(res.Conflicts) > 0 {
				t.Fatal(res.Conflicts)
			}
			guest := maps.Clone(first)
			tt.then(guest)
			if tt.host != nil {
				if err := tt.host(s.dir); err != nil {
					t.Fatal(err)
				}
			}
			s.settled(t, from, guest, placed)
			if got := s.listed(); got != tt.listed {
				t.Errorf("listed is %q; want %q", got, tt.listed)
			}
			clash := ""
			for _, c := range s.applySome(t, placed, all).Conflicts {
				clash += c.Path
			}
			if clash != tt.clash {
				t.Errorf("conflicts are %q; want %q", clash, tt.clash)
			}
			want := maps.Clone(guest)
			if tt.after != nil {
				tt.after(want)
			}
			compare(t, "at the end", readTree(t, s.dir), want)
			if tt.clash == "" {
				if s.settled(t, from, guest, placed); s.listed() != "" {
					t.Errorf("at the end %q is left", s.listed())
				}
			}
		})
	}
}

// Random parts of random changes, one after the other, come to what the guest has, and
// nothing is left over.
func TestSettleRandom(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		from, to := randomTrees(r)
		s := newSession(t, from)
		if seed%2 == 0 {
			s.app.Manifest.Started += int64(time.Hour)
		}
		placed := newPlaced()
		for range 3 {
			s.settled(t, from, to, placed)
			if res := s.applySome(t, placed, func(*Edit) bool { return r.IntN(2) == 0 }); len(res.Conflicts) > 0 {
				t.Errorf("seed %d: conflicts %v", seed, res.Conflicts)
			}
			for p, n := range to { // the guest goes on
				if n.kind == File && r.IntN(4) == 0 && from[p].kind != Dir {
					to[p] = randomNode(r, File)
				}
			}
		}
		s.settled(t, from, to, placed)
		if res := s.applySome(t, placed, all); len(res.Conflicts) > 0 {
			t.Errorf("seed %d: conflicts %v", seed, res.Conflicts)
		}
		compare(t, fmt.Sprintf("seed %d", seed), readTree(t, s.dir), to)
		if s.settled(t, from, to, placed); s.listed() != "" {
			t.Errorf("seed %d: %q is left", seed, s.listed())
		}
		if t.Failed() {
			return
		}
	}
}

// Undo takes the last of two applies back, and then the list has it once more.
func TestSettleUndone(t *testing.T) {
	file := func(text string) node { return node{File, 0o644, text} }
	from := tree{"a": file("1")}
	s := undoSession(t, from)
	placed := newPlaced()
	for _, text := range []string{"2", "3"} {
		s.settled(t, from, tree{"a": file(text)}, placed)
		if res := s.applySome(t, placed, all); len(res.Conflicts) > 0 {
			t.Fatal(res.Conflicts)
		}
	}
	if res := s.undo(t); len(res.Conflicts) > 0 {
		t.Fatal(res.Conflicts)
	}
	compare(t, "taken back", readTree(t, s.dir), tree{"a": file("2")})
	s.settled(t, from, tree{"a": file("3")}, placed)
	if got := s.edits; len(got) != 1 || !got[0].Since || *got[0].OldSum != sumOf("2") {
		t.Errorf("after the undo the list is %+v", got)
	}
}

// A record is bounded, and a damaged one is an error.
func TestPlacedBounds(t *testing.T) {
	p := newPlaced()
	for i := range 2 * maxPlacedAt {
		p.Add(Pointers([]Edit{{Op: Modify, Path: "a", NewKind: File, NewSize: 1, Sum: sumOf(fmt.Sprint(i))}}))
	}
	if got := p.at["a"]; len(got) != maxPlacedAt || p.n != maxPlacedAt || string(got[maxPlacedAt-1].Sum) != string(func() []byte { s := sumOf(fmt.Sprint(2*maxPlacedAt - 1)); return s[:] }()) {
		t.Errorf("the record has %d states", len(got))
	}
	p.n = maxPlaced
	p.Add(Pointers([]Edit{{Op: Add, Path: "b", NewKind: Symlink, NewTarget: "a"}}))
	if len(p.at["b"]) > 0 {
		t.Error("a full record takes more")
	}
	name := filepath.Join(t.TempDir(), "placed")
	if err := os.WriteFile(name, []byte("{\"path\":"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPlaced(name); err == nil {
		t.Error("a damaged record is read")
	}
}
