package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestMessageRoundTrip(t *testing.T) {
	in := []Request{
		{Op: OpHello},
		{Op: OpClock, Clock: &Clock{Adjust: -1 << 40}},
		{Op: OpPrepare, Prepare: &Prepare{Layers: []string{"slot1"}, Scratch: "slot0", Warm: []string{"true"}, WarmSeconds: 1}},
		{Op: OpConfigure, Configure: &Configure{
			Hostname: "m", MachineID: strings.Repeat("0", 32), Time: 1 << 60, Entropy: []byte{0, 255},
			Workspace: &Workspace{Serial: "slot5", Path: "/home/a b/ä"},
			User:      User{Name: "u", UID: 1000, GID: 1000, Groups: []Group{{"g", 7}}, Home: "/home/u", Shell: "zsh"},
			Env:       []string{"A=b"},
		}},
		{Op: OpExec, Exec: &Exec{Argv: []string{"a", ""}, Dir: "/", TTY: &Winsize{24, 80}}},
		{Op: OpFetch, Fetch: &Fetch{Paths: [][]byte{[]byte("a\xff\nb")}}},
	}
	var b bytes.Buffer
	for _, m := range in {
		if err := WriteMessage(&b, m); err != nil {
			t.Fatal(err)
		}
	}
	r := iotest.OneByteReader(&b)
	for _, want := range in {
		var got Request
		if err := ReadMessage(r, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("a request came out different (-want +got):\n%s", d)
		}
	}
	if err := ReadMessage(r, new(Request)); err != io.EOF {
		t.Errorf("ReadMessage between messages = %v; want io.EOF", err)
	}
}

// Names are bytes: what is no UTF-8 must come back as it was.
func TestChangeKeepsBytes(t *testing.T) {
	want := Change{Path: []byte("\x80/\xff"), Kind: KindSymlink, Target: []byte("\xfe"), MTime: -1}
	var b bytes.Buffer
	if err := WriteMessage(&b, want); err != nil {
		t.Fatal(err)
	}
	var got Change
	if err := ReadMessage(&b, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("a change came out different (-want +got):\n%s", d)
	}
}

func message(n uint32, body string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, n), body...)
}

func TestReadMessageBad(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []byte
		want error // nil for any
	}{
		{"nothing", nil, io.EOF},
		{"half a length", []byte{1, 0}, io.ErrUnexpectedEOF},
		{"no body", message(2, ""), io.ErrUnexpectedEOF},
		{"half a body", message(2, "{"), io.ErrUnexpectedEOF},
		{"too long", message(MaxMessage+1, "{}"), nil},
		{"longest length", message(1<<32-1, "{}"), nil},
		{"no JSON", message(2, "}{"), nil},
		{"empty", message(0, ""), nil},
		{"two values", message(4, "{}{}"), nil},
		{"another type", message(2, "[]"), nil},
	} {
		err := ReadMessage(bytes.NewReader(tt.in), new(Request))
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: ReadMessage = %v; want %v", tt.name, err, tt.want)
		}
	}
}

func TestMessageBounds(t *testing.T) {
	// A string of n bytes is a message of n+2.
	var b bytes.Buffer
	if err := WriteMessage(&b, strings.Repeat("x", MaxMessage-2)); err != nil {
		t.Fatalf("WriteMessage of MaxMessage bytes = %v; want nil", err)
	}
	var s string
	if err := ReadMessage(&b, &s); err != nil || len(s) != MaxMessage-2 {
		t.Errorf("ReadMessage of MaxMessage bytes = %d bytes, %v; want %d, nil", len(s), err, MaxMessage-2)
	}
	if err := WriteMessage(&b, strings.Repeat("x", MaxMessage-1)); err == nil {
		t.Error("WriteMessage of MaxMessage+1 bytes = nil; want an error")
	}
	if b.Len() != 0 {
		t.Errorf("WriteMessage wrote %d bytes of a message that is too long; want none", b.Len())
	}
}

func FuzzReadMessage(f *testing.F) {
	for _, v := range []any{
		Request{Op: OpHello}, Hello{Version: 1, Kernel: "6.12"}, Configured{Error: "x"},
		Change{Path: []byte("a"), Kind: KindFile, Sum: make([]byte, 32)}, Change{End: true},
	} {
		var b bytes.Buffer
		WriteMessage(&b, v)
		f.Add(b.Bytes())
	}
	f.Add(message(1<<31, "{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, v := range []any{new(Request), new(Hello), new(Configured), new(Change)} {
			r := bytes.NewReader(in)
			err := ReadMessage(r, v)
			if read := len(in) - r.Len(); read > 4+MaxMessage {
				t.Errorf("ReadMessage read %d bytes", read)
			}
			if err == nil {
				if _, err := json.Marshal(v); err != nil {
					t.Errorf("what was read cannot be written: %v", err)
				}
			}
		}
	})
}

func TestRehearse(t *testing.T) {
	if err := Rehearse(); err != nil {
		t.Errorf("Rehearse() = %v; want nil", err)
	}
}
