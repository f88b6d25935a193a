package engine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/mayfly-vm/mayfly/internal/state"
)

// LogOptions choose what Logs reads.
type LogOptions struct {
	// Supervisor reads what the supervisor and the VMM have logged, in place of the
	// console.
	Supervisor bool
	// Follow goes on with what is added until the machine ends.
	Follow bool
}

// maxLog bounds what is read of one log in bytes; all are bounded where they
// are written.
const maxLog = 4 << 20

// Logs calls write with what the console of the machine name has printed. It is the
// guest's text and not fit for a terminal as it is.
func (e *Engine) Logs(ctx context.Context, name string, o LogOptions, write func([]byte) error) error {
	m, err := e.find(name)
	if err != nil {
		return err
	}
	files := []string{state.ConsoleFile + ".old", state.ConsoleFile}
	if o.Supervisor {
		files = []string{state.LogFile, state.VMMLogFile}
	}
	var end int64
	for _, name := range files {
		if end, err = readLog(m.File(name), 0, write); err != nil {
			return err
		}
	}
	last := m.File(files[len(files)-1])
	for alive := o.Follow; alive; {
		alive = m.Alive() // before the last read, so that nothing is missed
		if end, err = readLog(last, end, write); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
	}
	return nil
}

// readLog hands on what is in a log from an offset on, and returns where it ends.
func readLog(name string, offset int64, write func([]byte) error) (end int64, err error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return offset, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() < offset {
		offset = 0 // begun anew
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return offset, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxLog))
	if err != nil || len(data) == 0 {
		return offset, err
	}
	return offset + int64(len(data)), write(data)
}
