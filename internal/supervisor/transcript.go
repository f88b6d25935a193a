package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/mayfly-vm/mayfly/internal/atomicfile"
	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
)

// Bounds of what is fetched of the agents' transcripts when a machine stops.
const (
	transcriptTimeout = 3 * time.Second
	transcriptLimit   = 128 << 20
)

// transcriptScript prints a tar archive of those of the paths below its first argument
// that are there.
const transcriptScript = `cd -- "$1" 2>/dev/null || exit 0
shift
for path do
	shift
	[ -d "$path" ] && set -- "$@" "$path"
done
[ $# -eq 0 ] || exec tar -cf - -- "$@"`

// transcriptArgv returns the command that prints the transcripts of the agents, which
// keep their files below dir.
func transcriptArgv(dir string) []string {
	argv := []string{"sh", "-c", transcriptScript, "mayfly", dir}
	for _, a := range codingagent.Agents() {
		for _, t := range a.Transcripts {
			argv = append(argv, path.Join(a.Name, t))
		}
	}
	return argv
}

// saveTranscripts keeps what agents and their user said, for when the machine is thrown
// away. It is the guest's archive: nobody here looks into it.
func (s *supervisor) saveTranscripts(g *guest) {
	d, ok := definition.Of(s.plan)
	if !ok || g.vm.ended() {
		return
	}
	err := s.fetchTranscripts(g, d.File(definition.TranscriptsFile))
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
	out := &bounded{w: f, left: transcriptLimit}
	req := &wire.Exec{Argv: transcriptArgv(s.plan.Keep.Agents), Dir: "/"}
	ctx, cancel := context.WithTimeoutCause(context.Background(), transcriptTimeout, errors.New("the guest takes too long"))
	defer cancel()
	stream, err := g.openWithin(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	defer stop()
	code, err := client.Exec(stream, req, client.Stdio{Stdout: out})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case code != 0:
		return fmt.Errorf("tar in the guest: exit code %d", code)
	case out.n == 0:
		return nil // there are none; what was saved before stays
	}
	return f.CommitUnsynced() // a stop does not wait until 128 MiB are on the disk
}

// bounded refuses more than a number of bytes.
type bounded struct {
	w       io.Writer
	n, left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, errors.New("there is too much of it")
	}
	n, err := b.w.Write(p)
	b.n += int64(n)
	b.left -= int64(n)
	return n, err
}
