package linediff

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// text returns the hunks as a unified difference.
func text(hunks []Hunk) string {
	var b strings.Builder
	for _, h := range hunks {
		fmt.Fprintln(&b, h.Header())
		for _, line := range h.Lines {
			fmt.Fprintf(&b, "%c%s", line.Op, line.Text)
		}
	}
	return b.String()
}

func TestDiff(t *testing.T) {
	ten := "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n"
	for _, tt := range []struct{ old, new, want string }{
		{"", "", ""},
		{"a\n", "a\n", ""},
		{"", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n"},
		{"a\n", "", "@@ -1 +0,0 @@\n-a\n"},
		{"a\n", "b\n", "@@ -1 +1 @@\n-a\n+b\n"},
		{"a", "a\n", "@@ -1 +1 @@\n-a+a\n"},
		{ten, strings.Replace(ten, "5\n", "", 1), "@@ -2,7 +2,6 @@\n 2\n 3\n 4\n-5\n 6\n 7\n 8\n"},
		{ten, "0\n" + ten + "11\n", "@@ -1,3 +1,4 @@\n+0\n 1\n 2\n 3\n@@ -8,3 +9,4 @@\n 8\n 9\n 10\n+11\n"},
		{ten, strings.Replace(strings.Replace(ten, "2\n", "x\n", 1), "8\n", "y\n", 1), "@@ -1,10 +1,10 @@\n 1\n-2\n+x\n 3\n 4\n 5\n 6\n 7\n-8\n+y\n 9\n 10\n"},
	} {
		if got := text(Diff(tt.old, tt.new)); got != tt.want {
			t.Errorf("Diff(%q, %q) =\n%s\nwant\n%s", tt.old, tt.new, got, tt.want)
		}
	}
}

// Each choice of hunks is what it says, and all of them are the new text.
func TestApply(t *testing.T) {
	old := "0\n" + strings.Repeat("=\n", 10) + "1\n" + strings.Repeat("=\n", 10) + "2\n"
	new := strings.NewReplacer("0", "a", "1", "b\nc", "2\n", "").Replace(old)
	hunks := Diff(old, new)
	if len(hunks) != 3 {
		t.Fatalf("hunks: %s", text(hunks))
	}
	for _, tt := range []struct {
		hunks []Hunk
		want  *strings.Replacer
	}{
		{nil, strings.NewReplacer()},
		{hunks[:1], strings.NewReplacer("0", "a")},
		{hunks[1:2], strings.NewReplacer("1", "b\nc")},
		{[]Hunk{hunks[0], hunks[2]}, strings.NewReplacer("0", "a", "2\n", "")},
	} {
		if got, want := applied(t, old, tt.hunks), tt.want.Replace(old); got != want {
			t.Errorf("Apply(%s) = %q; want %q", text(tt.hunks), got, want)
		}
	}
	for name, wrong := range map[string][]Hunk{
		"order": {hunks[1], hunks[0]}, "twice": {hunks[1], hunks[1]},
		"deletes": {{OldStart: 3, OldLines: 1, Lines: []Line{{Delete, "x\n"}}}},
		"outside": {{OldStart: 99, Lines: []Line{{Insert, "x\n"}}}}, "before": {{OldStart: -3, Lines: []Line{{Insert, "x\n"}}}},
	} {
		if got, err := Apply(old, wrong); err == nil {
			t.Errorf("%s: Apply(%s) = %q", name, text(wrong), got)
		}
	}
}

// applied is what Apply makes of hunks that fit.
func applied(t *testing.T, old string, hunks []Hunk) string {
	t.Helper()
	got, err := Apply(old, hunks)
	if err != nil {
		t.Errorf("Apply(%q, %s) = %v", old, text(hunks), err)
	}
	return got
}

// A hunk falls apart where lines are equal, and each part can be applied alone.
func TestSplit(t *testing.T) {
	old := "1\n2\n3\n4\n5\n6\n7\n"
	hunks := Diff(old, "1\nx\n3\n4\n5\ny\nz\n7\n8\n")
	if len(hunks) != 1 {
		t.Fatalf("hunks: %s", text(hunks))
	}
	parts := hunks[0].Split()
	const want = "@@ -1,5 +1,5 @@\n 1\n-2\n+x\n 3\n 4\n 5\n@@ -3,5 +3,6 @@\n 3\n 4\n 5\n-6\n+y\n+z\n 7\n@@ -7 +8,2 @@\n 7\n+8\n"
	if got := text(parts); got != want {
		t.Errorf("Split() =\n%s\nwant\n%s", got, want)
	}
	for _, tt := range []struct {
		parts []Hunk
		want  string
	}{
		{parts, "1\nx\n3\n4\n5\ny\nz\n7\n8\n"},
		{parts[1:2], "1\n2\n3\n4\n5\ny\nz\n7\n"},
		{[]Hunk{parts[0], parts[2]}, "1\nx\n3\n4\n5\n6\n7\n8\n"},
	} {
		if got := applied(t, old, tt.parts); got != tt.want {
			t.Errorf("Apply(%s) = %q; want %q", text(tt.parts), got, tt.want)
		}
	}
	if parts := Diff("a\n", "b\n")[0].Split(); len(parts) != 1 {
		t.Errorf("a hunk with one change has %d parts", len(parts))
	}
}

// Two large texts that have nothing in common are compared all the same.
func TestDiffLarge(t *testing.T) {
	var old, new strings.Builder
	for i := range 200_000 {
		fmt.Fprintln(&old, i)
		fmt.Fprintln(&new, -i)
	}
	begun := time.Now()
	hunks := Diff(old.String(), new.String())
	if got := applied(t, old.String(), hunks); got != new.String() {
		t.Error("the hunks do not make the new text")
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func FuzzDiff(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nc")
	f.Add("", "\n\n")
	f.Add("a\xff\n", "\r\na\x00")
	f.Fuzz(func(t *testing.T, old, new string) {
		hunks := Diff(old, new)
		if got := applied(t, old, hunks); got != new {
			t.Errorf("Apply(%q, Diff(%[1]q, %q)) = %q", old, new, got)
		}
		if got := applied(t, old, nil); got != old {
			t.Errorf("Apply(%q, nil) = %q", old, got)
		}
		var parts []Hunk
		for _, h := range hunks {
			parts = append(parts, h.Split()...)
		}
		if got := applied(t, old, parts); got != new {
			t.Errorf("all parts of Diff(%q, %q) make %q", old, new, got)
		}
		// What is left after a part is what the others do.
		for i := range parts {
			half := applied(t, old, parts[i:i+1])
			if got := applied(t, half, Diff(half, new)); got != new {
				t.Errorf("after %s of Diff(%q, %q) the rest makes %q", text(parts[i:i+1]), old, new, got)
			}
		}
	})
}
