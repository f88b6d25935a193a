package qemu

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayfly-vm/mayfly/internal/termsafe"
)

const greeting = `{"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}}, "capabilities": ["oob"]}}` + "\r\n"

// fakeQEMU returns our end of a monitor. serve gets every command and returns
// what QEMU says to it, %d standing for its id.
func fakeQEMU(t testing.TB, greeting string, serve func(command string) string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer theirs.Close()
		if _, err := io.WriteString(theirs, greeting); err != nil {
			return
		}
		lines := bufio.NewScanner(theirs)
		for lines.Scan() {
			var req struct {
				Execute string
				ID      int
			}
			if err := json.Unmarshal(lines.Bytes(), &req); err != nil {
				t.Errorf("QEMU got %q: %v", lines.Text(), err)
			}
			answer := `{"return": {}, "id": %d}`
			if req.Execute != "qmp_capabilities" {
				answer = serve(req.Execute)
			}
			if answer == "" {
				return // QEMU ends
			}
			if strings.Contains(answer, "%d") {
				answer = fmt.Sprintf(answer, req.ID)
			}
			if _, err := io.WriteString(theirs, answer+"\r\n"); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		ours.Close()
		wg.Wait()
	})
	return ours
}

func TestExecute(t *testing.T) {
	for _, tt := range []struct{ name, answer, want, err string }{
		{"good", `{"return": "x", "id": %d}`, "x", ""},
		{"events and noise before", "{\"event\": \"STOP\"}\n\n\x00garbage\n[]\n{\"return\": \"y\"}\n{\"return\": \"y\", \"id\": null}\n{\"return\": \"x\", \"id\": %d}", "x", ""},
		{"ids that are none of ours", "{\"return\": \"y\", \"id\": 999}\n{\"return\": \"y\", \"id\": -1}\n{\"return\": \"y\", \"id\": \"2\"}\n{\"return\": \"x\", \"id\": %d}", "x", ""},
		{"error", `{"error": {"class": "GenericError", "desc": "no such device"}, "id": %d}`, "", "no such device"},
		{"another type", `{"return": {}, "id": %d}`, "", "unmarshal"},
		{"nothing returned", `{"id": %d}`, "", "JSON"},
		{"the end", "", "", "EOF"},
		{"a line without end", strings.Repeat("x", maxLine+1), "", "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := NewMonitor(fakeQEMU(t, greeting, func(string) string { return tt.answer }))
			if err != nil {
				t.Fatal(err)
			}
			var got string
			err = m.Execute("query", nil, &got)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Execute() = %q, %v; want %q, %q", got, err, tt.want, tt.err)
			}
			if err == nil || tt.name == "error" {
				if err := m.Execute("again", nil, nil); (err != nil) != (tt.name == "error") {
					t.Errorf("a second Execute() = %v; want as the first", err)
				}
			} else if tt.name == "the end" {
				if err := m.Execute("again", nil, nil); !errors.Is(err, io.EOF) {
					t.Errorf("Execute() after the end = %v; want %v", err, io.EOF)
				}
			}
		})
	}
}

func TestExecuteArguments(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	sent := bufio.NewScanner(theirs)
	got := make(chan string, 2)
	go func() {
		io.WriteString(theirs, greeting)
		// An answer that comes before its command is none.
		for id := 1; sent.Scan(); id++ {
			got <- sent.Text()
			fmt.Fprintf(theirs, `{"return": {}, "id": %d}`+"\n", id)
		}
	}()
	m, err := NewMonitor(ours)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Execute("migrate", map[string]string{"uri": "a\nb"}, nil); err != nil {
		t.Fatal(err)
	}
	if c := <-got; c != `{"execute":"qmp_capabilities","id":1}` {
		t.Errorf("the first command is %s", c)
	}
	if c := <-got; c != `{"execute":"migrate","arguments":{"uri":"a\nb"},"id":2}` {
		t.Errorf("the second command is %s", c)
	}
	if err := m.Execute("x", func() {}, nil); err == nil {
		t.Error("Execute() of what is no JSON = nil; want an error")
	}
}

func TestNewMonitorBad(t *testing.T) {
	for name, first := range map[string]string{
		"nothing":          "",
		"no greeting":      `{"return": {}, "id": 1}` + "\n",
		"garbage":          "SSH-2.0-OpenSSH\r\n",
		"no end of a line": strings.Repeat("x", maxLine+1),
		"half a line":      greeting[:20],
	} {
		ours, theirs := net.Pipe()
		go func() {
			io.WriteString(theirs, first)
			theirs.Close()
		}()
		if m, err := NewMonitor(ours); err == nil {
			t.Errorf("%s: NewMonitor() = %v, nil; want an error", name, m)
		}
		ours.Close()
	}
	refused := fakeQEMU(t, greeting, nil)
	refused.Close()
	if _, err := NewMonitor(refused); err == nil {
		t.Error("NewMonitor() of a closed connection = nil; want an error")
	}
}

