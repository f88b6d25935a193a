package supervisor

import (
	"context"
	"errors"
	"time"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
)

// transcriptTimeout bounds the time in which the agents' transcripts are fetched when a
// machine stops, and transcriptLimit that in which the guest is to be done.
const (
	transcriptTimeout = 3 * time.Second
	transcriptLimit   = 2 * time.Second
)

// saveTranscripts keeps what agents and their user said, for when the machine is thrown
// away. It is the guest's archive: nobody here looks into it.
func (s *supervisor) saveTranscripts(g *guest) {
	d, ok := definition.Of(s.plan)
	if !ok || g.vm.ended() {
		return
	}
	err := s.fetchTranscripts(g, s.transcriptsFile(d))
	if err != nil {
		s.log.Warn("the transcripts of the agents were not saved", "err", err)
	}
}

func (s *supervisor) fetchTranscripts(g *guest, file string) error {
	f, err := atomicfile.Create(file, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeoutCause(context.Background(), transcriptTimeout, errors.New("the guest takes too long"))
	defer cancel()
	stream, err := g.openWithin(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	defer stop()
	n, err := client.Transcripts(stream, s.plan.Guest.User.Home, transcriptLimit, f)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case n == 0:
		return nil // there are none; what was saved before stays
	}
	return f.CommitUnsynced() // a stop does not wait until 128 MiB are on the disk
}
