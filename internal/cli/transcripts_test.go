package cli

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// conversations returns an archive of files with these contents, and a hostile entry.
func conversations(t *testing.T, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "claude/projects/link", Linkname: "/etc"})
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f[0], Size: int64(len(f[1])), Mode: 0o4755, ModTime: time.Unix(1000, 0)}
		err = errors.Join(err, tw.WriteHeader(h))
		_, writeErr := io.WriteString(tw, f[1])
		err = errors.Join(err, writeErr)
	}
	if err := errors.Join(err, tw.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// namesIn returns the names of an archive's entries, with their kinds and permissions checked.
func namesIn(t *testing.T, archive []byte) (names []string) {
	t.Helper()
	for tr := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || h.Mode != 0o600 {
			t.Errorf("%s is %q, %o", h.Name, h.Typeflag, h.Mode)
		}
		names = append(names, h.Name)
	}
}

// Conversations of machines that are gone, and of one that runs, are listed, shown and put
// back. What a terminal would obey does not reach one, and no link reaches a machine.
func TestTranscripts(t *testing.T) {
	home := t.TempDir()
	m := runFakeMachine(t, home, nil)
	m.said = conversations(t, [2]string{"claude/projects/p/live.jsonl", "live\n"})
	dir := filepath.Join(home, ".local/state/mayfly/transcripts")
	const gone, older = "run-1-20260102T030405.000000001", "run-1-20250102T030405.000000001"
	hostile := conversations(t, [2]string{"claude/projects/p/a.jsonl", "\x1b[2J\u202ehi\x00"[:len("\x1b[2J\u202ehi")] + "\n"},
		[2]string{"codex/sessions/r.jsonl", "{}\n"}, [2]string{"opencode/opencode.db", "SQLite\x00"}, [2]string{"codex/auth.json", "secret"})
	for name, data := range map[string][]byte{gone: hostile, older: conversations(t, [2]string{"claude/projects/p/old", "old\n"}), "x-20240102T030405.000000001": []byte("no archive")} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name+".tar"), data, 0o600)); err != nil {
			t.Fatal(err)
		}
		when, _ := time.Parse("20060102T150405", strings.Split(name[len(name)-25:], ".")[0])
		if err := os.Chtimes(filepath.Join(dir, name+".tar"), when, when); err != nil {
			t.Fatal(err)
		}
	}
	// on runs a command, and returns what it prints to a pipe, or to a terminal.
	on := func(tty bool, args ...string) (out string, err error) {
		t.Helper()
		a := userOf(t, home, nil)
		file, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		a.Out, a.Err = file, file
		if tty {
			user, ours := pseudoTerminal(t)
			a.In, a.Out = ours, ours
			got := make(chan string, 1)
			go func() {
				var text []byte
				for buf := make([]byte, 4096); !strings.Contains(string(text), "the end"); {
					n, err := user.Read(buf)
					if text = append(text, buf[:n]...); err != nil {
						break
					}
				}
				got <- string(text)
			}()
			err = a.command(args...)
			io.WriteString(ours, "the end")
			return <-got, err
		}
		err = a.command(args...)
		data, readErr := os.ReadFile(file.Name())
		return string(data), errors.Join(err, readErr)
	}

	out, err := on(false, "transcripts", "ls")
	if lines := strings.Split(out, "\n"); err != nil || len(lines) < 7 || !strings.HasPrefix(lines[1], gone+"  run-1    claude") ||
		!strings.HasPrefix(lines[2], gone+"  run-1    codex") || !strings.HasPrefix(lines[4], older) || !strings.Contains(out, "mayfly: x-20240102T030405.000000001: read transcripts: ") {
		t.Errorf("ls = %v:\n%s", err, out)
	}
	out, err = on(false, "transcripts", "ls", "--json", "x")
	if err != nil || !strings.Contains(out, `"error": "read transcripts`) || strings.Contains(out, gone) {
		t.Errorf("ls --json x = %v:\n%s", err, out)
	}
	for _, tt := range []struct {
		args []string
		want string // in its output
	}{
		{[]string{"m"}, "live\nmayfly: 1 entries were left out"}, // a machine that runs is asked
		{[]string{"--agent", "codex", "run-1"}, "{}\nmayfly: 2 entries were left out"},
		{[]string{"--agent", "claude", gone}, "\x1b[2J\u202ehi\nmayfly:"},
		{[]string{older}, "old\n"},
		{[]string{"--json", older}, `"name": "projects/p/old"`},
	} {
		if out, err := on(false, slices.Concat([]string{"transcripts", "show"}, tt.args)...); err != nil || !strings.Contains(out, tt.want) {
			t.Errorf("show %q = %v, %q; want %q", tt.args, err, out, tt.want)
		}
	}
	t.Setenv("PAGER", "cat")
	out, err = on(true, "transcripts", "show", gone)
	if err != nil || strings.ContainsAny(out, "\x1b\x00\u202e") || !strings.Contains(out, "==> claude/projects/p/a.jsonl <==") ||
		!strings.Contains(out, "hi") || !strings.Contains(out, "no text)") {
		t.Errorf("on a terminal, show = %v, %q", err, out)
	}
	for _, args := range [][]string{{"nobody"}, {"--agent", "gemini", gone}, {"--agent", "nonsense", gone}, {"-o", filepath.Join(dir, gone+".tar"), gone}} {
		if out, err := on(false, slices.Concat([]string{"transcripts", "show"}, args)...); err == nil {
			t.Errorf("show %q prints %q", args, out)
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, gone+".tar")); err != nil || !bytes.Equal(data, hostile) {
		t.Error("an archive was overwritten")
	}
	if _, err := on(true, "transcripts", "show", "-o", "-", gone); err == nil {
		t.Error("an archive was written to a terminal")
	}
	good := []string{"claude/projects/p/a.jsonl", "codex/sessions/r.jsonl", "opencode/opencode.db"}
	exported := filepath.Join(t.TempDir(), "out.tar")
	if out, err := on(false, "transcripts", "show", "-o", exported, gone); err != nil {
		t.Errorf("export: %v, %q", err, out)
	}
	data, err := os.ReadFile(exported)
	if names := namesIn(t, data); err != nil || !slices.Equal(names, good) {
		t.Errorf("exported %q, %v", names, err)
	}

	if _, err := on(false, "transcripts", "restore", "run-1"); errorCode(err) != "machine-not-found" {
		t.Errorf("restore into a machine that is gone = %v", err)
	}
	out, err = on(false, "transcripts", "restore", "run-1", "--into", "m")
	if names := namesIn(t, m.restored); err != nil || !slices.Equal(names, good) || !strings.Contains(out, "mayfly claude m --continue") || !strings.Contains(out, "2 files were in m already") {
		t.Errorf("restored %q, %v:\n%s", names, err, out)
	}
	out, err = on(false, "transcripts", "restore", "--json", "--agent", "codex", gone, "--into", "m")
	if names := namesIn(t, m.restored); err != nil || !slices.Equal(names, good[1:2]) || !strings.Contains(out, `"kept": 2`) {
		t.Errorf("restored %q, %v:\n%s", names, err, out)
	}
	// What a machine itself keeps is none of its earlier conversations.
	if _, err := on(false, "transcripts", "restore", "m"); errorCode(err) != "transcripts-none" {
		t.Errorf("restore of a machine without earlier ones = %v", err)
	}
}
