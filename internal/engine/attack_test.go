package engine

import (
	"bytes"
	"strings"
	"testing"
)

// What a machine says of its attempts comes in any pieces, and is bounded.
func FuzzLineWriter(f *testing.F) {
	f.Add([]byte("{\"name\":\"a\"}\n{}\nrest"), 3)
	f.Add([]byte("\n\n"), 1)
	f.Add(bytes.Repeat([]byte("x"), 5000), 4096)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		size = max(1, size)
		const most = 4096
		var got []string
		w := &lineWriter{left: most, line: func(line []byte) error { got = append(got, string(line)); return nil }}
		for rest := data; len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := w.Write(rest[:n]); (err == nil) != (w.err == nil) {
				t.Fatalf("Write = %v, but the error is %v", err, w.err)
			}
			rest = rest[n:]
		}
		if len(w.buf) > most {
			t.Errorf("%d bytes are held", len(w.buf))
		}
		if len(data) <= most {
			lines := strings.Split(string(data), "\n")
			if w.err != nil || strings.Join(got, "\n") != strings.Join(lines[:len(lines)-1], "\n") || len(got) != len(lines)-1 {
				t.Errorf("%q in pieces of %d are %q, %v", data, size, got, w.err)
			}
		} else if w.err == nil {
			t.Error("too much is taken")
		}
	})
}
