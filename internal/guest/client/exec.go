package client

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// Stdio is what an Exec is connected to.
type Stdio struct {
	Stdin  io.Reader // nil for none
	Stdout io.Writer
	Stderr io.Writer

	Resize  <-chan wire.Winsize // with a terminal
	Signals <-chan byte         // Linux signal numbers
}

// Exec runs a program in the guest and returns its exit code, or 128 and the
// number of the signal that ended it. An error means that the program was not
// started (*GuestError, with a code where the guest gives one) or that the guest was lost. Exec closes stream.
//
// The goroutine that reads Stdin may outlive Exec, blocked in a read.
func Exec(stream io.ReadWriteCloser, req *wire.Exec, stdio Stdio) (int, error) {
	return converse(stream, wire.Request{Op: wire.OpExec, Exec: req}, stdio, nil)
}

// converse sends req and moves frames until the program has ended. Of a session
// it calls begun first.
func converse(stream io.ReadWriteCloser, req wire.Request, stdio Stdio, begun func(payload []byte) error) (int, error) {
	defer stream.Close()
	if err := wire.WriteRequest(stream, req); err != nil {
		return 0, fmt.Errorf("start the command: %w", err)
	}
	x := &execution{frames: wire.NewFrameWriter(stream), done: make(chan struct{}), acks: make(chan struct{}, wire.StdinWindow)}
	for range wire.StdinWindow {
		x.acks <- struct{}{}
	}
	var controls sync.WaitGroup
	defer func() {
		close(x.done)
		stream.Close() // ends a write that the guest does not take
		controls.Wait()
	}()
	started := false
	start := func() {
		if !started {
			started = true
			go x.sendStdin(stdio.Stdin)
		}
	}
	if begun == nil {
		start()
	}
	controls.Go(func() { x.sendControls(stdio) })

	var code fault.Code // of the error that follows
	frames := wire.NewFrameReader(stream)
	for {
		t, payload, err := frames.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("the machine was lost while the command ran: %w", err)
		}
		if !started && (t == wire.FrameStdout || t == wire.FrameStderr || t == wire.FrameEnd || t == wire.FrameExit) {
			return 0, errors.New("the guest did not tell of the session")
		}
		switch t {
		case wire.FrameSession:
			if begun == nil || started {
				return 0, errors.New("the guest told of a session that was not asked for")
			}
			err = begun(payload)
			start()
		case wire.FrameEnd:
			if begun != nil {
				return 0, errDetached
			}
		case wire.FrameStdout:
			err = writeAll(stdio.Stdout, payload)
		case wire.FrameStderr:
			err = writeAll(stdio.Stderr, payload)
		case wire.FrameStdinAck:
			select {
			case x.acks <- struct{}{}:
			default: // a guest that acknowledges what was not sent
			}
		case wire.FrameExit:
			if len(payload) != 1 {
				return 0, errors.New("the guest sent no exit code")
			}
			return int(payload[0]), nil
		case wire.FrameCode:
			code = wire.ParseCode(payload)
		case wire.FrameError:
			err := &GuestError{string(payload)}
			if code == "" {
				return 0, err
			}
			return 0, fault.Wrap(err, code, nil)
		}
		if err != nil {
			return 0, err
		}
	}
}

// execution is the sending side of an Exec.
type execution struct {
	mu     sync.Mutex // serialises frames
	frames *wire.FrameWriter
	done   chan struct{} // closed when the program has ended
	acks   chan struct{} // one for each FrameStdin that may be sent
}

func (x *execution) send(t wire.FrameType, p []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	select {
	case <-x.done:
		return io.ErrClosedPipe
	default:
		return x.frames.Write(t, p)
	}
}

func (x *execution) sendStdin(r io.Reader) {
	if r != nil {
		buf := make([]byte, wire.MaxFrame)
		for {
			n, err := r.Read(buf)
			if n > 0 {
				select {
				case <-x.acks:
				case <-x.done:
					return
				}
				if x.send(wire.FrameStdin, buf[:n]) != nil {
					return
				}
			}
			if err != nil {
				break
			}
		}
	}
	x.send(wire.FrameStdinEOF, nil)
}

func (x *execution) sendControls(stdio Stdio) {
	for {
		var err error
		select {
		case <-x.done:
			return
		case ws, ok := <-stdio.Resize:
			if !ok {
				stdio.Resize = nil
				continue
			}
			err = x.send(wire.FrameResize, wire.AppendWinsize(nil, ws))
		case sig, ok := <-stdio.Signals:
			if !ok {
				stdio.Signals = nil
				continue
			}
			err = x.send(wire.FrameSignal, []byte{sig})
		}
		if err != nil {
			return
		}
	}
}

func writeAll(w io.Writer, p []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(p)
	return err
}
