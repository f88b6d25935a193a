package terminal

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A line is read, and what follows is left to the next reader.
func TestReadLine(t *testing.T) {
	r := strings.NewReader("yes\nrest")
	if line, err := ReadLine(t.Context(), r); line != "yes" || err != nil {
		t.Errorf("ReadLine() = %q, %v; want yes", line, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "rest" {
		t.Errorf("left is %q; want rest", rest)
	}
	if _, err := ReadLine(t.Context(), r); err != io.EOF {
		t.Errorf("at the end ReadLine() gives %v; want EOF", err)
	}
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	never, w := io.Pipe()
	defer w.Close()
	if _, err := ReadLine(ctx, never); err != cause {
		t.Errorf("ReadLine() gives %v; want %v", err, cause)
	}
}

// Stop ends a Read that waits, and takes nothing of the input.
func TestInputStop(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	in, err := NewInput(r)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		_, err := in.Read(make([]byte, 1))
		read <- err
	}()
	in.Stop()
	if err := <-read; err != io.EOF {
		t.Errorf("Read() gives %v; want EOF", err)
	}
	io.WriteString(w, "answer")
	w.Close()
	if left, _ := io.ReadAll(r); string(left) != "answer" {
		t.Errorf("left is %q; want answer", left)
	}
}

func TestTerminfo(t *testing.T) {
	home := t.TempDir()
	name := filepath.Join(home, ".terminfo/x/xterm-test")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("compiled"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"xterm-test": "compiled", "xterm-none": "", "": "", "../x": "", ".x": ""} {
		if got := string(Terminfo(name, home)); got != want {
			t.Errorf("Terminfo(%q) = %q; want %q", name, got, want)
		}
	}
}
