package definition

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Transcripts stay for a time that begins when their machine goes, and the oldest make
// room.
func TestTranscripts(t *testing.T) {
	s := testStore(t)
	now := time.Now()
	if path, err := s.SaveTranscripts("m", now); path != "" || err != nil {
		t.Errorf("SaveTranscripts without any = %q, %v", path, err)
	}
	if removed, err := s.CollectTranscripts(now); removed != nil || err != nil {
		t.Errorf("CollectTranscripts without any = %q, %v", removed, err)
	}
	if err := os.MkdirAll(s.At("m").Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// save puts away what the machine's last stop, long ago, has left.
	save := func(age time.Duration, size int64) string {
		t.Helper()
		from := s.At("m").File(TranscriptsFile)
		if err := os.WriteFile(from, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(from, size); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(from, now, now.Add(-10*TranscriptAge)); err != nil {
			t.Fatal(err)
		}
		path, err := s.SaveTranscripts("m", now.Add(-age))
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Base(path)
	}
	collect := func(want ...string) {
		t.Helper()
		removed, err := s.CollectTranscripts(now)
		if d := cmp.Diff(want, removed); d != "" || err != nil {
			t.Errorf("CollectTranscripts (-want +got):\n%s%v", d, err)
		}
	}
	old := save(TranscriptAge+time.Minute, 1)
	save(TranscriptAge-time.Minute, 1)
	save(time.Hour, TranscriptBytes-1)
	foreign := filepath.Join(s.StateDir, transcriptsDir, "notes.txt")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(foreign, now, now.Add(-10*TranscriptAge)); err != nil {
		t.Fatal(err)
	}
	collect(old)
	collect()
	save(0, 1)
	all, err := filepath.Glob(filepath.Join(s.StateDir, transcriptsDir, "*.tar"))
	if err != nil || len(all) != 3 {
		t.Fatalf("there are %q, %v; want three", all, err)
	}
	collect(filepath.Base(all[0])) // the one that is almost too old makes room
	// One that keeps nothing of its own puts its archive there, and the oldest go.
	write := func(text string, err error) func(io.Writer) (int64, error) {
		return func(w io.Writer) (int64, error) {
			n, _ := io.WriteString(w, text)
			return int64(n), err
		}
	}
	if path, err := s.AddTranscripts("run-1", now, write("", nil)); path != "" || err != nil {
		t.Errorf("AddTranscripts without any = %q, %v", path, err)
	}
	if path, err := s.AddTranscripts("run-1", now, write("cut", errors.New("lost"))); path != "" || err == nil {
		t.Errorf("AddTranscripts of a guest that was lost = %q, %v", path, err)
	}
	path, err := s.AddTranscripts("run-1", now, write("said", nil))
	if data, readErr := os.ReadFile(path); err != nil || readErr != nil || string(data) != "said" {
		t.Errorf("AddTranscripts = %q, %v; it holds %q, %v", path, err, data, readErr)
	}
	all, err = filepath.Glob(filepath.Join(s.StateDir, transcriptsDir, "*"))
	if err != nil || len(all) != 3 { // of the two that take a GiB together one has gone
		t.Errorf("there are %q, %v; want three", all, err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("what is no archive is gone: %v", err)
	}
}

// Archives are listed by machine and time, the newest first, and what else lies there is not.
func TestListTranscripts(t *testing.T) {
	s := testStore(t)
	if all, err := s.Transcripts(); len(all) > 0 || err != nil {
		t.Errorf("Transcripts without any = %v, %v", all, err)
	}
	now := time.Now().Truncate(time.Second)
	dir := filepath.Join(s.StateDir, transcriptsDir)
	gone := func(name string, ago time.Duration) string {
		return filepath.Base(transcriptsFile(dir, name, now.Add(-ago)))
	}
	old, lost := gone("run-1", 2*time.Hour), gone("web", time.Hour)
	files := map[string]time.Duration{
		filepath.Join(dir, old): 2 * time.Hour, filepath.Join(dir, lost): time.Hour, s.At("web").File(TranscriptsFile): 0,
		filepath.Join(dir, "web-1.tar"): 0, filepath.Join(dir, "notes.txt"): 0, filepath.Join(dir, "Not a name"+old): 0,
		filepath.Join(dir, old+".tmp"): 0,
	}
	for path, ago := range files {
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("said"), 0o600), os.Chtimes(path, now, now.Add(-ago)))
		if err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, gone("link", 0))
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	all, err := s.Transcripts()
	if err != nil {
		t.Fatal(err)
	}
	want := []Archive{
		{"web", "web", s.At("web").File(TranscriptsFile), now, 4},
		{strings.TrimSuffix(lost, ".tar"), "web", filepath.Join(dir, lost), now.Add(-time.Hour), 4},
		{strings.TrimSuffix(old, ".tar"), "run-1", filepath.Join(dir, old), now.Add(-2 * time.Hour), 4},
	}
	if d := cmp.Diff(want, all); d != "" {
		t.Errorf("Transcripts (-want +got):\n%s", d)
	}
	if !all[0].Kept() || all[1].Kept() {
		t.Error("it is not clear which machine is there")
	}
	if f, err := (Archive{Path: link}).Open(); err == nil {
		f.Close()
		t.Error("an archive was opened through a link")
	}
}
