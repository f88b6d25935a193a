package agent

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

func TestSeedBlock(t *testing.T) {
	g := startGuest(t)
	dir := t.TempDir()
	seed := func(name, text string) {
		t.Helper()
		if _, err := seedFiles(t, g, wire.SeedFile{Path: dir + "/" + name, Text: text, Block: true}); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("own", "mine")
	seed("own", "one\n")
	seed("own", "two\n")
	got, err := os.ReadFile(dir + "/own")
	if want := "mine" + blockBegin + "two\n" + blockEnd; err != nil || string(got) != want {
		t.Errorf("own holds %q, %v; want %q", got, err, want)
	}
	seed("own", "")
	if got, err := os.ReadFile(dir + "/own"); err != nil || string(got) != "mine" {
		t.Errorf("without the block: %q, %v", got, err)
	}
	seed("new/file", "one\n")
	if got, err := os.ReadFile(dir + "/new/file"); err != nil || string(got) != blockBegin+"one\n"+blockEnd {
		t.Errorf("new: %q, %v", got, err)
	}
	seed("new/file", "")
	seed("never/file", "")
	for _, name := range []string{"new/file", "never"} {
		if exists(dir + "/" + name) {
			t.Errorf("%s is there without a block", name)
		}
	}
}

// Whatever the text: a block is in it once, and without it the text is as it was, byte for
// byte.
func FuzzMergeBlock(f *testing.F) {
	for _, seed := range []string{"", "x", "x\n", "\n\n", blockBegin, blockEnd, blockBegin + "x\n" + blockEnd + "y", blockEnd + blockBegin, "\r\n\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		one := mergeBlock(text, "one\n")
		two := mergeBlock(one, "two\n")
		if again := mergeBlock(two, "two\n"); !bytes.Equal(again, two) {
			t.Fatalf("a second merge of %q: %q", two, again)
		}
		if bytes.Contains(text, []byte(strings.TrimSpace(blockBegin))) {
			return // one was there, or a part of one
		}
		if bytes.Count(two, []byte("two\n"+blockEnd)) != 1 || bytes.Contains(two, []byte("one\n"+blockEnd)) && !bytes.Contains(text, []byte("one\n"+blockEnd)) {
			t.Errorf("of %q came %q", text, two)
		}
		if back := mergeBlock(two, ""); !bytes.Equal(back, text) {
			t.Errorf("of %q came %q without the block", text, back)
		}
	})
}
