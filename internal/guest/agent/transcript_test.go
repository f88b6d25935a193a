package agent

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// unpack returns the names and contents of an archive of regular files.
func unpack(t *testing.T, r io.Reader) (names []string, contents map[string]string) {
	t.Helper()
	contents = make(map[string]string)
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if h.Typeflag != tar.TypeReg || err != nil {
			t.Fatalf("%s is %q, %v", h.Name, h.Typeflag, err)
		}
		names = append(names, h.Name)
		contents[h.Name] = string(data)
	}
}

// What each agent says is fetched from where it writes that, and nothing else that it
// keeps there: no log-in, no link, nothing that never ends.
func TestTranscripts(t *testing.T) {
	home := t.TempDir()
	g := startGuest(t)
	var none bytes.Buffer
	if n, err := client.Transcripts(g.open(t), home, time.Minute, &none); n != 0 || none.Len() != 0 || err != nil {
		t.Errorf("Transcripts of no agent = %d, %v", n, err)
	}
	said := map[string]string{ // a path below the home, and the name in the archive
		".local/share/mayfly-agents/claude/projects/p/t.jsonl":                        "claude/projects/p/t.jsonl",
		".local/share/mayfly-agents/codex/sessions/2026/01/02/rollout-x.jsonl":        "codex/sessions/2026/01/02/rollout-x.jsonl",
		".local/share/mayfly-agents/copilot/session-state/s/events.jsonl":             "copilot/session-state/s/events.jsonl",
		".gemini/tmp/h/chats/session-1.json":                                          "gemini/tmp/h/chats/session-1.json", // one that was never started by mayfly
		".local/share/mayfly-agents/opencode/data/opencode/opencode.db":               "opencode/opencode.db",
		".local/share/mayfly-agents/opencode/data/opencode/opencode.db-wal":           "opencode/opencode.db-wal",
		".local/share/mayfly-agents/opencode/data/opencode/storage/session/info.json": "opencode/storage/session/info.json",
	}
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var want []string
	for path, name := range said {
		write(path, "said "+name)
		want = append(want, name)
	}
	const agents = ".local/share/mayfly-agents/"
	for _, name := range []string{"claude/.credentials.json", "codex/auth.json", "opencode/data/opencode/auth.json", "other/projects/p"} {
		write(agents+name, "secret")
	}
	projects := filepath.Join(home, agents, "claude/projects")
	secret := write("id_ed25519", "secret")
	huge := write(agents+"claude/projects/huge", "")
	if err := errors.Join(os.Symlink(secret, projects+"/link"), os.Symlink("/", projects+"/root"), unix.Mkfifo(projects+"/fifo", 0o600),
		os.Truncate(huge, 1<<40)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := client.Transcripts(g.open(t), home, time.Minute, &out); err != nil {
		t.Fatal(err)
	}
	names, contents := unpack(t, &out)
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("the transcripts are %q; want %q", names, want)
	}
	for _, name := range want {
		if contents[name] != "said "+name {
			t.Errorf("%s says %q", name, contents[name])
		}
	}
}

// A variable of the user's moves an agent's files, for what is fetched too.
func TestTranscriptsMoved(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/data/opencode", 0o700), os.WriteFile(dir+"/data/opencode/opencode.db", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	places := []wire.TranscriptPlace{{Name: "o", Variable: "XDG_DATA_HOME", Below: "opencode", Dirs: []string{dir + "/none"}, Files: []string{"opencode.db"}}}
	for env, want := range map[string]int{"XDG_DATA_HOME=" + dir + "/data": 1, "XDG_DATA_HOME=": 0, "XDG_DATA_HOME=data": 0, "OTHER=" + dir: 0} {
		if got := findTranscripts(places, []string{env}); len(got) != want {
			t.Errorf("with %s there are %v; want %d", env, got, want)
		}
	}
}

// The newest come first and the stream keeps to its limit; a file that changes meanwhile
// spoils nothing.
func TestSendTranscripts(t *testing.T) {
	dir := t.TempDir()
	var files []transcript
	for i, name := range []string{"new", "large", "old", "shrunk", "gone", "last"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, 10_000), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, transcript{name: name, path: path, size: 10_000, time: time.Unix(1000-int64(i), 0)})
	}
	files[1].size = 1 << 20
	if err := errors.Join(os.Truncate(files[3].path, 5), os.Remove(files[4].path)); err != nil {
		t.Fatal(err)
	}
	const limit = tarEnd + 3*(10_000+tarFile) + 100
	var out bytes.Buffer
	if err := sendTranscripts(&out, files, limit, time.Now().Add(time.Minute)); err != nil || out.Len() > limit {
		t.Errorf("%d bytes, %v; want at most %d", out.Len(), err, limit)
	}
	if names, _ := unpack(t, &out); !slices.Equal(names, []string{"new", "old", "shrunk"}) {
		t.Errorf("sent %q", names)
	}
	out.Reset()
	if err := sendTranscripts(&out, files, limit, time.Now().Add(-time.Second)); err != nil || out.Len() != 0 {
		t.Errorf("after its time the guest sent %d bytes, %v", out.Len(), err)
	}
}
