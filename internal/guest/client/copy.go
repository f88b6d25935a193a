package client

import (
	"fmt"
	"io"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// CopyOut asks for a file or directory of the guest, and returns the tar stream that comes.
func CopyOut(stream io.ReadWriter, req wire.Copy) (io.Reader, error) {
	if err := wire.WriteRequest(stream, wire.Request{Op: wire.OpCopy, Copy: &req}); err != nil {
		return nil, fmt.Errorf("copy out of the machine: %w", err)
	}
	return &file{frames: wire.NewFrameReader(stream)}, nil
}

// CopyIn sends a tar stream to the guest, as req has it. It closes stream.
func CopyIn(stream io.ReadWriteCloser, req wire.Copy, content io.Reader) error {
	defer stream.Close()
	if err := wire.WriteRequest(stream, wire.Request{Op: wire.OpCopy, Copy: &req}); err != nil {
		return fmt.Errorf("copy into the machine: %w", err)
	}
	answer := make(chan error, 1)
	go func() {
		defer stream.Close() // ends a write that the guest does not take
		t, payload, err := wire.NewFrameReader(stream).Next()
		switch {
		case err != nil:
			answer <- fmt.Errorf("copy into the machine: %w", err)
		case t == wire.FrameEnd:
			answer <- nil
		case t == wire.FrameError:
			answer <- &GuestError{string(payload)}
		default:
			answer <- fmt.Errorf("copy into the machine: unexpected frame %d", t)
		}
	}()
	if err := sendAll(wire.NewFrameWriter(stream), content); err != nil {
		stream.Close()
		<-answer
		return err
	}
	return <-answer
}
