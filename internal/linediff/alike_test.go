package linediff

import (
	"strings"
	"testing"
)

func TestAlike(t *testing.T) {
	ten := "1\n2\n3\n4\n5\n6\n7\n8\n9\nx\n"
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 100}, {"a\n", "", 0}, {ten, ten, 100},
		{ten, strings.Replace(ten, "x\n", "y\n", 1), 90},
		{ten, "x\n9\n8\n7\n6\n5\n4\n3\n2\n1\n", 100}, // the order does not matter
		{ten, ten + ten, 50}, {ten, ten + ten + "z\n", 0},
		{"a\na\na\na\n", "a\na\nb\nb\n", 50},
		{strings.Repeat("\x00\x01", 100), strings.Repeat("\x00\x01", 100), 100},
		{strings.Repeat("ab", 320), strings.Repeat("ab", 160) + strings.Repeat("cd", 160), 50},
	} {
		if got := NewPrint([]byte(tt.a)).Alike(NewPrint([]byte(tt.b))); got != tt.want {
			t.Errorf("%.30q and %.30q are alike by %d; want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func FuzzAlike(f *testing.F) {
	f.Add([]byte("a\nb\n"), []byte("b\na"))
	f.Add([]byte{0, 1, 2}, []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p, q := NewPrint(a), NewPrint(b)
		if p.Alike(p) != 100 {
			t.Errorf("%q is not like itself", a)
		}
		if n, m := p.Alike(q), q.Alike(p); n != m || n < 0 || n > 100 {
			t.Errorf("%q and %q are alike by %d and %d", a, b, n, m)
		}
	})
}
