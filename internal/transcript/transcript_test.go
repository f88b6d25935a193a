package transcript

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// archive returns one of these entries, each of which holds its name unless it has a size.
func archive(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range entries {
		content := h.Name
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(content))
		} else {
			content = ""
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Of a hostile archive there are only regular files where agents keep conversations.
func TestRead(t *testing.T) {
	last := time.Unix(1000, 0)
	good := []string{
		"claude/projects/p/t.jsonl", "codex/sessions/2026/r.jsonl", "gemini/tmp/h/chats/s.json", "gemini/tmp/binary",
		"opencode/opencode.db", "opencode/opencode.db-wal", "copilot/session-state/s/ä \x1b[2J.jsonl",
	}
	var entries []tar.Header
	for _, name := range good {
		entries = append(entries, tar.Header{Name: name, ModTime: last, Mode: 0o7777, Uname: "root"})
	}
	bad := []tar.Header{
		{Name: "claude/.credentials.json"}, {Name: "claude/projects-not"}, {Name: "opencode/opencode.db-shm"},
		{Name: "other/projects/a"}, {Name: "claude"}, {Name: "/claude/projects/a"}, {Name: "claude//projects/a"},
		{Name: "claude/projects/../settings.json"}, {Name: "claude/projects/a/../../../codex/auth.json"}, {Name: "claude/projects/./a"},
		{Name: "claude/projects/" + strings.Repeat("d/", maxDepth) + "a"}, {Name: "claude/projects/" + strings.Repeat("n", maxPath)},
		{Name: "claude/projects/\xff"}, {Name: "gemini/tmp/bin/rg"}, {Name: "gemini/tmp/bin"},
		{Name: "claude/projects/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		{Name: "claude/projects/hard", Typeflag: tar.TypeLink, Linkname: "claude/.credentials.json"},
		{Name: "claude/projects/dir", Typeflag: tar.TypeDir}, {Name: "claude/projects/fifo", Typeflag: tar.TypeFifo},
		{Name: "claude/projects/device", Typeflag: tar.TypeBlock},
	}
	var names []string
	left, err := Read(bytes.NewReader(archive(t, append(entries, bad...)...)), 1<<20, func(f File, r io.Reader) error {
		data, err := io.ReadAll(r)
		name := f.Agent + "/" + f.Name
		if string(data) != name || f.Size != int64(len(name)) || !f.Time.Equal(last) {
			t.Errorf("%+v holds %q", f, data)
		}
		names = append(names, name)
		return err
	})
	if !slices.Equal(names, good) || left != len(bad) || err != nil {
		t.Errorf("Read = %q, and left out %d, %v; want %q and %d", names, left, err, good, len(bad))
	}
	nothing := func(File, io.Reader) error { return nil }
	if _, err := Read(bytes.NewReader(archive(t, entries...)), 100, nothing); err == nil {
		t.Error("more than the limit was read")
	}
	whole := archive(t, entries...)
	if _, err := Read(bytes.NewReader(whole[:700]), 1<<20, func(_ File, r io.Reader) error {
		_, err := io.ReadAll(r)
		return err
	}); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Read of the half = %v", err)
	}
	var many bytes.Buffer
	tw := tar.NewWriter(&many)
	for range maxFiles + 1 {
		tw.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg})
	}
	tw.Close()
	if left, err := Read(&many, 1<<20, nothing); err == nil || left != maxFiles {
		t.Errorf("Read of very many = %d, %v", left, err)
	}
}

// What is written again has its names and contents, and no owner and no mode of the guest's.
func TestWriter(t *testing.T) {
	in := archive(t, tar.Header{Name: "claude/projects/a", Mode: 0o4755, Uid: 1000, Uname: "x"})
	var out bytes.Buffer
	w := NewWriter(&out)
	if _, err := Read(bytes.NewReader(in), 1000, w.Add); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(&out).Next()
	if err != nil || h.Name != "claude/projects/a" || h.Mode != 0o600 || h.Uid != 0 || h.Uname != "" {
		t.Errorf("%+v, %v", h, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "claude/projects/a"}, tar.Header{Name: "opencode/opencode.db"}))
	f.Add(archive(f, tar.Header{Name: "claude/projects/l", Typeflag: tar.TypeSymlink, Linkname: "/"}, tar.Header{Name: "claude/../x"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1 << 16
		total := int64(0)
		Read(bytes.NewReader(data), limit, func(f File, r io.Reader) error {
			n, err := io.Copy(io.Discard, r)
			if total += f.Size; n > f.Size || total > limit {
				t.Fatalf("%+v has %d bytes, and all %d", f, n, total)
			}
			if name := f.Agent + "/" + f.Name; !filepath.IsLocal(name) || filepath.Clean(name) != name || strings.Count(name, "/") < 1 {
				t.Fatalf("%q is read", name)
			}
			return err
		})
	})
}
