package workspace

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestApplyRandom makes random changes to random trees: what Apply leaves on
// the host must be what the guest had, and nothing else.
func TestApplyRandom(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		from, to := randomTrees(r)
		s := newSession(t, from)
		s.take(t, to, changes(r, from, to))
		switch seed % 3 {
		case 0: // all identities can be relied on
			s.app.Manifest.Started += int64(time.Hour)
		case 1: // and none
			for i := range s.app.Manifest.Entries {
				s.app.Manifest.Entries[i].ID.CTime++
			}
		}
		res := s.apply(t)
		for _, c := range res.Conflicts {
			t.Errorf("seed %d: conflict: %v", seed, c)
		}
		compare(t, fmt.Sprintf("seed %d", seed), readTree(t, s.dir), to)
		// Once more: everything is there already.
		if res := s.apply(t); len(res.Conflicts) > 0 {
			t.Errorf("seed %d: second Apply: conflicts %v", seed, res.Conflicts)
		}
		compare(t, fmt.Sprintf("seed %d, second Apply", seed), readTree(t, s.dir), to)
		if t.Failed() {
			for _, e := range s.edits {
				t.Log(e)
			}
			return
		}
	}
}

// BenchmarkApply edits 2000 files, with a record by which it can be taken back and without.
func BenchmarkApply(b *testing.B) {
	b.Run("alone", func(b *testing.B) { benchmarkApply(b, false) })
	b.Run("recorded", func(b *testing.B) { benchmarkApply(b, true) })
}

func benchmarkApply(b *testing.B, recorded bool) {
	from, to := tree{}, tree{}
	for i := range 2000 {
		d := fmt.Sprintf("d%d", i%50)
		from[d] = node{Dir, 0o755, ""}
		to[d] = from[d]
		from[fmt.Sprintf("%s/f%d", d, i)] = node{File, 0o644, strings.Repeat("a", 8000)}
		to[fmt.Sprintf("%s/f%d", d, i)] = node{File, 0o644, strings.Repeat("b", 8000)}
	}
	for b.Loop() {
		b.StopTimer()
		s := newSession(b, from)
		s.app.Manifest.Started += int64(time.Hour) // as of files that are not just written
		s.take(b, to, changes(rand.New(rand.NewPCG(1, 1)), from, to))
		if recorded {
			s.app.Undo = &UndoOptions{Store: b.TempDir(), Name: "m"}
		}
		b.StartTimer()
		s.apply(b)
	}
}
