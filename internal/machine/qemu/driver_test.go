package qemu

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/machine"
)

// This binary, executed again, becomes a VMM.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == machine.Word {
		machine.Main(os.Args[2])
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// script starts a shell script in the place of QEMU.
func script(t *testing.T, text string, files ...machine.File) *vmm {
	t.Helper()
	p, err := machine.Start(t.Context(), machine.Command{
		Path: "/bin/sh", Args: []string{"-c", text}, Files: files, Readable: []string{"/bin", os.DevNull},
	}, io.Discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return newVMM(p)
}

// A QEMU that says nothing holds nobody up.
func TestSilentMonitor(t *testing.T) {
	late := errors.New("too late")
	for name, use := range map[string]func(context.Context, *vmm) error{
		"save":     func(ctx context.Context, v *vmm) error { _, err := v.Save(ctx, io.Discard); return err },
		"restore":  func(ctx context.Context, v *vmm) error { return v.Restore(ctx, strings.NewReader("state")) },
		"continue": func(ctx context.Context, v *vmm) error { return v.Continue(ctx) },
		"quit":     func(ctx context.Context, v *vmm) error { return v.Quit(ctx) },
	} {
		v := script(t, "read x <&3", machine.File{Socket: machine.Monitor})
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, late)
		if err := use(ctx, v); !errors.Is(err, late) {
			t.Errorf("%s: %v; want %v", name, err, late)
		}
		cancel()
	}
}

// A QEMU that quits does so without an answer, perhaps.
func TestQuit(t *testing.T) {
	greet := `printf '%s\r\n' '{"QMP": {}}' >&3; read x <&3; printf '%s\r\n' '{"return": {}, "id": 1}' >&3; read x <&3; `
	v := script(t, greet+"exit 0", machine.File{Socket: machine.Monitor})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := v.Quit(ctx); err != nil || v.Err() != nil {
		t.Errorf("Quit() = %v, Err() = %v; want nil", err, v.Err())
	}
}

// Every connection to a port is its own to close, and the port stays open.
func TestDial(t *testing.T) {
	v := script(t, "while read x; do echo $x; done <&3 >&3", machine.File{Socket: machine.Control})
	for _, said := range []string{"one\n", "another\n"} {
		conn, err := v.Dial(t.Context(), machine.Control)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		heard := make([]byte, len(said))
		if _, err := io.WriteString(conn, said); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, heard); err != nil || !bytes.Equal(heard, []byte(said)) {
			t.Errorf("the port said %q, %v; want %q", heard, err, said)
		}
		conn.Close()
	}
	if _, err := v.Dial(t.Context(), machine.NetworkCard); err == nil {
		t.Error("Dial() of a card that is not there = nil; want an error")
	}
	v.Kill()
	if _, err := v.Dial(t.Context(), machine.Control); err == nil {
		t.Error("Dial() of what was killed = nil; want an error")
	}
}
