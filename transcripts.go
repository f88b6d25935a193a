package mayfly

import (
	"context"
	"io"
	"time"

	"github.com/mayfly-vm/mayfly/internal/engine"
	"github.com/mayfly-vm/mayfly/internal/transcript"
)

// Transcripts are the conversations of one coding agent in one archive, which a machine
// packed at its last stop, or at its end. What they say is the guest's word.
type Transcripts struct {
	Name    string    `json:"name"`    // of the archive
	Machine string    `json:"machine"` // whose it is
	Kept    bool      `json:"kept"`    // the machine is there, and replaces it at its next stop
	Agent   string    `json:"agent"`   // empty for an archive that cannot be read
	Time    time.Time `json:"time"`    // of the machine's last stop, or of its end
	Files   int       `json:"files"`
	Bytes   int64     `json:"bytes"`
	Archive string    `json:"archive"` // the archive's file
	// Err says why the archive could not be read to its end.
	Err error `json:"-"`
}

// Transcripts returns the conversations that were kept, the newest archives first. Those of
// a running machine are in that machine.
func (c *Client) Transcripts(ctx context.Context) ([]Transcripts, error) {
	all, err := c.e.Transcripts(ctx)
	return convert(all, func(t engine.Transcripts) Transcripts {
		return Transcripts{t.Name, t.Machine, t.Kept(), t.Agent, t.Time, t.Files, t.Bytes, t.Path, public(t.Err)}
	}), public(err)
}

// Transcript is one file of a conversation. All of it is the guest's word.
type Transcript struct {
	Agent string    `json:"agent"`
	Name  string    `json:"name"` // below the agent's directory; not fit to be printed
	Bytes int64     `json:"bytes"`
	Time  time.Time `json:"time"`
}

// ReadTranscripts calls each with the files of an archive, with the name of a machine of the
// machine itself if it runs, and else of its newest archive. With an agent it is only that
// one's. Links and whatever else no agent keeps are left out, and counted.
func (c *Client) ReadTranscripts(ctx context.Context, name, agent string, each func(Transcript, io.Reader) error) (left int, err error) {
	left, err = c.e.ReadTranscripts(ctx, name, agent, func(f transcript.File, r io.Reader) error {
		return each(Transcript{f.Agent, f.Name, f.Size, f.Time}, r)
	})
	return left, public(err)
}

// ExportTranscripts writes what ReadTranscripts reads as a tar archive, without owners and
// permissions.
func (c *Client) ExportTranscripts(ctx context.Context, name, agent string, w io.Writer) (left int, err error) {
	archive := transcript.NewWriter(w)
	left, err = c.e.ReadTranscripts(ctx, name, agent, archive.Add)
	if err == nil {
		err = archive.Close()
	}
	return left, public(err)
}

// Restored says what came of transcripts that were put back.
type Restored struct {
	Machine string   `json:"machine"`
	Agents  []string `json:"agents"`
	Files   int      `json:"files"` // that were written
	Kept    int      `json:"kept"`  // that were there already, and stay as they are
	Left    int      `json:"left"`  // that were left out, as links
}

// RestoreTranscripts puts the conversations of an archive, with an agent only that one's,
// where their agents keep them in the machine into, empty for the machine that they are of,
// which is started if it does not run. Nothing is replaced.
func (c *Client) RestoreTranscripts(ctx context.Context, name, into, agent string) (Restored, error) {
	r, err := c.e.RestoreTranscripts(ctx, name, into, agent)
	return Restored(r), public(err)
}
