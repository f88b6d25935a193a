package budget

import (
	"sync"
	"testing"
)

func TestTake(t *testing.T) {
	b := New(100)
	for _, step := range []struct {
		n, spare int64
		want     bool
	}{
		{60, 50, false},
		{60, 40, true},
		{41, 0, false},
		{30, 20, false},
		{40, 0, true},
		{1, 0, false},
	} {
		if got := b.Take(step.n, step.spare); got != step.want {
			t.Errorf("Take(%d, %d) with %d used = %v; want %v", step.n, step.spare, b.Used(), got, step.want)
		}
	}
	b.Give(60)
	b.Give(40)
	if got := b.Used(); got != 0 {
		t.Errorf("Used() = %d after all was given back; want 0", got)
	}
}

// What is held though it was given back is not there to be taken.
func TestTakeLoose(t *testing.T) {
	b := New(100)
	var loose int64
	b.Loose(func() int64 { return loose })
	for _, step := range []struct {
		loose, n, spare int64
		want            bool
	}{
		{50, 60, 0, false},
		{50, 40, 20, false},
		{50, 40, 10, true},
		{60, 1, 0, false},
		{100, 0, 0, false},
		{0, 60, 0, true},
	} {
		loose = step.loose
		if got := b.Take(step.n, step.spare); got != step.want {
			t.Errorf("Take(%d, %d) with %d used and %d loose = %v; want %v", step.n, step.spare, b.Used(), loose, got, step.want)
		}
	}
}

// However many take at once, there is never more than the budget in use.
func TestTakeTogether(t *testing.T) {
	b := New(10)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if b.Take(3, 0) {
					if used := b.Used(); used > 10 {
						t.Errorf("%d bytes are in use; want at most 10", used)
					}
					b.Give(3)
				}
			}
		})
	}
	wg.Wait()
}

// A mistake in the counting is found, and not paid for by what comes later.
func TestGiveTooMuch(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("more was given back than taken, without a word")
		}
	}()
	New(10).Give(1)
}
