package terminal

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// What is typed does not show, and the terminal shows what is typed again afterwards.
func TestReadSecret(t *testing.T) {
	host, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	defer tty.Close()
	type result struct {
		line string
		err  error
	}
	read := make(chan result)
	go func() {
		line, err := ReadSecret(t.Context(), tty)
		read <- result{line, err}
	}()
	for {
		mode, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if mode.Lflag&unix.ECHO == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	io.WriteString(host, "PLAIN\n")
	if got := <-read; got.line != "PLAIN" || got.err != nil {
		t.Fatalf("ReadSecret() = %q, %v; want PLAIN", got.line, got.err)
	}
	io.WriteString(host, "shown\n")
	host.SetReadDeadline(time.Now().Add(10 * time.Second))
	var seen []byte
	b := make([]byte, 256)
	for !bytes.Contains(seen, []byte("shown")) {
		n, err := host.Read(b)
		if err != nil {
			t.Fatalf("the terminal shows %q, then %v; want what is typed after the secret", seen, err)
		}
		seen = append(seen, b[:n]...)
	}
	if bytes.Contains(seen, []byte("PLAIN")) {
		t.Errorf("the terminal shows %q; want no secret", seen)
	}
}
