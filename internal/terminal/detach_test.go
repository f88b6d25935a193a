package terminal

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestParseDetachKeys(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "ctrl-p,ctrl-q": "\x10\x11", "ctrl-],ctrl-]": "\x1d\x1d", "CTRL-A,d": "\x01d", "~,.": "~.", "ctrl-@": "\x00", `ctrl-\,ctrl-^,ctrl-_,ctrl-[`: "\x1c\x1e\x1f\x1b",
		"ctrl-": "error", "ctrl-1": "error", "ab": "error", "a,": "error", "ä": "error", "\x01": "error", "a,b,c,d,e,f,g,h,i": "error",
	} {
		got, err := ParseDetachKeys(in)
		if want == "error" {
			if err == nil {
				t.Errorf("ParseDetachKeys(%q) = %q; want an error", in, got)
			}
			continue
		}
		if err != nil || string(got) != want {
			t.Errorf("ParseDetachKeys(%q) = %q, %v; want %q", in, got, err, want)
		}
		if again, err := ParseDetachKeys(got.String()); err != nil || string(again) != want {
			t.Errorf("ParseDetachKeys(%q) = %q, %v; want %q", got.String(), again, err, want)
		}
	}
}

// chunks is a reader of what is typed, piece by piece.
type chunks []string

func (c *chunks) Read(p []byte) (int, error) {
	if len(*c) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*c)[0])
	if (*c)[0] = (*c)[0][n:]; (*c)[0] == "" {
		*c = (*c)[1:]
	}
	return n, nil
}

func TestDetachReader(t *testing.T) {
	for _, tt := range []struct {
		name     string
		keys     string
		typed    []string
		want     string
		detached bool
	}{
		{"nothing special", "\x1d\x1d", []string{"hello", "\x1b[A", "\x1b"}, "hello\x1b[A\x1b", false},
		{"the keys", "\x1d\x1d", []string{"a\x1d\x1db"}, "a", true},
		{"split", "\x1d\x1d", []string{"a", "\x1d", "\x1d", "b"}, "a", true},
		{"only one", "\x1d\x1d", []string{"\x1d", "x", "\x1d\x1d"}, "\x1dx", true},
		{"one at the end", "\x1d\x1d", []string{"a\x1d"}, "a\x1d", false},
		{"two of docker's", "\x10\x11", []string{"\x10\x10\x11"}, "\x10", true},
		{"no keys", "", []string{"\x1d\x1d\x1d"}, "\x1d\x1d\x1d", false},
		{"kitty", "\x1d\x1d", []string{"\x1b[93;5u", "\x1b[93;5:3u\x1b[93;5:1u", "x"}, "", true},
		{"kitty, Ctrl goes up and down", "\x1d\x1d", []string{"\x1b[57442;5u\x1b[93;5u\x1b[93;5:3u\x1b[57442;5:3u", "\x1b[57442;5u\x1b[93;5u"}, "\x1b[57442;5u", true},
		{"kitty with caps lock", "\x1d\x1d", []string{"\x1b[93;69u\x1b[93;133u"}, "", true},
		{"kitty, other keys", "\x1d\x1d", []string{"\x1b[93;5u\x1b[97;5u\x1b[93u"}, "\x1b[93;5u\x1b[97;5u\x1b[93u", false},
		{"kitty, split", "\x1d\x1d", []string{"\x1b[9", "3;5u\x1b[93", ";5u"}, "", true},
		{"modifyOtherKeys", "\x1d\x1d", []string{"\x1b[27;5;93~\x1b[27;5;93~"}, "", true},
		{"plain characters, kitty", "~.", []string{"\x1b[126u\x1b[46u"}, "", true},
		{"shift for the character", "~.", []string{"\x1b[126;2u."}, "", true},
		{"mixed", "\x1d\x1d", []string{"\x1d\x1b[93;5u"}, "", true},
		{"a long sequence", "\x1d\x1d", []string{"\x1b[1" + strings.Repeat(";1", 100), "x"}, "\x1b[1" + strings.Repeat(";1", 100) + "x", false},
		{"mouse", "\x1d\x1d", []string{"\x1b[<0;1;1M\x1b[M !!"}, "\x1b[<0;1;1M\x1b[M !!", false},
		{"end in a sequence", "\x1d\x1d", []string{"\x1b[9"}, "\x1b[9", false},
	} {
		for _, size := range []int{64 << 10, 1} {
			typed := chunks(append([]string(nil), tt.typed...))
			called := 0
			d := &DetachReader{From: &typed, Keys: DetachKeys(tt.keys), Detach: func() { called++ }}
			var got bytes.Buffer
			buf := make([]byte, size)
			var err error
			for err == nil {
				var n int
				n, err = d.Read(buf)
				got.Write(buf[:n])
			}
			if size == 1 && strings.Contains(strings.Join(tt.typed, ""), "\x1b") {
				// An ESC that comes alone is a key.
				if tt.detached {
					continue
				}
			}
			if got.String() != tt.want || errors.Is(err, ErrDetach) != tt.detached || (called == 1) != tt.detached {
				t.Errorf("%s, by %d: %q, %v, called %d; want %q, detached %v", tt.name, size, got.String(), err, called, tt.want, tt.detached)
			}
		}
	}
}

