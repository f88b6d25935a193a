package mcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/mayfly-vm/mayfly"
)

// jobInput are the arguments of job.
type jobInput struct {
	ID     string `json:"id" jsonschema:"the id that run returned"`
	Action string `json:"action" jsonschema:"poll, stop or input"`
	Input  string `json:"input,omitempty" jsonschema:"with input: the text, with its line breaks"`
	EOF    bool   `json:"eof,omitempty" jsonschema:"with input: nothing follows"`
	WaitS  int    `json:"wait_s,omitempty" jsonschema:"with poll: wait at most so many seconds for the end of the job; at most 300"`
}

// jobOutput is the result of job.
type jobOutput struct {
	Running   bool   `json:"running"`
	ExitCode  *int   `json:"exit_code,omitempty"`
	Error     string `json:"error,omitempty" jsonschema:"why it was not run to its end"`
	Stdout    string `json:"stdout" jsonschema:"since the last poll"`
	Stderr    string `json:"stderr" jsonschema:"since the last poll"`
	Truncated bool   `json:"truncated,omitempty"`
}

const (
	mostJobs  = 16
	mostInput = 64 << 10 // bytes of one input
	mostWait  = 300      // seconds
)

// job is a command that goes on.
type job struct {
	id             string
	stdout, stderr *output
	stop           context.CancelFunc
	input          chan []byte   // nil for its end
	done           chan struct{} // closed when it has ended; code and err are set before
	code           int
	err            error
}

// begin begins a job.
func (s *Server) begin(ctx context.Context, m Machine, line, dir string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.forget(); err != nil {
		return "", err
	}
	s.lastJob++
	ctx, cancel := s.within(context.WithoutCancel(ctx))
	j := &job{
		id: strconv.Itoa(s.lastJob), stop: cancel, input: make(chan []byte, mostJobs), done: make(chan struct{}),
		stdout: &output{limit: mostStdout}, stderr: &output{limit: mostStderr},
	}
	s.jobs = append(s.jobs, j)
	s.work.Go(func() {
		defer cancel()
		defer close(j.done)
		j.code, j.err = shell(ctx, m, line, mayfly.Cmd{Dir: dir, Stdin: &queue{job: j}, Stdout: j.stdout, Stderr: j.stderr})
	})
	return j.id, nil
}

// forget makes place for a job: the oldest that has ended goes.
func (s *Server) forget() error {
	if len(s.jobs) < mostJobs {
		return nil
	}
	for i, j := range s.jobs {
		if j.ended() {
			s.jobs = append(s.jobs[:i], s.jobs[i+1:]...)
			return nil
		}
	}
	return fmt.Errorf("%d jobs run: stop one first", mostJobs)
}

func (j *job) ended() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// find returns a job.
func (s *Server) find(id string) (*job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, j := range s.jobs {
		if j.id == id {
			return j, nil
		}
		ids = append(ids, j.id)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("there is no job %q: run begins one with background: true", id)
	}
	return nil, fmt.Errorf("there is no job %q; there are %s", id, strings.Join(ids, ", "))
}

func (s *Server) job(ctx context.Context, c *call, in jobInput) (jobOutput, error) {
	j, err := s.find(in.ID)
	if err != nil {
		return jobOutput{}, err
	}
	switch in.Action {
	case "poll":
		if in.WaitS < 0 || in.WaitS > mostWait {
			return jobOutput{}, fmt.Errorf("wait_s is from 0 to %d", mostWait)
		}
		if in.WaitS > 0 {
			defer s.pulse(ctx, c, j.stdout, j.stderr)()
			err = j.wait(ctx, time.Duration(in.WaitS)*time.Second)
		}
	case "stop":
		j.stop()
		err = j.wait(ctx, 2*killTime)
	case "input":
		err = j.write(in.Input, in.EOF)
	default:
		err = fmt.Errorf("action %q: it is poll, stop or input", in.Action)
	}
	if err != nil {
		return jobOutput{}, err
	}
	return j.state(), nil
}

// wait waits for the end of a job, and no longer than d.
func (j *job) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-j.done:
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// write hands a text to the job's input.
func (j *job) write(text string, eof bool) error {
	switch {
	case j.ended():
		return errors.New("the job has ended")
	case len(text) > mostInput:
		return fmt.Errorf("the input has %d bytes; at most %d are possible at once", len(text), mostInput)
	}
	var parts [][]byte
	if text != "" {
		parts = append(parts, []byte(text))
	}
	if eof {
		parts = append(parts, nil)
	}
	for _, p := range parts {
		select {
		case j.input <- p:
		default:
			return errors.New("the job does not read its input")
		}
	}
	return nil
}

// state is what the client is told of a job.
func (j *job) state() jobOutput {
	out := jobOutput{Running: !j.ended()} // before its output, which is complete then
	var cut, cutErr bool
	out.Stdout, cut = j.stdout.take()
	out.Stderr, cutErr = j.stderr.take()
	out.Truncated = cut || cutErr
	switch {
	case out.Running:
	case errors.Is(j.err, context.Canceled):
		out.Error = "stopped"
	case j.err != nil:
		out.Error = clean([]byte(j.err.Error()))
	default:
		out.ExitCode = &j.code
	}
	return out
}

// queue is the standard input of a job.
type queue struct {
	*job
	rest []byte
}

func (q *queue) Read(p []byte) (int, error) {
	if len(q.rest) == 0 {
		q.rest = nil
		select {
		case q.rest = <-q.input:
		case <-q.done:
		}
		if q.rest == nil {
			return 0, io.EOF
		}
	}
	n := copy(p, q.rest)
	q.rest = q.rest[n:]
	return n, nil
}
