package workspace

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestApplyRandom makes random changes to random trees: what Apply leaves on
// the host must be what the guest had, and nothing else.
func TestApplyRandom(t *testing.T) {
	for seed := range uint64(60) {
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
			for _, e := range s.app.Edits {
				t.Log(e)
			}
			return
		}
	}
}