// The keys that paste are no input, may begin as those that leave do, and come again and
// again.
func TestPasteKeys(t *testing.T) {
	for _, tt := range []struct {
		keys, paste string
		typed       []string
		want        string
		pasted      int
		detached    bool
	}{
		{"\x1d\x1d", "\x1dv", []string{"a\x1dvb", "\x1d", "v", "\x1dx\x1d\x1dy"}, "ab\x1dx", 2, true},
		{"\x1d\x1d", "\x1dv", []string{"v\x1b[93;5u\x1b[118u\x1b[118;1:3uv"}, "v\x1b[118;1:3uv", 1, false},
		{"\x10\x11", "\x1dv", []string{"\x10\x1dv\x1d\x10\x11"}, "\x10\x1d", 1, true},
		{"\x1d\x1d", "", []string{"\x1dv\x1d\x1d"}, "\x1dv", 0, true},
		{"", "\x1dv", []string{"\x1d\x1d\x1dv"}, "\x1d\x1d", 1, false},
		{"", "", []string{"\x1d\x1dv"}, "\x1d\x1dv", 0, false},
	} {
		typed := chunks(append([]string(nil), tt.typed...))
		pasted := 0
		d := &DetachReader{From: &typed, Keys: DetachKeys(tt.keys), PasteKeys: DetachKeys(tt.paste), Paste: func() { pasted++ }}
		got, err := io.ReadAll(d)
		if string(got) != tt.want || pasted != tt.pasted || errors.Is(err, ErrDetach) != tt.detached {
			t.Errorf("of %q come %q, %v, and %d pastes; want %q, %d, detached %v", tt.typed, got, err, pasted, tt.want, tt.pasted, tt.detached)
		}
	}
}

// Whatever is typed arrives as it was, but for the keys.
func FuzzDetachReader(f *testing.F) {
	f.Add([]byte("a\x1d\x1b[93;5u\x1d\x1db"), uint8(2))
	f.Add([]byte("\x1b[27;5;93~\x1b[57442;5:3u\x1b[\x1b[1;1;1u"), uint8(5))
	f.Fuzz(func(t *testing.T, typed []byte, piece uint8) {
		var pieces chunks
		for rest := typed; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			pieces, rest = append(pieces, string(rest[:n])), rest[n:]
		}
		d := &DetachReader{From: &pieces, Keys: DetachKeys("\x1d\x1d")}
		got, err := io.ReadAll(d)
		if err == nil && !bytes.Equal(got, typed) || !bytes.HasPrefix(typed, got) {
			t.Errorf("of %q came %q, %v", typed, got, err)
		}
		if n := bytes.Index(typed, []byte("\x1d\x1d")); n >= 0 && !bytes.Contains(typed[:n], []byte{0x1b}) && (err != ErrDetach || !bytes.Equal(got, typed[:n])) {
			t.Errorf("of %q came %q, %v; want to be detached at %d", typed, got, err, n)
		}
	})
}
