package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// A guest that prints without end fills two files and no more.
func TestOutputIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	o, err := newOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	var text bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&text, "line %d of the console\r\n", i)
	}
	o.copy(iotest.DataErrReader(&text))
	var total int64
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if total += fi.Size(); fi.Size() > outputLimit {
			t.Errorf("%s has %d bytes; want at most %d", e.Name(), fi.Size(), outputLimit)
		}
	}
	if len(entries) != 2 || total < outputLimit {
		t.Errorf("%d files of %d bytes; want two, of more than %d", len(entries), total, outputLimit)
	}
	if data, err := os.ReadFile(path); err != nil || !bytes.HasSuffix(data, []byte("line 99999 of the console\r\n")) {
		t.Errorf("the file ends with %q, %v; want the last line", data[max(0, len(data)-30):], err)
	}
	if got, want := o.end(2), "line 99998 of the console\nline 99999 of the console"; got != want {
		t.Errorf("end(2) = %q; want %q", got, want)
	}
	if cap(o.tail) > 10*tailBytes {
		t.Errorf("%d bytes are kept in memory; want about %d", cap(o.tail), tailBytes)
	}
}

func TestOutputEnd(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"fewer lines", "a\nb\n", "a\nb"},
		{"last lines", "a\nb\nc\nd\n", "b\nc\nd"},
		{"no control characters", "\x1b[2J\x07boo\r\n", "?[2J?boo"},
		{"last words", "a\nKernel panic - not syncing\ntrace 1\ntrace 2\ntrace 3\n", "Kernel panic - not syncing\ntrace 1\ntrace 2"},
	} {
		o, err := newOutput(filepath.Join(t.TempDir(), "console.log"))
		if err != nil {
			t.Fatal(err)
		}
		o.copy(strings.NewReader(tt.in))
		if got := o.end(3); got != tt.want {
			t.Errorf("%s: end(3) = %q; want %q", tt.name, got, tt.want)
		}
		o.close()
	}
}
