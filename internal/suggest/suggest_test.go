package suggest

import (
	"strings"
	"testing"
)

func TestDistance(t *testing.T) {
	long := strings.Repeat("a", 1000)
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"main", "main", 0}, {"main", "mian", 1}, {"main", "man", 1}, {"main", "mains", 1},
		{"main", "mein", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}, {long, long + "b", 0}, {long, "", 64},
	} {
		if got := Distance(tt.a, tt.b); got != tt.want {
			t.Errorf("Distance(%.20q, %.20q) = %d; want %d", tt.a, tt.b, got, tt.want)
		}
		if got := Distance(tt.b, tt.a); got != tt.want {
			t.Errorf("Distance(%.20q, %.20q) = %d; want %d", tt.b, tt.a, got, tt.want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"memory", "vcpus", "engine", "go", "go-protobuf"}
	for word, want := range map[string]string{
		"memori": "memory", "Memory": "memory", "mmeory": "memory", "cpus": "vcpus", "goo": "go", "protobuf": "go-protobuf", "zzz": "", "": "",
		strings.Repeat("memory", 11): "",
	} {
		if got := Nearest(word, words); got != want {
			t.Errorf("Nearest(%q) = %q; want %q", word, got, want)
		}
	}
}
