package terminal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

func TestPastedPaths(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"/a/b.png", `[["/a/b.png"]]`},
		{" /a/b.png \n", `[["/a/b.png"]]`},
		{"'/a/b c.png' ", `[["/a/b c.png"]]`},
		{`"/a/b c.png"`, `[["/a/b c.png"]]`},
		{`/a/b\ c.png`, `[["/a/b\\ c.png"] ["/a/b c.png"]]`},
		{"/a/b c.png", `[["/a/b c.png"]]`},
		{"/a/b.png /c/d.png", `[["/a/b.png /c/d.png"] ["/a/b.png" "/c/d.png"]]`},
		{"/a/b.png\r/c/d.png", `[["/a/b.png" "/c/d.png"]]`},
		{"'/a/b'\\''s.png' '/c'", `[["/a/b's.png" "/c"]]`},
		{"file:///a/b%20c.png\r\nfile://localhost/d\n", `[["/a/b c.png" "/d"]]`},
		{"/a/../../b//c", `[["/b/c"]]`},
		{"", "[]"},
		{" \n", "[]"},
		{"a/b.png", "[]"},
		{"look at /a/b.png", "[]"},
		{"/a/b.png is wrong\nsee", "[]"},
		{"'/a/b.png", "[]"},
		{`"/a" x`, "[]"},
		{"file://elsewhere/a.png", "[]"},
		{"file:a.png", "[]"},
		{"https://example.org/a.png", "[]"},
		{"/a/\x1b[31mb.png", "[]"},
		{"/a/\x00b.png", "[]"},
		{"file:///a/%00b.png", "[]"},
		{"file:///a/%0ab.png", "[]"},
		{"/a/\xff.png", "[]"},
		{"/" + strings.Repeat("a", maxPaste), "[]"},
		{strings.Repeat("/a ", maxPasted+1) + "\n/b", "[]"},
	} {
		if got := fmt.Sprintf("%q", PastedPaths(tt.text)); got != tt.want {
			t.Errorf("PastedPaths(%q) = %s; want %s", tt.text, got, tt.want)
		}
	}
}

// Whatever is pasted, the paths are absolute, clean, few, and without control characters.
func FuzzPastedPaths(f *testing.F) {
	f.Add("'/a/b c.png' /d\\ e \"/f\"\r\nfile:///g%20h")
	f.Add("/a/../b \xc3 '\\''")
	f.Fuzz(func(t *testing.T, text string) {
		for _, paths := range PastedPaths(text) {
			if len(paths) == 0 || len(paths) > maxPasted {
				t.Errorf("of %q come %d paths", text, len(paths))
			}
			for _, p := range paths {
				if !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsFunc(p, strangeInPaste) || strings.ContainsAny(p, "\n\r\t") {
					t.Errorf("of %q comes %q", text, p)
				}
			}
		}
	})
}

