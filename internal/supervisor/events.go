package supervisor

import (
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/mayfly-vm/mayfly/internal/control"
)

// events writes events. Who reads them may be gone.
type events struct {
	start time.Time
	mu    sync.Mutex
	w     io.Writer
}

func (ev *events) send(e control.Event) {
	e.Nanos = time.Since(ev.start).Nanoseconds()
	line, err := json.Marshal(e)
	if err != nil {
		return
	}
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.w.Write(append(line, '\n'))
}

func (ev *events) phase(name control.Phase) { ev.send(control.Event{Phase: name}) }
