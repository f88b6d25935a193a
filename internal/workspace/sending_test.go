package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sampleSending(t testing.TB) *Sending {
	s := &Sending{Of: 7}
	for _, e := range sampleSynced(t).Entries {
		s.Items = append(s.Items, Item{Path: e.Path, Old: []State{{Kind: File}}, New: e.state(), Sent: e})
	}
	s.Items[1].New.Size++ // as of a merge
	s.Items[2].Path, s.Items[2].Sent.Path = "not\xffUTF-8", "not\xffUTF-8"
	return s
}

// What is written is read.
func TestSendingFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sending")
	if s, err := ReadSending(name); s != nil || err != nil {
		t.Errorf("without a file: %v, %v", s, err)
	}
	want := sampleSending(t)
	if err := want.Write(name); err != nil {
		t.Fatal(err)
	}
	got, err := ReadSending(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"x\n", "1\nx\n", `1` + "\n" + `{"path":"Li4="}` + "\n", `1` + "\n" + `{"path":"YQ==","old":9}` + "\n"} {
		if s, err := parseSending(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is read as %v", bad, s)
		}
	}
}

func FuzzReadSending(f *testing.F) {
	name := filepath.Join(f.TempDir(), "sending")
	if err := sampleSending(f).Write(name); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSending(strings.NewReader(text))
		if err != nil {
			return
		}
		for i := range s.Items {
			if it := &s.Items[i]; checkPath(it.Path) != nil || it.New.Size < 0 || it.Sent.Kind > Symlink || len(it.Old) != 1 {
				t.Errorf("it read %+v", it)
			}
		}
	})
}
