package test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// begin starts a program in a session of the machine name, and does not look on.
func begin(t testing.TB, h *vm.Host, name, session string, argv ...string) {
	t.Helper()
	m, err := state.Open(h.State).Get(name)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := control.OpenGuest(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	req := &wire.Session{Name: session, Detached: true, Exec: &wire.Exec{Argv: argv, Dir: "/"}}
	if _, err := client.Session(stream, req, client.Stdio{}, func(wire.SessionInfo) {}); err != nil {
		t.Fatal(err)
	}
}

// A picture comes into the machine as it is, and its path to the prompt of the program.
func TestPaste(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	h.Run(0, "run", "--keep", "--name", "p", "--network", "none", "--", "true")
	picture := append([]byte("\x89PNG\r\n\x1a\n"), bytes.Repeat([]byte{0, 1, 0xff, '\r', '\n', 3}, 20000)...)
	file := filepath.Join(t.TempDir(), "a picture.jpeg")
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		t.Fatal(err)
	}
	path := regexp.MustCompile(`/\S+/\.cache/mayfly-paste/[a-z2-7]{12}\.png`)
	same := func(guest string) {
		t.Helper()
		if got := h.Run(0, "exec", "p", "--", "cat", guest).Stdout; got != string(picture) {
			t.Errorf("%s has %d bytes; want the %d of the picture", guest, len(got), len(picture))
		}
		if got := h.Run(0, "exec", "p", "--", "stat", "-c", "%a", guest).Stdout; got != "600\n" {
			t.Errorf("%s is %s", guest, got)
		}
	}

	// Without a session it is printed, also of standard input.
	printed := h.Run(0, "paste", "p", file).Stdout
	if !path.MatchString(printed) || strings.Count(printed, "\n") != 1 {
		t.Fatalf("without a session it prints %q", printed)
	}
	same(strings.TrimSpace(printed))
	piped := h.Mayfly("paste", "--print", "p", "-")
	piped.Stdin = bytes.NewReader(picture)
	if r := piped.Run(); !path.MatchString(r.Stdout) || r.Code != 0 || r.Stdout == printed {
		t.Errorf("of standard input it prints %q, %q", r.Stdout, r.Stderr)
	}

	// A program that wants to know what is pasted, on a terminal of its own.
	begin(t, h, "p", "reads", "bash", "-c", `printf '\033[?2004h'; printf 'ready\n'; exec cat -v`)
	term := h.Terminal("attach", "p")
	term.Expect("ready")
	said := h.Run(0, "paste", "p", file)
	guest := path.FindString(said.Stderr)
	if said.Stdout != "" || guest == "" || !strings.Contains(said.Stderr, "reads in p has "+guest+" at its prompt") {
		t.Fatalf("it says %q, %q", said.Stdout, said.Stderr)
	}
	same(guest)
	term.Expect("[200~" + guest)
	term.Expect("[201~")
	if n := strings.Count(term.Screen(), guest); n != 1 {
		t.Errorf("the path is there %d times before Enter is typed: %q", n, term.Screen())
	}

	// One that is dropped on the terminal.
	outside := filepath.Join(t.TempDir(), "it's.png")
	if err := os.WriteFile(outside, picture, 0o600); err != nil {
		t.Fatal(err)
	}
	term.Type("\r\x1b[200~'" + strings.ReplaceAll(outside, "'", `'\''`) + "' \x1b[201~?")
	term.Expect("it's.png was put into the machine")
	term.Expect("[200~/")
	term.Expect("[201~?")
	dropped := path.FindAllString(term.Screen(), -1)
	if same(dropped[len(dropped)-1]); dropped[len(dropped)-1] == guest || strings.Contains(term.Screen(), outside) {
		t.Errorf("of one that is dropped the program shows %q", term.Screen())
	}
	term.Type(leaveKeys)
	ends(t, term, 0)

	if r := h.Run(1, "paste", "--session", "other", "p", file); !strings.Contains(r.Stderr, "no session other runs in p") {
		t.Errorf("for a session that there is not it says %q", r.Stderr)
	}
	if got := h.Run(0, "exec", "p", "--", "sh", "-c", "ls ~/.cache/mayfly-paste | wc -l").Stdout; strings.TrimSpace(got) != "4" {
		t.Errorf("there are %s files in the machine; want 4", got)
	}
	h.Run(0, "rm", "--force", "p")
}
