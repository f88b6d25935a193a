package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mayfly-vm/mayfly/internal/machine"
	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

// maxLine bounds one line of QMP in bytes. QEMU is not the guest, but it may
// be under the guest's control.
const maxLine = 1 << 20

// Monitor is a connection to a QEMU's monitor, docs/interop/qmp-spec.rst.
type Monitor struct {
	conn  net.Conn
	event func(machine.Event)
	done  chan struct{} // closed when the connection has ended

	mu      sync.Mutex // guards what follows and the order of writes
	nextID  int
	pending map[int]chan<- reply
	err     error // why the connection ended
}

type reply struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	ID    *int            `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// NewMonitor greets the QEMU at the other end of conn, which must have a
// deadline of its own if the wait is to be bounded.
func NewMonitor(conn net.Conn) (*Monitor, error) {
	return newMonitor(conn, func(machine.Event) {})
}

// newMonitor is NewMonitor that calls event with what QEMU tells, one at a time.
func newMonitor(conn net.Conn, event func(machine.Event)) (*Monitor, error) {
	m := &Monitor{conn: conn, event: event, done: make(chan struct{}), pending: make(map[int]chan<- reply)}
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 4096), maxLine)
	if !lines.Scan() {
		return nil, fmt.Errorf("read QEMU's greeting: %w", scanErr(lines))
	}
	var greeting struct {
		QMP json.RawMessage `json:"QMP"`
	}
	if json.Unmarshal(lines.Bytes(), &greeting) != nil || greeting.QMP == nil {
		return nil, errors.New("read QEMU's greeting: it is none of QMP")
	}
	go m.read(lines)
	if err := m.Execute("qmp_capabilities", nil, nil); err != nil {
		return nil, err
	}
	return m, nil
}

func scanErr(s *bufio.Scanner) error {
	if err := s.Err(); err != nil {
		return err
	}
	return io.EOF
}

// read serves replies and passes on events until the connection ends.
func (m *Monitor) read(lines *bufio.Scanner) {
	defer close(m.done)
	for lines.Scan() {
		var r reply
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			continue
		}
		if r.ID == nil {
			if r.Event != "" {
				m.event(parseEvent(r.Event, r.Data))
			}
			continue
		}
		m.mu.Lock()
		if ch, ok := m.pending[*r.ID]; ok {
			delete(m.pending, *r.ID)
			ch <- r
		}
		m.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = fmt.Errorf("the connection to QEMU ended: %w", scanErr(lines))
	for id, ch := range m.pending {
		delete(m.pending, id)
		close(ch)
	}
}

// Execute runs a command with arguments args, which may be nil, and decodes
// what it returns into result unless that is nil.
func (m *Monitor) Execute(command string, args, result any) error {
	return m.execute(command, args, result, nil)
}

// execute is Execute with a file that goes along, if it is not nil.
func (m *Monitor) execute(command string, args, result any, file *os.File) error {
	ch := make(chan reply, 1)
	if err := m.send(command, args, ch, file); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	r, ok := <-ch
	switch {
	case !ok:
		m.mu.Lock()
		defer m.mu.Unlock()
		return fmt.Errorf("qmp %s: %w", command, m.err)
	case r.Error != nil:
		return fmt.Errorf("qmp %s: %w", command, errors.New(termsafe.Line(r.Error.Desc)))
	case result != nil:
		if err := json.Unmarshal(r.Return, result); err != nil {
			return fmt.Errorf("qmp %s: %w", command, err)
		}
	}
	return nil
}

func (m *Monitor) send(command string, args any, ch chan<- reply, file *os.File) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.nextID++
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, args, m.nextID})
	if err != nil {
		return err
	}
	m.pending[m.nextID] = ch
	if err := m.writeLocked(append(line, '\n'), file); err != nil {
		delete(m.pending, m.nextID)
		return err
	}
	return nil
}

func (m *Monitor) writeLocked(line []byte, file *os.File) error {
	if file == nil {
		_, err := m.conn.Write(line)
		return err
	}
	conn, ok := m.conn.(*net.UnixConn)
	if !ok {
		return errors.New("the connection takes no files")
	}
	_, _, err := conn.WriteMsgUnix(line, unix.UnixRights(int(file.Fd())), nil)
	return err
}
