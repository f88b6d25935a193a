package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly"
	"github.com/mayfly-vm/mayfly/internal/terminal"
)

// execHere runs a command on this computer in a session of its own, as a guest does, with one
// more file. At the end of ctx it hangs up.
func execHere(ctx context.Context, c mayfly.Cmd, more *os.File) (int, error) {
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	in, err := cmd.StdinPipe() // whose end nobody waits for
	if err != nil {
		return 0, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = []*os.File{more}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		defer in.Close()
		io.Copy(in, c.Stdin)
	}()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case sig := <-c.Signals:
				syscall.Kill(-cmd.Process.Pid, syscall.Signal(sig))
			case <-ctx.Done():
				syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP)
				return
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// When an editor is gone, or the conversation breaks off, the agent ends with all of its process
// group, whatever it does about that.
func TestACPEnds(t *testing.T) {
	const question = `{"id":1,"jsonrpc":"2.0","method":"session/request_permission","params":{"sessionId":"s"}}`
	// Descriptor 3 is the writing end of a pipe: it ends with the last process that has it.
	const begin = `(trap '' HUP INT TERM; sleep 4321) & echo '` + question + `'; `
	for _, tt := range []struct {
		name, agent string
		stays       bool // the editor does
		breaks      bool // the conversation does
		code        int
		wrote       string
	}{
		{name: "ends by itself", agent: `exit 3`, stays: true, code: 3},
		{name: "has time to write", agent: `while read -r line; do :; done; echo saved >saved`, wrote: "saved\n"},
		{name: "ignores its end", agent: `trap '' HUP INT TERM; while :; do sleep 4321; done`},
		{name: "breaks off", agent: `echo begun >saved; while read -r line; do :; done; sleep 4321`, stays: true, breaks: true, wrote: "begun\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			in, editor, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			// Its reading end is left to the collector: who reads may still be about to see
			// that there is no more to read for.
			defer editor.Close()
			alive, group, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer alive.Close()
			log, err := os.Create("log")
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			a := &app{Streams: Streams{In: in, Err: log}, getenv: os.Getenv, signals: terminal.NewSignals()}
			defer a.signals.Stop()
			breakOff := func() {}
			m := &fakeStarted{exec: func(ctx context.Context, c mayfly.Cmd) (int, error) {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				breakOff = cancel
				return execHere(ctx, c, group)
			}}
			said := make(chan string, 1)
			asked := writerFunc(func(p []byte) (int, error) { said <- string(p); return len(p), nil })
			go func() {
				if got := <-said; strings.TrimSpace(got) != question {
					t.Errorf("the editor gets %q", got)
				}
				switch {
				case tt.breaks:
					for {
						if text, _ := os.ReadFile("saved"); len(text) > 0 {
							break
						}
						time.Sleep(time.Millisecond)
					}
					breakOff()
				case !tt.stays:
					editor.Close()
				}
			}()
			grace := 10 * time.Second
			if tt.name == "ignores its end" {
				grace = 50 * time.Millisecond
			}
			code, err := a.joinACP(t.Context(), m, mayfly.Cmd{Argv: []string{"sh", "-c", begin + tt.agent}}, asked, grace)
			if err != nil || !tt.breaks && code != tt.code {
				t.Errorf("joinACP() = %d, %v; want %d", code, err, tt.code)
			}
			group.Close()
			if _, err := alive.Read(make([]byte, 1)); err != io.EOF { // with the last of the group
				t.Error(err)
			}
			if text, _ := os.ReadFile("saved"); string(text) != tt.wrote {
				t.Errorf("the agent wrote %q; want %q", text, tt.wrote)
			}
		})
	}
}
