package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly"
)

// errTo gives a an Err, and returns what is printed to it once f has returned.
func errTo(t *testing.T, a *app, f func()) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "err"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	a.Err = file
	f()
	file.Seek(0, io.SeekStart)
	text, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func change(machine string, state mayfly.SessionState, last string) mayfly.SessionChange {
	return mayfly.SessionChange{Machine: machine, Session: &mayfly.Session{Name: "claude", State: state, Last: last}}
}

// A change is a line, or an object, with nothing of the machine's that a terminal obeys.
func TestPrintChange(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 5, 0, time.UTC)
	asks := change("web", mayfly.SessionNeedsPermission, "Bash: \x1b]0;x\a")
	asks.Session.Since = now.Add(-3 * time.Minute)
	for _, tt := range []struct {
		change mayfly.SessionChange
		json   bool
		want   string
	}{
		{asks, false, "12:00:05  web: claude needs permission, 3 min: Bash: ?]0;x?\n"},
		{mayfly.SessionChange{Machine: "web"}, false, "12:00:05  web: has ended\n"},
		{mayfly.SessionChange{Machine: "web"}, true, "{\"machine\":\"web\"}\n"},
	} {
		a := &app{json: tt.json}
		got, err := printedBy(t, a, func() error { return a.printChange(tt.change, now) })
		if err != nil || got != tt.want {
			t.Errorf("printChange(%+v) = %q, %v; want %q", tt.change, got, err, tt.want)
		}
	}
}

// A desktop is notified of who waits, once, with text that is no markup and no option.
func TestNotify(t *testing.T) {
	dir := t.TempDir()
	sent := filepath.Join(dir, "sent")
	script := "#!/bin/sh\nfor a in \"$@\"; do printf '%s\\n' \"$a\"; done >>" + sent + "\n"
	if err := os.WriteFile(filepath.Join(dir, "notify-send"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	a := &app{getenv: func(name string) string {
		if name == "DBUS_SESSION_BUS_ADDRESS" {
			return "unix:path=/nowhere"
		}
		return ""
	}}
	n := a.newNotifier(t.Context())
	first := change("old", mayfly.SessionNeedsAnswer, "")
	first.First = true
	n.take(first)
	n.take(mayfly.SessionChange{Machine: "gone"})
	n.take(change("web", mayfly.SessionWorks, "x"))
	n.take(change("web", mayfly.SessionNeedsPermission, "Bash: <a href=\"x\">\x1b[2J"+strings.Repeat("y", 1000)))
	n.take(change("db", mayfly.SessionDone, ""))
	n.end()
	got, err := os.ReadFile(sent)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(got), "\n"), "\n")
	if len(lines) != 10 || lines[2] != "--" || lines[3] != "mayfly: web" || lines[9] != "claude is done" ||
		!strings.HasPrefix(lines[4], "claude needs permission: Bash: &lt;a href=&#34;x&#34;&gt;?[2Jyyy") || len(lines[4]) > 250 {
		t.Errorf("notify-send got %q", lines)
	}
}

// A machine that waits again and again is notified of a few times, and later again.
func TestNotifyFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &notifier{queue: newQueue(func(notification) {}, func() {}), left: make(map[string]*allowance)}
		defer n.end()
		for range 1000 {
			n.take(change("web", mayfly.SessionNeedsAnswer, ""))
		}
		l := n.left["web"]
		if l.take(time.Now()) {
			t.Error("a flood is not bounded")
		}
		for range 3 {
			time.Sleep(notifyTime)
			if !l.take(time.Now()) {
				t.Error("later, none is shown")
			}
		}
	})
}

// The user's command gets names and a state, and no text of the machine's. What it prints is
// shown, and that it fails, too.
func TestWatchExec(t *testing.T) {
	a := &app{getenv: os.Getenv}
	got := errTo(t, a, func() {
		r := a.newRunner(t.Context(), `echo "$MAYFLY_MACHINE/$MAYFLY_SESSION/$MAYFLY_STATE $(env | grep -c "touch x")"; test "$MAYFLY_STATE" != ended`)
		first := change("old", mayfly.SessionNeedsAnswer, "")
		first.First = true
		r.take(first)
		r.take(change("web", mayfly.SessionNeedsPermission, "$(touch x)"))
		r.take(mayfly.SessionChange{Machine: "web"})
		r.end()
	})
	want := "web/claude/needs permission 0\nweb//ended 0\nmayfly: --exec for web: exit status 1\n"
	if got != want {
		t.Errorf("it printed %q; want %q", got, want)
	}
}
