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
	ctx, cancel := context.WithTimeoutCause(context.Background(), transcriptTimeout, errors.New("the guest takes too long"))
	defer cancel()
	return g.within(ctx, func(stream guestStream) error {
		f, err := atomicfile.Create(file, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		n, err := client.Transcripts(stream, s.plan.Guest.User.Home, transcriptLimit, f)
		if err != nil || n == 0 || ctx.Err() != nil {
			return err // what was saved before stays
		}
		return f.CommitUnsynced() // a stop does not wait until 128 MiB are on the disk
	})
}
