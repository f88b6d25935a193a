package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// taker is a machine that takes files.
type taker struct {
	plan  mayfly.Plan
	took  []string // what it was given, with the extension
	fails error
}

func (m *taker) Name() string      { return "web" }
func (m *taker) Plan() mayfly.Plan { return m.plan }
func (m *taker) Drop(_ context.Context, data []byte, extension string) (string, error) {
	if m.fails != nil {
		return "", m.fails
	}
	m.took = append(m.took, extension+" "+string(data))
	return fmt.Sprintf("/guest/%d.%s", len(m.took), extension), nil
}

// The path of a picture that is pasted becomes that of the picture in the machine, and says
// so. All else that is pasted stays as it is, and no file of it is given away.
func TestPasted(t *testing.T) {
	const picture = "\x89PNG\r\n\x1a\npicture"
	dir := t.TempDir()
	for name, data := range map[string]string{"a b.png": picture, "notes.txt": "text", ".ssh/a.png": picture, "work/a.png": picture, "live/a.png": picture} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	paste := func(text string) string { return "\x1b[200~" + text + "\x1b[201~" }
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, tt := range []struct {
		name, typed string
		want        string // "" for what was typed
		copied      string // what the machine has put into the clipboard before
		fails       error
		off         bool
		notice      string
	}{
		{name: "a picture", typed: paste(at("a b.png")), want: paste("/guest/1.png"), notice: "web: a b.png was put into the machine"},
		{name: "as it is dropped", typed: "x" + paste("'"+at("a b.png")+"' ") + "y", want: "x" + paste("/guest/1.png") + "y", notice: "put into the machine"},
		{name: "two", typed: paste("'" + at("a b.png") + "' '" + at("a b.png") + "'"), want: paste("/guest/1.png") + " " + paste("/guest/2.png"), notice: "a b.png and 1 more"},
		{name: "no picture", typed: paste(at("notes.txt"))},
		{name: "a hidden one", typed: paste(at(".ssh/a.png"))},
		{name: "of the workspace", typed: paste(at("work/a.png"))},
		{name: "of a live share", typed: paste(at("live/a.png"))},
		{name: "typed and not pasted", typed: at("a b.png") + "\r"},
		{name: "switched off", typed: paste(at("a b.png")), off: true},
		{name: "the machine takes none", typed: paste(at("a b.png")), fails: errors.New("no space\nleft"), notice: "did not get into the machine"},
		{name: "a path that the machine has copied", typed: paste(at("a b.png")), copied: at("a b.png") + "\n", notice: "has put this path into your clipboard"},
		{name: "after it has copied another", typed: paste(at("a b.png")), copied: at("notes.txt"), want: paste("/guest/1.png"), notice: "put into the machine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &taker{fails: tt.fails}
			m.plan.Workspace = at("work")
			m.plan.Shares = []mayfly.Share{{Source: at("live"), Path: at("live")}}
			var screen bytes.Buffer
			guard := terminal.NewGuard(&screen, "web", "")
			fmt.Fprint(guard, "\x1b[?2004h")
			if tt.copied != "" {
				io.Copy(io.Discard, guard.Input(strings.NewReader("key")))
				fmt.Fprint(guard, "\x1b]52;c;"+base64.StdEncoding.EncodeToString([]byte(tt.copied))+"\a")
				if guard.Stats().Clipboard != 1 {
					t.Fatal("the clipboard was not set")
				}
			}
			if tt.want == "" {
				tt.want = tt.typed
			}
			keys := &terminal.DetachReader{From: strings.NewReader(tt.typed)}
			r, _ := pastes(t.Context(), keys, m, guard, func(string) string { return "" }, !tt.off)
			got, err := io.ReadAll(r)
			if string(got) != tt.want || err != nil {
				t.Errorf("the program gets %q, %v; want %q", got, err, tt.want)
			}
			if (tt.want != tt.typed) != (len(m.took) > 0) || len(m.took) > 0 && m.took[0] != "png "+picture {
				t.Errorf("the machine got %q", m.took)
			}
			if said := screen.String(); !strings.Contains(said, tt.notice) || tt.notice == "" && strings.Contains(said, "\x1b]2;") || strings.Contains(said, "space\n") {
				t.Errorf("it says %q; want %q", said, tt.notice)
			}
		})
	}
}

// The keys for the clipboard put its picture at the prompt, and say why there is none.
func TestPasteKeys(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\n[ \"$1\" = --list-types ] && { cat \"${0%/*}/types\"; exit; }\ncase $3 in text/*) echo hello; exit;; esac\nprintf '\\211PNG\\r\\n\\032\\nx'\n"
	if err := os.WriteFile(filepath.Join(bin, "wl-paste"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	for _, tt := range []struct{ types, want, notice string }{
		{"image/png", "a\x1b[200~/guest/1.png\x1b[201~", "web: clipboard was put into the machine"},
		{"text/plain", "a", "there is neither a picture nor a file on the clipboard"},
		{"", "a", "there is nothing on the clipboard"},
	} {
		if err := os.WriteFile(filepath.Join(bin, "types"), []byte(tt.types), 0o600); err != nil {
			t.Fatal(err)
		}
		said := make(chan string, 1)
		guard := terminal.NewGuard(writer(func(p []byte) (int, error) {
			if bytes.Contains(p, []byte("\x1b]2;")) {
				said <- string(p)
			}
			return len(p), nil
		}), "web", "")
		fmt.Fprint(guard, "\x1b[?2004h")
		in, out := io.Pipe()
		keys := &terminal.DetachReader{From: in, PasteKeys: terminal.DetachKeys(terminal.DefaultPasteKeys)}
		r, _ := pastes(t.Context(), keys, &taker{}, guard, func(string) string { return "wayland-0" }, true)
		go io.WriteString(out, "a"+terminal.DefaultPasteKeys)
		got := make([]byte, len(tt.want))
		if _, err := io.ReadFull(r, got[:1]); err != nil {
			t.Fatal(err)
		}
		if s := <-said; !strings.Contains(s, tt.notice) {
			t.Errorf("with %q it says %q; want %q", tt.types, s, tt.notice)
		}
		if _, err := io.ReadFull(r, got[1:]); err != nil || string(got) != tt.want {
			t.Errorf("with %q the program gets %q, %v; want %q", tt.types, got, err, tt.want)
		}
		out.Close()
	}
}

// slow is a machine that takes a file only when it is let.
type slow struct {
	taker
	begun, let chan struct{}
}

func (m *slow) Drop(context.Context, []byte, string) (string, error) {
	m.begun <- struct{}{}
	<-m.let
	return "", errors.New("left")
}

// A paste under way writes nothing on a terminal that was given back.
func TestPastedIsLeft(t *testing.T) {
	picture := filepath.Join(t.TempDir(), "a.png")
	if err := os.WriteFile(picture, []byte("\x89PNG\r\n\x1a\npicture"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cancelled := range []bool{false, true} {
		var screen bytes.Buffer
		guard := terminal.NewGuard(&screen, "web", "")
		m := &slow{begun: make(chan struct{}), let: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		p := &paster{ctx: ctx, m: m, guard: guard}
		replaced := make(chan []string)
		go func() { replaced <- p.replace(picture) }()
		<-m.begun
		if cancelled {
			cancel()
		} else {
			p.leave()
		}
		guard.Restore()
		close(m.let)
		if got := <-replaced; len(got) > 0 || screen.Len() > 0 {
			t.Errorf("behind the end there is %q, and on the terminal %q", got, screen.String())
		}
		cancel()
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
