package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// openTerminal returns both ends of a pseudo-terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// Whoever is asked whether to use a repository's file sees all of it: what runs on this
// computer could stand at its end.
func TestAskShowsTheWholeFile(t *testing.T) {
	master, slave := openTerminal(t)
	text := "version = 1\n" + strings.Repeat("# A long licence.\n", 500) + "secrets.x.from = \"cmd:the-command\"\n"
	a := &app{Streams: Streams{In: slave, Out: slave, Err: slave}, getenv: func(string) string { return "" }, signals: terminal.NewSignals()}
	defer a.signals.Stop()
	shown := make(chan []byte)
	go func() {
		var all bytes.Buffer
		io.Copy(&all, master) // an error is its end
		shown <- all.Bytes()
	}()
	if _, err := master.WriteString("no\n"); err != nil {
		t.Fatal(err)
	}
	used, err := a.askTrust("mayfly.toml", []byte(text))
	if used || err != nil {
		t.Errorf("askTrust() = %t, %v; want what was answered", used, err)
	}
	slave.Close()
	if got := string(<-shown); !strings.Contains(got, "cmd:the-command") || strings.Count(got, "licence") != 500 {
		t.Errorf("%d bytes were shown of %d; the end is %q", len(got), len(text), got[max(len(got)-200, 0):])
	}
}
