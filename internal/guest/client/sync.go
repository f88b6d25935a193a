package client

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/sparse"
)

// Outgoing is one item of Sync with, if it has a content, how that is opened.
type Outgoing struct {
	Item wire.SyncItem
	Open func() (*os.File, error)
}

// Sync sends items, and calls answered with what the guest says of each, in their order.
// When it returns without an error the guest has all of it. It closes stream.
func Sync(ctx context.Context, stream io.ReadWriteCloser, req wire.Sync, items []Outgoing, answered func(i int, a wire.SyncAnswer) error) error {
	sending := make(chan error, 1)
	go func() {
		err := sendItems(ctx, stream, req, items)
		if err != nil {
			stream.Close() // nothing more comes
		}
		sending <- err
	}()
	err := receiveAnswers(stream, len(items), answered)
	stream.Close()
	if sendErr := <-sending; sendErr != nil && err == nil {
		err = sendErr
	} else if local, ok := sendErr.(contentError); ok {
		err = local.error // the guest was lost for that
	}
	return err
}

// contentError is about what is to be sent.
type contentError struct{ error }

func sendItems(ctx context.Context, stream io.Writer, req wire.Sync, items []Outgoing) error {
	w := bufio.NewWriterSize(stream, readAhead)
	if err := wire.WriteRequest(w, wire.Request{Op: wire.OpSync, Sync: &req}); err != nil {
		return fmt.Errorf("send files: %w", err)
	}
	frames := wire.NewFrameWriter(w)
	for i := range items {
		it := &items[i]
		if err := wire.WriteMessage(w, it.Item); err != nil {
			return fmt.Errorf("send files: %w", err)
		}
		if it.Item.New.Kind != wire.KindFile || it.Item.Check {
			continue
		}
		f, err := it.Open()
		if err != nil {
			return contentError{err}
		}
		n, err := sparse.Copy(ctx, contentFrames{frames}, f, it.Item.New.Size)
		f.Close()
		if err != nil {
			return fmt.Errorf("send files: %w", err)
		}
		if n != it.Item.New.Size {
			return contentError{fmt.Errorf("%s became shorter while it was sent", f.Name())}
		}
		if err := frames.Write(wire.FrameStdinEOF, nil); err != nil {
			return fmt.Errorf("send files: %w", err)
		}
	}
	if err := wire.WriteMessage(w, wire.SyncItem{End: true}); err != nil {
		return fmt.Errorf("send files: %w", err)
	}
	return w.Flush()
}

// receiveAnswers reads one answer for each item, and the last.
func receiveAnswers(stream io.Reader, n int, answered func(int, wire.SyncAnswer) error) error {
	r := bufio.NewReaderSize(stream, readAhead)
	for i := range n + 1 {
		var a wire.SyncAnswer
		if err := wire.ReadMessage(r, &a); err != nil {
			return fmt.Errorf("send files: %w", err)
		}
		switch a.Result {
		case wire.SyncDone, wire.SyncSame, wire.SyncConflict, wire.SyncFailed:
		default:
			return fmt.Errorf("send files: the guest gave an answer that there is none of")
		}
		if len(a.Now.Sum) > sparse.Size || len(a.Now.Target) > wire.MaxFrame {
			return fmt.Errorf("send files: the guest's answer is too long")
		}
		if i == n {
			if a.Result != wire.SyncDone {
				return fmt.Errorf("send files: %w", &GuestError{a.Error})
			}
			return nil
		}
		if err := answered(i, a); err != nil {
			return err
		}
	}
	return nil
}

// contentFrames sends the content of a file.
type contentFrames struct{ out *wire.FrameWriter }

func (c contentFrames) Write(p []byte) (int, error) {
	return len(p), c.out.Write(wire.FrameStdin, p)
}

func (c contentFrames) Hole(n int64) error {
	return c.out.Write(wire.FrameHole, wire.AppendHole(nil, n))
}
