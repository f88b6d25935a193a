package client

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// MaxTranscripts bounds what a guest may send of transcripts.
const MaxTranscripts = 128 << 20

// Transcripts writes to w the conversations of all coding agents of a user whose home is
// home, as an archive that the guest packs: nobody here looks into it. The guest is to
// take no longer than that, which is not waited for here. It returns how much there was,
// which may be nothing.
func Transcripts(stream io.ReadWriter, home string, limit time.Duration, w io.Writer) (n int64, err error) {
	req := &wire.Transcripts{Bytes: MaxTranscripts, Nanos: int64(limit)}
	for _, p := range codingagent.AllTranscripts(home) {
		req.Places = append(req.Places, wire.TranscriptPlace(p))
	}
	err = wire.WriteRequest(stream, wire.Request{Op: wire.OpTranscripts, Transcripts: req})
	if err == nil {
		n, err = io.Copy(w, io.LimitReader(&file{frames: wire.NewFrameReader(stream)}, MaxTranscripts+1))
	}
	if err == nil && n > MaxTranscripts {
		err = errors.New("there is too much of it")
	}
	if err != nil {
		return n, fmt.Errorf("fetch transcripts: %w", err)
	}
	return n, nil
}

// Restore sends the conversations of coding agents, an archive of package transcript's, to
// where the places have them. It closes stream.
func Restore(stream io.ReadWriteCloser, places []codingagent.Transcripts, content io.Reader) (wire.Restored, error) {
	defer stream.Close()
	req := &wire.Restore{}
	for _, p := range places {
		req.Places = append(req.Places, wire.TranscriptPlace(p))
	}
	if err := wire.WriteRequest(stream, wire.Request{Op: wire.OpRestore, Restore: req}); err != nil {
		return wire.Restored{}, fmt.Errorf("restore transcripts: %w", err)
	}
	var answer wire.Restored
	done := make(chan error, 1)
	go func() {
		defer stream.Close() // ends a write that the guest does not take
		done <- wire.ReadMessage(stream, &answer)
	}()
	err := sendAll(wire.NewFrameWriter(stream), content)
	if err != nil {
		stream.Close()
	}
	if guestErr := <-done; err == nil {
		err = guestErr
	}
	switch {
	case err != nil:
	case answer.Error != "":
		err = &GuestError{answer.Error}
	case answer.Files < 0 || answer.Kept < 0:
		err = errors.New("the guest told nonsense")
	}
	if err != nil {
		return wire.Restored{}, fmt.Errorf("restore transcripts: %w", err)
	}
	return answer, nil
}

// sendAll sends what is in content. That the guest does not take all of it is not its error:
// the guest says why.
func sendAll(frames *wire.FrameWriter, content io.Reader) error {
	buf := make([]byte, wire.MaxFrame)
	for {
		n, err := content.Read(buf)
		if n > 0 && frames.Write(wire.FrameStdin, buf[:n]) != nil {
			return nil
		}
		if errors.Is(err, io.EOF) {
			frames.Write(wire.FrameStdinEOF, nil)
			return nil
		}
		if err != nil {
			return err
		}
	}
}
