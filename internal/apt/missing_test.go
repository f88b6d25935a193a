package apt

import (
	"slices"
	"testing"
)

func TestParseMadison(t *testing.T) {
	const out = "      make |    4.4.1-2 | mirror trixie/main amd64 Packages\n" +
		"      g++ | 4:14.2.0-1 | mirror trixie/main amd64 Packages\n" +
		"N: something else\n"
	if got, want := parseMadison(out), []string{"make", "g++"}; !slices.Equal(got, want) {
		t.Errorf("parseMadison() = %q; want %q", got, want)
	}
}
