package supervisor

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// The command of the guest packs what agents said, and nothing else that they keep.
func TestTranscriptArgv(t *testing.T) {
	pack := func(dir string) []byte {
		t.Helper()
		argv := transcriptArgv(dir)
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	dir := t.TempDir()
	if out := pack(filepath.Join(dir, "missing")); len(out) != 0 {
		t.Errorf("of no directory it prints %d bytes", len(out))
	}
	if out := pack(dir); len(out) != 0 {
		t.Errorf("of no transcripts it prints %d bytes", len(out))
	}
	for _, name := range []string{"claude/projects/p/t.jsonl", "claude/.credentials.json", "gemini/.gemini/tmp/chat.json"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("said\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for tr := tar.NewReader(bytes.NewReader(pack(dir))); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		if h.Typeflag == tar.TypeReg {
			got = append(got, h.Name)
		}
	}
	if want := []string{"claude/projects/p/t.jsonl", "gemini/.gemini/tmp/chat.json"}; !slices.Equal(got, want) {
		t.Errorf("it packs %q; want %q", got, want)
	}
}