// Who waits for an answer hears of the connection's end.
func TestMonitorLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			io.WriteString(theirs, greeting)
			r := bufio.NewReader(theirs)
			r.ReadString('\n')
			io.WriteString(theirs, `{"return": {}, "id": 1}`+"\n")
			r.ReadString('\n')
			r.ReadString('\n') // two commands, and then no answer
			time.Sleep(time.Hour)
			theirs.Close()
		}()
		m, err := NewMonitor(ours)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				err := m.Execute("wait", nil, nil)
				if d := time.Since(start); !errors.Is(err, io.EOF) || d != time.Hour {
					t.Errorf("Execute() = %v after %v; want %v after 1h", err, d, io.EOF)
				}
			})
		}
		wg.Wait()
	})
}

// Answers may come in any order.
func TestExecuteConcurrent(t *testing.T) {
	const n = 20
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		defer theirs.Close()
		io.WriteString(theirs, greeting)
		r := bufio.NewScanner(theirs)
		r.Scan()
		io.WriteString(theirs, `{"return": {}, "id": 1}`+"\n")
		var answers []string
		for range n {
			r.Scan()
			var req struct {
				Execute string
				ID      int
			}
			json.Unmarshal(r.Bytes(), &req)
			answers = append([]string{fmt.Sprintf(`{"return": %q, "id": %d}`+"\n", req.Execute, req.ID)}, answers...)
		}
		for _, a := range append(answers, answers...) { // a second time, each
			io.WriteString(theirs, a)
		}
	}()
	m, err := NewMonitor(ours)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var got string
			want := fmt.Sprint("command", i)
			if err := m.Execute(want, nil, &got); err != nil || got != want {
				t.Errorf("Execute(%s) = %q, %v", want, got, err)
			}
		})
	}
	wg.Wait()
}

// FuzzMonitor plays a QEMU that a guest has taken over.
func FuzzMonitor(f *testing.F) {
	ok := `{"return": {}, "id": 1}` + "\n"
	f.Add([]byte(greeting + ok + `{"return": {"a": 1}, "id": 2}` + "\n"))
	f.Add([]byte(greeting + ok + `{"error": {"class": "x", "desc": "y"}, "id": 2}` + "\n"))
	f.Add([]byte(greeting + ok + `{"error": null, "return": null, "id": 2}` + "\n" + ok + ok))
	f.Add([]byte(greeting + `{"event": "STOP", "id": 1}` + "\n"))
	f.Add([]byte("\n\n" + greeting))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := NewMonitor(&deafConn{Reader: bytes.NewReader(in)})
		if err != nil {
			return
		}
		var result map[string]any
		m.Execute("query", nil, &result)
		m.Execute("quit", nil, nil)
	})
}

// FuzzMigration plays a QEMU that is asked how a migration goes: only what it says was
// completed is, and its words can be shown.
func FuzzMigration(f *testing.F) {
	ok := `{"return": {}, "id": 1}` + "\n"
	for _, answer := range []string{
		`{"return": {"status": "completed"}, "id": 2}`,
		`{"return": {"status": "failed", "error-desc": "no\nroom\u001b[2J"}, "id": 2}`,
		`{"return": {"status": "cancelled", "error-desc": "` + strings.Repeat("x", 5000) + `"}, "id": 2}`,
		`{"return": {"status": "active"}, "id": 2}` + "\n" + `{"return": {"status": "completed"}, "id": 3}`,
		`{"return": {"status": 1}, "id": 2}`,
		`{"return": null, "id": 2}`,
		`{"error": {"class": "x\n", "desc": "y\r\u202e"}, "id": 2}`,
	} {
		f.Add([]byte(answer + "\n"))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := NewMonitor(&deafConn{Reader: bytes.NewReader(append([]byte(greeting+ok), in...))})
		if err != nil {
			return
		}
		err = m.awaitMigration(t.Context())
		if err == nil && !bytes.Contains(in, []byte("status")) && !bytes.Contains(in, []byte(`\u`)) {
			t.Errorf("the migration is complete by %q", in)
		}
		if err != nil && (!termsafe.Is(err.Error()) || len(err.Error()) > 4000) {
			t.Errorf("%d bytes of error: %.200q", len(err.Error()), err)
		}
	})
}

// deafConn is a connection to who says what Reader has and hears nothing.
type deafConn struct {
	net.Conn
	io.Reader
}

func (c *deafConn) Read(p []byte) (int, error)  { return c.Reader.Read(p) }
func (c *deafConn) Write(p []byte) (int, error) { return len(p), nil }