func TestPasteReader(t *testing.T) {
	for _, tt := range []struct {
		name  string
		typed []string
		want  string
	}{
		{"nothing pasted", []string{"a\x1b", "\x1b[A\x1b[2~b"}, "a\x1b\x1b[A\x1b[2~b"},
		{"a path", []string{"a\x1b[200~/x.png\x1b[201~b"}, "a\x1b[200~NEW\x1b[201~b"},
		{"split", []string{"\x1b[2", "00~'/", "x.png' \x1b", "[20", "1~", "b"}, "\x1b[200~NEW\x1b[201~b"},
		{"two, one behind the other", []string{"\x1b[200~/x.png\x1b[201~\x1b[200~/x.png\x1b[201~c"}, "\x1b[200~NEW\x1b[201~\x1b[200~NEW\x1b[201~c"},
		{"of two files", []string{"\x1b[200~/x.png /x.png\x1b[201~"}, "\x1b[200~NEW\x1b[201~ \x1b[200~NEW\x1b[201~"},
		{"another path", []string{"\x1b[200~/other\x1b[201~b"}, "\x1b[200~/other\x1b[201~b"},
		{"a text", []string{"\x1b[200~see /x.png\x1b[201~"}, "\x1b[200~see /x.png\x1b[201~"},
		{"a long text", []string{"\x1b[200~/" + strings.Repeat("x", maxPaste), "more\x1b[201~", "a\x1b[200~/x.png\x1b[201~"}, "\x1b[200~/" + strings.Repeat("x", maxPaste) + "more\x1b[201~a\x1b[200~NEW\x1b[201~"},
		{"controls in a paste", []string{"\x1b[200~/x\x1b[31m.png\x1b[201~"}, "\x1b[200~/x\x1b[31m.png\x1b[201~"},
		{"a paste in a paste", []string{"\x1b[200~/x\x1b[200~/x.png\x1b[201~"}, "\x1b[200~/x\x1b[200~/x.png\x1b[201~"},
		{"a path that is typed", []string{"/x.png\r"}, "/x.png\r"},
		{"the end is missing", []string{"\x1b[200~/x.png"}, "\x1b[200~/x.png"},
		{"the end is cut off", []string{"\x1b[200~/x.png\x1b[20"}, "\x1b[200~/x.png\x1b[20"},
		{"only an end", []string{"/x.png\x1b[201~"}, "/x.png\x1b[201~"},
		{"an answer of the terminal that has the path", []string{"\x1b]11;rgb:/x.png\x1b\\"}, "\x1b]11;rgb:/x.png\x1b\\"},
	} {
		typed := chunks(append([]string(nil), tt.typed...))
		// What is typed behind a paste comes behind it, also while that is looked at.
		r := NewPasteReader(t.Context(), &typed, func() bool { return true }, replaceX)
		got, err := io.ReadAll(r)
		if string(got) != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

// replaceX replaces /x.png.
func replaceX(text string) []string {
	var texts []string
	for _, paths := range PastedPaths(text) {
		texts = nil
		for _, p := range paths {
			if p == "/x.png" {
				texts = append(texts, "NEW")
			}
		}
		if len(texts) == len(paths) {
			return texts
		}
	}
	return nil
}

// What is typed while a paste is looked at waits behind it, and the keys that leave do not.
func TestPasteReaderWaits(t *testing.T) {
	in, out := io.Pipe()
	looked, answer, left := make(chan string), make(chan []string), make(chan bool, 1)
	keys := &DetachReader{From: in, Keys: DetachKeys(DefaultDetachKeys), Detach: func() { left <- true }}
	r := NewPasteReader(t.Context(), keys, func() bool { return true }, func(text string) []string {
		looked <- text
		return <-answer
	})
	read := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(r)
		read <- string(all)
	}()
	io.WriteString(out, "a\x1b[200~/x.png\x1b[201~b")
	if got := <-looked; got != "/x.png" {
		t.Errorf("it looked at %q", got)
	}
	io.WriteString(out, "c\x1b[200~not a path\x1b[201~d")
	answer <- []string{"/new one.png"}
	io.WriteString(out, DefaultDetachKeys)
	<-left
	if got, want := <-read, "a\x1b[200~/new one.png\x1b[201~bc\x1b[200~not a path\x1b[201~d"; got != want {
		t.Errorf("there came %q; want %q", got, want)
	}
}

// The keys that leave lose nothing that was typed before them, also if who reads it is slow. One
// that does not read at all does not hold them up.
func TestPasteReaderLeaves(t *testing.T) {
	for _, typed := range [][]string{{"abc" + DefaultDetachKeys}, {"abc", DefaultDetachKeys}, {"ab\x1b[200~c", DefaultDetachKeys}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			from := chunks(slices.Clone(typed))
			r := NewPasteReader(ctx, &DetachReader{From: &from, Keys: DetachKeys(DefaultDetachKeys), Detach: cancel}, func() bool { return true }, replaceX)
			var got []byte
			for buf := make([]byte, 1); ; {
				n, err := r.Read(buf)
				if err != nil {
					break
				}
				synctest.Wait() // all that is typed is read
				if ctx.Err() != nil {
					break // and what was not sent before is lost
				}
				got = append(got, buf[:n]...)
			}
			want := strings.TrimSuffix(strings.Join(typed, ""), DefaultDetachKeys)
			if string(got) != want || ctx.Err() == nil {
				t.Errorf("of %q came %q, left: %v", typed, got, ctx.Err())
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		from := chunks{DefaultDetachKeys}
		NewPasteReader(ctx, &DetachReader{From: &from, Keys: DetachKeys(DefaultDetachKeys), Detach: cancel}, nil, nil)
		<-ctx.Done()
	})
}

// One that is inserted comes between what is typed, never into a paste.
func TestPasteReaderInsert(t *testing.T) {
	in, out := io.Pipe()
	pastes := true
	ctx, cancel := context.WithCancel(t.Context())
	r := NewPasteReader(ctx, in, func() bool { return pastes }, replaceX)
	read := func(want string) {
		t.Helper()
		buf := make([]byte, len(want))
		if _, err := io.ReadFull(r, buf); err != nil || string(buf) != want {
			t.Fatalf("there came %q, %v; want %q", buf, err, want)
		}
	}
	types := func(text string) { go io.WriteString(out, text) }
	go r.Insert([]string{"/a", "/b"})
	read("\x1b[200~/a\x1b[201~ \x1b[200~/b\x1b[201~")
	types("\x1b[200~text")
	read("\x1b[200~text")
	go r.Insert([]string{"/c"})
	types("more\x1b[201~")
	read("more\x1b[201~\x1b[200~/c\x1b[201~")
	pastes = false
	go r.Insert([]string{"/d", "/e"})
	read("/d /e")
	cancel()
	r.Insert([]string{"/f"}) // nobody takes it
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after its end: %d, %v", n, err)
	}
	out.Close()
}

// What is no paste of paths arrives as it was.
func FuzzPasteReader(f *testing.F) {
	f.Add([]byte("a\x1b[200~/x\x1b[201~b\x1b[200~c\x1b[201~\x1b[2"), uint8(2), false)
	f.Add([]byte("\x1b[200~/x\x1b[201~\x1b[201~\x1b[200~'/x'\x1b"), uint8(7), true)
	f.Fuzz(func(t *testing.T, typed []byte, piece uint8, replace bool) {
		var pieces chunks
		for rest := typed; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			pieces, rest = append(pieces, string(rest[:n])), rest[n:]
		}
		r := NewPasteReader(t.Context(), &pieces, func() bool { return true }, func(text string) []string {
			if len(PastedPaths(text)) == 0 {
				t.Errorf("it looks at %q", text)
			}
			if replace {
				return []string{text} // which has the same brackets
			}
			return nil
		})
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, typed) {
			t.Errorf("of %q came %q, %v", typed, got, err)
		}
	})
}
