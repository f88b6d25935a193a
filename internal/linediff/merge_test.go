package linediff

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestMerge(t *testing.T) {
	base := "1\n2\n3\n4\n5\n6\n7\n"
	names := Labels{"machine", "before", "host"}
	conflict := func(ours, base, theirs string) string {
		return "<<<<<<< machine\n" + ours + "||||||| before\n" + base + "=======\n" + theirs + ">>>>>>> host\n"
	}
	edit := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(base) }
	for _, tt := range []struct {
		name, base, ours, theirs, want string
		conflicts                      int
	}{
		{"nothing", base, base, base, base, 0},
		{"ours", base, edit("2", "x"), base, edit("2", "x"), 0},
		{"theirs", base, base, edit("2", "x"), edit("2", "x"), 0},
		{"apart", base, edit("2", "x"), edit("6", "y"), edit("2", "x", "6", "y"), 0},
		{"the same", base, edit("2", "x"), edit("2", "x"), edit("2", "x"), 0},
		{"both", base, edit("4", "x"), edit("4", "y"), "1\n2\n3\n" + conflict("x\n", "4\n", "y\n") + "5\n6\n7\n", 1},
		{"touching", base, edit("4", "x"), edit("5", "y"), "1\n2\n3\n" + conflict("x\n5\n", "4\n5\n", "4\ny\n") + "6\n7\n", 1},
		{"overlapping", base, edit("3\n4\n", "x\n"), edit("4\n5\n", "y\n"), "1\n2\n" + conflict("x\n5\n", "3\n4\n5\n", "3\ny\n") + "6\n7\n", 1},
		{"deleted and changed", base, edit("4\n", ""), edit("4", "y"), "1\n2\n3\n" + conflict("", "4\n", "y\n") + "5\n6\n7\n", 1},
		{"added at one place", base, "0\n" + base, "00\n" + base, conflict("0\n", "", "00\n") + base, 1},
		{"twice", base, edit("2", "a", "6", "b"), edit("2", "x", "6", "y"),
			"1\n" + conflict("a\n", "2\n", "x\n") + "3\n4\n5\n" + conflict("b\n", "6\n", "y\n") + "7\n", 2},
		{"without a last line break", "1\n2", "1\nx", "1\ny", "1\n" + conflict("x\n", "2\n", "y\n"), 1},
		{"one added the line break", "1\n2", "1\n2\n", "0\n2", conflict("1\n2\n", "1\n2\n", "0\n2\n"), 1},
		{"nothing before", "", "a\n", "b\n", conflict("a\n", "", "b\n"), 1},
	} {
		got, conflicts := Merge(tt.base, tt.ours, tt.theirs, names)
		if got != tt.want || conflicts != tt.conflicts {
			t.Errorf("%s: %d conflicts in\n%s\nwant %d in\n%s", tt.name, conflicts, got, tt.conflicts, tt.want)
		}
	}
}

// Large texts that have nothing in common are merged, too.
func TestMergeLarge(t *testing.T) {
	var texts [3]strings.Builder
	for i := range 100_000 {
		for n := range texts {
			fmt.Fprintln(&texts[n], i*(n+1)+n)
		}
	}
	begun := time.Now()
	Merge(texts[0].String(), texts[1].String(), texts[2].String(), Labels{})
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func FuzzMerge(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nx\nc\n", "a\nb\nc\nd")
	f.Add("", "\n\n", "a")
	f.Add("a\xff\n", "\r\na\x00", "<<<<<<< \n")
	f.Fuzz(func(t *testing.T, base, ours, theirs string) {
		is := func(what, got string, conflicts int, want string) {
			if got != want || conflicts != 0 {
				t.Errorf("%s: %q with %d conflicts; want %q", what, got, conflicts, want)
			}
		}
		got, n := Merge(base, ours, base, Labels{})
		is("only ours", got, n, ours)
		got, n = Merge(base, base, theirs, Labels{})
		is("only theirs", got, n, theirs)
		got, n = Merge(base, ours, ours, Labels{})
		is("both the same", got, n, ours)
		got, n = Merge(base, ours, theirs, Labels{})
		_, back := Merge(base, theirs, ours, Labels{})
		if n != back {
			t.Errorf("%d conflicts, and %d the other way round", n, back)
		}
		if limit := len(base) + len(ours) + len(theirs) + 50*n; len(got) > limit {
			t.Errorf("%d bytes; want at most %d", len(got), limit)
		}
	})
}
