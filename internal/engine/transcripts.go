package engine

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/definition"
	"github.com/mayfly-vm/mayfly/internal/fault"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/naming"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/transcript"
)

// Transcripts are the conversations of one coding agent in one archive.
type Transcripts struct {
	definition.Archive
	Agent string
	Files int
	Bytes int64 // of the files
	Err   error // why the archive could not be read to its end
}

// Transcripts lists the conversations that were kept, the newest archives first.
func (e *Engine) Transcripts(ctx context.Context) ([]Transcripts, error) {
	archives, err := e.definitions().Transcripts()
	if err != nil {
		return nil, err
	}
	var all []Transcripts
	for _, a := range archives {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		rows := make(map[string]*Transcripts)
		err := readArchive(a, func(f transcript.File, _ io.Reader) error {
			if rows[f.Agent] == nil {
				rows[f.Agent] = &Transcripts{Archive: a, Agent: f.Agent}
			}
			rows[f.Agent].Files++
			rows[f.Agent].Bytes += f.Size
			return nil
		})
		if err != nil && len(rows) == 0 {
			all = append(all, Transcripts{Archive: a, Err: err})
		}
		for _, agent := range slices.Sorted(maps.Keys(rows)) {
			rows[agent].Err = err
			all = append(all, *rows[agent])
		}
	}
	return all, nil
}

// readArchive reads what is in an archive.
func readArchive(a definition.Archive, each func(transcript.File, io.Reader) error) error {
	f, err := a.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = transcript.Read(f, client.MaxTranscripts, each)
	return err
}

// ReadTranscripts calls each with the files of an archive, the newest of a machine where name
// is that of one, of the machine itself if it runs. With an agent it is only that one's. It
// returns how many entries were left out, since no guest of mayfly's sends such.
func (e *Engine) ReadTranscripts(ctx context.Context, name, agent string, each func(transcript.File, io.Reader) error) (left int, err error) {
	f, err := e.openTranscripts(ctx, name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	found := false
	left, err = transcript.Read(f, client.MaxTranscripts, func(file transcript.File, r io.Reader) error {
		if agent != "" && file.Agent != agent {
			return nil
		}
		found = true
		return each(file, r)
	})
	if ctx.Err() != nil {
		return left, context.Cause(ctx)
	}
	if err == nil && !found {
		err = noTranscripts(name)
	}
	return left, err
}

func noTranscripts(name string) error {
	return fault.New(fault.TranscriptsNone, args{"name": name}, "there are no transcripts of %.80q", name)
}

// openTranscripts opens the archive name.
func (e *Engine) openTranscripts(ctx context.Context, name string) (*os.File, error) {
	if m := e.machines().At(name); naming.Valid(name) && m.Alive() && m.Status().Phase == state.Running {
		known, err := e.at(m)
		if err != nil {
			return nil, err
		}
		return known.fetchTranscripts(ctx)
	}
	a, err := e.findTranscripts(name, "")
	if err != nil {
		return nil, err
	}
	return a.Open()
}

// findTranscripts returns the archive name: the newest of the machine of that name, or the one
// that is called so. What the machine into keeps of its own last stop, it has itself.
func (e *Engine) findTranscripts(name, into string) (definition.Archive, error) {
	all, err := e.definitions().Transcripts()
	if err != nil {
		return definition.Archive{}, err
	}
	i := slices.IndexFunc(all, func(a definition.Archive) bool {
		return (a.Name == name || a.Machine == name) && !(a.Kept() && a.Machine == into)
	})
	if i < 0 {
		return definition.Archive{}, noTranscripts(name)
	}
	return all[i], nil
}

// fetchTranscripts fetches what the coding agents of a running machine said.
func (m Machine) fetchTranscripts(ctx context.Context) (_ *os.File, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, errors.New("the guest takes too long"))
	defer cancel()
	f, err := os.CreateTemp(m.m.Dir, "transcripts-")
	if err != nil {
		return nil, err
	}
	if err = os.Remove(f.Name()); err == nil {
		err = m.converse(ctx, func(stream net.Conn) error {
			_, err := client.Transcripts(stream, m.p.Guest.User.Home, fetchTimeout/2, f)
			return err
		})
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// fetchTimeout is how long a machine may take to tell its transcripts to who waits for them,
// and restoreTimeout how long to take them.
const (
	fetchTimeout   = time.Minute
	restoreTimeout = 5 * time.Minute
)

// Restored says what came of transcripts that were put back.
type Restored struct {
	Machine string
	Agents  []string
	Files   int // that were written
	Kept    int // that were there already, and stay as they are
	Left    int // that were left out, since no guest of mayfly's sends such
}

// RestoreTranscripts puts the conversations of an archive, of one agent if that is not empty,
// to where their agents keep them in the machine into, "" for the one that they are of. It is
// started if it does not run.
func (e *Engine) RestoreTranscripts(ctx context.Context, name, into, agent string) (Restored, error) {
	target := into
	if target == "" {
		target = name
	}
	a, err := e.findTranscripts(name, target)
	if err != nil {
		return Restored{}, err
	}
	if into == "" {
		into = a.Machine
	}
	agents := make(map[string]bool)
	err = readArchive(a, func(f transcript.File, _ io.Reader) error {
		if agent == "" || f.Agent == agent {
			agents[f.Agent] = true
		}
		return nil
	})
	if err != nil {
		return Restored{}, err
	}
	if len(agents) == 0 {
		return Restored{}, noTranscripts(name)
	}
	m, err := e.Running(ctx, into)
	if err != nil {
		return Restored{}, err
	}
	return m.restoreTranscripts(ctx, a, slices.Sorted(maps.Keys(agents)))
}

func (m Machine) restoreTranscripts(ctx context.Context, a definition.Archive, agents []string) (Restored, error) {
	out := Restored{Machine: m.Name(), Agents: agents}
	var specs []codingagent.Spec
	var places []codingagent.Transcripts
	for _, agent := range agents {
		spec, err := codingagent.Launch(agent, m.p.Place(), nil)
		if err != nil {
			return out, err
		}
		specs = append(specs, spec)
		places = append(places, spec.Stores...)
	}
	if _, err := m.seed(ctx, &wire.Seed{}, specs...); err != nil {
		return out, err
	}
	f, err := a.Open()
	if err != nil {
		return out, err
	}
	defer f.Close()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		archive := transcript.NewWriter(w)
		var err error
		out.Left, err = transcript.Read(f, client.MaxTranscripts, func(file transcript.File, content io.Reader) error {
			if !slices.Contains(agents, file.Agent) {
				return nil
			}
			return archive.Add(file, content)
		})
		if err == nil {
			err = archive.Close()
		}
		w.CloseWithError(err)
		done <- err
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, restoreTimeout, errors.New("the guest takes too long"))
	defer cancel()
	var answer wire.Restored
	err = m.converse(ctx, func(stream net.Conn) (err error) {
		answer, err = client.Restore(stream, places, r)
		return commandError(err)
	})
	r.Close()
	if readErr := <-done; readErr != nil && !errors.Is(readErr, io.ErrClosedPipe) {
		err = readErr
	}
	out.Files, out.Kept = answer.Files, answer.Kept
	return out, err
}
