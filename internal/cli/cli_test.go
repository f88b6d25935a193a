package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// odd has characters by which terminals are controlled, or readers deceived.
const odd = "a\x1b[2J\x7f\u009b2J\u202eb\U000e0041ä"

// JSON escapes few of these itself.
func TestWriteJSON(t *testing.T) {
	for _, indent := range []string{"", "  "} {
		var out bytes.Buffer
		if err := writeJSON(&out, map[string]string{odd: odd}, indent); err != nil {
			t.Fatal(err)
		}
		if text := out.String(); termsafe.Text(text) != text {
			t.Errorf("writeJSON() = %q; want nothing that controls a terminal", text)
		}
		var got map[string]string
		if err := json.Unmarshal(out.Bytes(), &got); err != nil || got[odd] != odd {
			t.Errorf("writeJSON() of %q reads as %q, %v", odd, got, err)
		}
	}
}

// A list of very many ends when nobody takes it any more, as with `mayfly diff --json | head`.
func TestPrintJSONListToNobody(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	const all = 10_000
	n := 0
	err = (&app{Streams: Streams{Out: w}}).printJSONList(func(yield func(any) bool) {
		for ; n < all && yield(odd); n++ {
		}
	})
	if !errors.Is(err, syscall.EPIPE) || n > all/2 {
		t.Errorf("printJSONList() = %v after %d of %d; want that the pipe is broken, soon", err, n, all)
	}
}

func TestErrorsAndNotesControlNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	a := &app{Streams: Streams{Err: w}}
	a.note("%s", odd+"\nmayfly: hint: evil")
	a.printError(errors.New(odd+"\n\tb\nhint: evil"), false)
	w.Close()
	const want = "mayfly: a?[2J??2J?b?ä\nmayfly:   mayfly: hint: evil\n" +
		"mayfly: error: a?[2J??2J?b?ä\nmayfly:       b\nmayfly:   hint: evil\n"
	if got, err := io.ReadAll(r); err != nil || string(got) != want {
		t.Errorf("printed %q, %v; want %q", got, err, want)
	}
}

// Whatever is in a message, an argument of any length or a path, can be read.
func TestMessagesAreBounded(t *testing.T) {
	long := strings.Repeat("A", 100_000)
	words := strings.Repeat("A ", 50_000)
	lines := strings.Repeat("A\n", 50_000)
	home := t.TempDir()
	for _, args := range [][]string{
		{long}, {"run", "--" + long}, {"run", "--config", long, "--dry-run"}, {"run", "--memory", long, "--dry-run"},
		{"run", "--profile", long, "--dry-run"}, {"run", "-w", long, "--dry-run"}, {"run", "--allow", long, "--dry-run"},
		{"run", "--secret", long, "--dry-run"}, {"run", "--cold=" + long}, {"exec", long}, {"inspect", long}, {"cp", long + ":x", "y"},
		{"new", long}, {"init", "--from", long}, {"import", "nix", long}, {"image", "rm", long}, {"import", "nix", "--evaluator", long, "x"},
		{words}, {"exec", words}, {"init", "--from", words}, {"exec", lines}, {"init", "--from", lines},
	} {
		for _, asJSON := range []bool{false, true} {
			a := userOf(t, home, nil)
			err := a.command(args...)
			if err == nil {
				t.Errorf("%.60q = nil; want an error", args)
				continue
			}
			out, pipeErr := os.Create(filepath.Join(t.TempDir(), "out"))
			if pipeErr != nil {
				t.Fatal(pipeErr)
			}
			a.Err = out
			a.printError(err, asJSON)
			most := int64(2*maxMessage + 10_000)
			if asJSON {
				most *= 4
			}
			fi, statErr := out.Stat()
			out.Close()
			if statErr != nil {
				t.Fatal(statErr)
			}
			if fi.Size() > most || fi.Size() == 0 {
				t.Errorf("the error of %.60q has %d bytes", args, fi.Size())
			}
		}
	}
}
