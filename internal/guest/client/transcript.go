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
