package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
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
