package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// migrator plays a QEMU that saves and restores: a fault is what it does wrong.
type migrator struct {
	conn  *net.UnixConn
	fault string

	moving sync.WaitGroup // what reads or writes a state

	mu       sync.Mutex // guards what follows
	commands []string
	received []byte // the state that was restored
}

var savedState = bytes.Repeat([]byte("state"), 100_000)

// newMigrator returns a monitor to a migrator.
func newMigrator(t *testing.T, fault string) (*Monitor, *migrator) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "monitor")
		conn, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = conn.(*net.UnixConn)
	}
	q := &migrator{conn: conns[1], fault: fault}
	var wg sync.WaitGroup
	wg.Go(func() { q.serve(t) })
	t.Cleanup(func() {
		conns[0].Close()
		conns[1].Close()
		wg.Wait()
	})
	m, err := NewMonitor(conns[0])
	if err != nil {
		t.Fatal(err)
	}
	return m, q
}

func (q *migrator) serve(t *testing.T) {
	io.WriteString(q.conn, greeting)
	var socket *os.File
	defer q.moving.Wait()
	defer func() {
		if socket != nil {
			socket.Close()
		}
	}()
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := q.conn.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return
		}
		if oobn > 0 {
			socket = parseRights(t, oob[:oobn])
		}
		lines := bufio.NewScanner(bytes.NewReader(buf[:n]))
		for lines.Scan() {
			var req struct {
				Execute string
				ID      int
			}
			if err := json.Unmarshal(lines.Bytes(), &req); err != nil {
				t.Errorf("QEMU got %q: %v", lines.Text(), err)
			}
			q.mu.Lock()
			q.commands = append(q.commands, req.Execute)
			q.mu.Unlock()
			answer := "{}"
			switch req.Execute {
			case "migrate":
				f := socket
				q.moving.Go(func() {
					if q.fault == "endless" {
						for {
							if _, err := f.Write(make([]byte, 1<<20)); err != nil {
								return
							}
						}
					}
					f.Write(savedState)
					if q.fault != "hangs" {
						f.Close()
					}
				})
			case "migrate-incoming":
				f := socket
				q.moving.Go(func() {
					data, _ := io.ReadAll(f)
					q.mu.Lock()
					q.received = data
					q.mu.Unlock()
				})
			case "query-migrate":
				answer = `{"status": "completed"}`
				switch q.fault {
				case "fails":
					answer = `{"status": "failed", "error-desc": "no such device"}`
				case "never":
					answer = `{"status": "active"}`
				case "dies":
					q.conn.Close()
					return
				}
			}
			fmt.Fprintf(q.conn, `{"return": %s, "id": %d}`+"\n", answer, req.ID)
		}
	}
}

func parseRights(t *testing.T, oob []byte) *os.File {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d control messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("%d descriptors, %v", len(fds), err)
	}
	unix.SetNonblock(fds[0], true)
	return os.NewFile(uintptr(fds[0]), "migration")
}

func TestSave(t *testing.T) {
	m, q := newMigrator(t, "")
	var state bytes.Buffer
	pause, err := m.Save(t.Context(), &state)
	if err != nil || pause <= 0 || !bytes.Equal(state.Bytes(), savedState) {
		t.Errorf("Save() = %v, %v with %d bytes; want %d", pause, err, state.Len(), len(savedState))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	got := strings.Join(q.commands, " ")
	if want := "qmp_capabilities migrate-set-capabilities getfd stop migrate query-migrate"; got != want {
		t.Errorf("commands: %s; want %s", got, want)
	}
}

func TestRestore(t *testing.T) {
	m, q := newMigrator(t, "")
	if err := m.Restore(t.Context(), bytes.NewReader(savedState)); err != nil {
		t.Fatal(err)
	}
	q.moving.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	if !bytes.Equal(q.received, savedState) {
		t.Errorf("QEMU got %d bytes; want the %d of the state", len(q.received), len(savedState))
	}
	got := strings.Join(q.commands, " ")
	if want := "qmp_capabilities migrate-set-capabilities getfd migrate-incoming query-migrate cont"; got != want {
		t.Errorf("commands: %s; want %s", got, want)
	}
}

// A QEMU that fails, dies or hangs ends the wait with an error; what it sends is
// bounded.
func TestMigrationFaults(t *testing.T) {
	late := errors.New("too late")
	for _, tt := range []struct{ fault, want string }{
		{"fails", "no such device"}, {"never", "too late"}, {"dies", "connection to QEMU ended"},
	} {
		for name, run := range map[string]func(context.Context, *Monitor) error{
			"Save": func(ctx context.Context, m *Monitor) error { _, err := m.Save(ctx, io.Discard); return err },
			"Restore": func(ctx context.Context, m *Monitor) error {
				return m.Restore(ctx, bytes.NewReader(savedState))
			},
		} {
			patience := time.Minute
			if tt.fault == "never" {
				patience = 200 * time.Millisecond
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), patience, late)
			m, _ := newMigrator(t, tt.fault)
			if err := run(ctx, m); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s() from a QEMU that %s: %v; want %s", name, tt.fault, err, tt.want)
			}
			cancel()
		}
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, late)
	defer cancel()
	m, _ := newMigrator(t, "hangs")
	if _, err := m.Save(ctx, io.Discard); !errors.Is(err, late) {
		t.Errorf("Save() from a QEMU that hangs: %v; want %v", err, late)
	}
	m, _ = newMigrator(t, "endless")
	if _, err := m.Save(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("Save() of a state without end: %v; want an error", err)
	}
}
