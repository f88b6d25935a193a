package supervisor

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
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
	io.Copy(struct{ io.Writer }{o}, iotest.DataErrReader(&text))
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

// A guest that prints byte by byte costs a bounded number of reads and writes, and loses
// nothing.
func TestOutputPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, err := newOutput(filepath.Join(t.TempDir(), "console.log"))
		if err != nil {
			t.Fatal(err)
		}
		defer o.close()
		const seconds = 60
		guest := &printer{reads: readsBurst + seconds*readsPerSec}
		start := time.Now()
		o.copy(guest)
		if took := time.Since(start); took < (seconds-1)*time.Second {
			t.Errorf("%d reads took %v; want %d s", readsBurst+seconds*readsPerSec, took, seconds)
		}
		if data, err := os.ReadFile(o.path); err != nil || len(data) != readsBurst+seconds*readsPerSec {
			t.Errorf("%d bytes are kept, %v; want each", len(data), err)
		}
		guest = &printer{reads: 2 * bytesBurst >> 14, bytes: 16 << 10}
		start = time.Now()
		o.copy(guest)
		if took, want := time.Since(start), time.Duration(bytesBurst/bytesPerSec)*time.Second; took < want-time.Second {
			t.Errorf("%d bytes took %v; want %v", 2*bytesBurst, took, want)
		}
	})
}

// printer gives so many bytes at each read.
type printer struct{ reads, bytes int }

func (p *printer) Read(b []byte) (int, error) {
	if p.reads--; p.reads < 0 {
		return 0, io.EOF
	}
	n := min(len(b), max(1, p.bytes))
	for i := range b[:n] {
		b[i] = 'x'
	}
	return n, nil
}

// Whatever a guest prints, its end is lines that may be shown.
func FuzzOutputEnd(f *testing.F) {
	f.Add([]byte("a\nb\r\nKernel panic - not syncing\n\x1b[2Jtrace\n"), 3)
	f.Add([]byte("\xff\xfe\n\n\n\u202e"), 1)
	o := &output{}
	f.Fuzz(func(t *testing.T, in []byte, lines int) {
		if lines < 1 || lines > 100 {
			return
		}
		o.tail = in
		got := o.end(lines)
		if n := strings.Count(got, "\n") + 1; n > lines {
			t.Errorf("end(%d) has %d lines", lines, n)
		}
		for line := range strings.SplitSeq(got, "\n") {
			if line != termsafe.Line(line) {
				t.Errorf("end(%d) = %q; want what may be printed", lines, got)
			}
		}
	})
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
