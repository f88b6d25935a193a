package provider

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/test/websocket"
)

const testKey = "sk-test"

func testTask() Task {
	return Task{Prompt: "fix it", File: "/w/a.txt", Text: "one\ntwo\n", Command: "sh check a", Answer: "it is fixed"}
}

func newServer() *Server {
	keys := make(map[string]string)
	for _, name := range Names() {
		keys[name] = testKey
	}
	return New(keys, testTask())
}

// post returns the answer to a question, with the data of its events one a line if it has
// any.
func post(s *Server, url string, body any) (int, string) {
	r := httptest.NewRequest("POST", url, strings.NewReader(quote(body)))
	r.Header.Set("Authorization", "Bearer "+testKey)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Header().Get("Content-Type") != "text/event-stream" {
		return w.Code, w.Body.String()
	}
	var data strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if text, ok := strings.CutPrefix(line, "data: "); ok {
			data.WriteString(text)
		}
	}
	return w.Code, data.String()
}

// client is how an agent speaks to one API: the question that begins a conversation, and the
// one behind the result of a tool.
type client struct {
	name, url string
	first     object
	next      func(first object) object
	shows     []string // in the answers, one after the other
}

func clients() []client {
	functions := func(names ...string) (list []object) {
		for _, name := range names {
			list = append(list, object{"type": "function", "name": name, "function": object{"name": name}})
		}
		return list
	}
	with := func(first object, key string, more object) object {
		q := object{}
		for k, v := range first {
			q[k] = v
		}
		q[key] = append(slices.Clone(first[key].([]object)), more)
		return q
	}
	return []client{
		{
			"messages", "https://api.anthropic.com/v1/messages?beta=true",
			object{"model": "m", "stream": true, "tools": functions("Read", "Write", "Bash"), "messages": []object{{"role": "user", "content": "fix it"}}},
			func(q object) object {
				return with(q, "messages", object{"role": "user", "content": []object{{"type": "tool_result", "content": "fix nothing"}}})
			},
			[]string{`"partial_json":"{\"content`, `"partial_json":"{\"command`, `"text":"it is`},
		},
		{
			"responses", "https://api.openai.com/v1/responses",
			object{"model": "m", "stream": true, "tools": functions("apply_patch", "shell_command"), "input": []object{{"type": "message", "role": "user", "content": "fix it"}}},
			func(q object) object {
				return with(q, "input", object{"type": "function_call_output", "output": "done"})
			},
			[]string{`*** Add File: /w/a.txt`, `sh check a`, `"text":"it is fixed"`},
		},
		{
			"chat", "https://opencode.ai/zen/v1/chat/completions",
			object{"model": "m", "stream": true, "tools": functions("write", "bash"), "messages": []object{{"role": "user", "content": "fix it"}}},
			func(q object) object {
				return with(q, "messages", object{"role": "tool", "content": "done"})
			},
			[]string{`filePath`, `sh check a`, `"content":"it is fixed"`},
		},
		{
			"content", "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse",
			object{
				"tools":    []object{{"functionDeclarations": functions("write_file", "run_shell_command")}},
				"contents": []object{{"role": "user", "parts": []object{{"text": "fix it"}}}},
			},
			func(q object) object {
				return with(q, "contents", object{"role": "user", "parts": []object{{"functionResponse": object{"name": "write_file"}}}})
			},
			[]string{`"write_file"`, `"run_shell_command"`, `"text":"it is fixed"`},
		},
	}
}

// A conversation by each API has the task done, in steps.
func TestTask(t *testing.T) {
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			s := newServer()
			q := c.first
			var got []string
			for i, want := range c.shows {
				for range 2 { // a question that is asked again gets the same answer
					status, text := post(s, c.url, q)
					if status != http.StatusOK || !strings.Contains(text, want) {
						t.Errorf("answer %d: %d, %s; want %s in it", i, status, text, want)
					}
					for line := range strings.Lines(text) {
						if line = strings.TrimSpace(line); line != "" && line != "[DONE]" && !json.Valid([]byte(line)) {
							t.Errorf("answer %d has no JSON: %s", i, line)
						}
					}
				}
				q = c.next(q)
			}
			for _, call := range s.Calls() {
				got = append(got, call.Step)
				if call.Key != testKey || call.Model != "m" || call.Status != http.StatusOK {
					t.Errorf("call %+v; want the key, the model and 200", call)
				}
			}
			want := []string{StepWrite, StepWrite, StepRun, StepRun, StepAnswer, StepAnswer}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("steps (-want +got):\n%s", d)
			}
		})
	}
}

// A task is known by its text, and not by how JSON writes that.
func TestTaskOfLines(t *testing.T) {
	for _, c := range clients() {
		s := newServer()
		s.tasks[0].Prompt = "fix\n<it> 漢"
		var q any
		if err := json.Unmarshal([]byte(strings.ReplaceAll(quote(c.first), "fix it", `fix\n\u003cit\u003e \u6f22`)), &q); err != nil {
			t.Fatal(err)
		}
		post(s, c.url, q)
		if calls := s.Calls(); len(calls) != 1 || calls[0].Step != StepWrite {
			t.Errorf("%s: calls %+v; want one that writes", c.name, calls)
		}
	}
}

// A conversation that goes on has its next task done, from the beginning.
func TestEarlier(t *testing.T) {
	s := newServer()
	another := testTask()
	another.Prompt, another.Answer = "mend that", "it is mended"
	s.tasks = append(s.tasks, another)
	for _, c := range clients()[:3] {
		key := "messages"
		if c.name == "responses" {
			key = "input"
		}
		q := c.next(c.first)
		q[key] = append(q[key].([]object), object{"role": "user", "content": "mend that"})
		for _, want := range []string{StepWrite, StepRun, StepAnswer} {
			post(s, c.url, q)
			calls := s.Calls()
			if got := calls[len(calls)-1]; got.Step != want || got.Earlier != 1 {
				t.Errorf("%s: %+v; want the step %s behind one task", c.name, got, want)
			}
			q = c.next(q)
		}
	}
}

// Without a stream the answer is one object, as its API has it.
func TestWhole(t *testing.T) {
	for _, c := range clients()[:3] {
		s := newServer()
		q := object{}
		for k, v := range c.first {
			q[k] = v
		}
		delete(q, "stream")
		status, text := post(s, c.url, q)
		if status != http.StatusOK || !json.Valid([]byte(text)) || s.Calls()[0].Step != StepWrite {
			t.Errorf("%s: %d, %s; want an object that writes", c.name, status, text)
		}
		// What has no tools is no task.
		delete(q, "tools")
		if post(s, c.url, q); s.Calls()[1].Step != StepAside {
			t.Errorf("%s: without tools the step is %q; want %q", c.name, s.Calls()[1].Step, StepAside)
		}
	}
}

// Errors have the forms of their APIs, and the next question gets its answer.
func TestFail(t *testing.T) {
	for _, c := range clients() {
		s := newServer()
		s.Fail(http.StatusTooManyRequests, 529)
		for _, want := range []int{http.StatusTooManyRequests, 529, http.StatusOK} {
			status, text := post(s, c.url, c.first)
			var e struct {
				Error struct{ Message string }
			}
			err := json.Unmarshal([]byte(text), &e)
			if status != want || want != http.StatusOK && (err != nil || e.Error.Message == "") {
				t.Errorf("%s: %d, %s; want %d and an error", c.name, status, text, want)
			}
		}
		r := httptest.NewRequest("POST", c.url, strings.NewReader("{}"))
		r.Header.Set("X-Api-Key", "another")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized || s.Calls()[3].Key != "another" {
			t.Errorf("%s: with another key: %d, %+v; want 401", c.name, w.Code, s.Calls()[3])
		}
		if status, _ := post(s, c.url, "no object"); status != http.StatusBadRequest {
			t.Errorf("%s: a text in the place of a question: %d; want 400", c.name, status)
		}
	}
}

func TestKey(t *testing.T) {
	for header, value := range map[string]string{
		"Authorization": "bearer k", "X-Api-Key": "k", "X-Goog-Api-Key": "k", "authorization": "token k",
	} {
		r := httptest.NewRequest("GET", "https://api.openai.com/v1/models", nil)
		r.Header.Set(header, value)
		if got := key(r); got != "k" {
			t.Errorf("%s: %s: key = %q; want k", header, value, got)
		}
	}
	if got := key(httptest.NewRequest("GET", "https://x/?key=k", nil)); got != "k" {
		t.Errorf("?key=k: key = %q; want k", got)
	}
}

func TestModels(t *testing.T) {
	for url, want := range map[string]int{
		"https://api.anthropic.com/v1/models": 200, "https://api.openai.com/v1/models": 200, "https://api.githubcopilot.com/models": 200,
		"https://generativelanguage.googleapis.com/v1beta/models": 200, "https://api.github.com/copilot_internal/user": 200,
		"https://api.openai.com/nothing": 404, "https://api.github.com/nothing": 404, "https://evil.example/": 404,
	} {
		s := newServer()
		r := httptest.NewRequest("GET", url, nil)
		r.Header.Set("Authorization", "Bearer "+testKey)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != want || s.Calls()[0].Status != want || want == 200 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("GET %s: %d, %s; want %d", url, w.Code, w.Body, want)
		}
	}
}

// Codex says by WebSocket only what is new since the response before, and offers a program
// that calls the tools in the place of these.
func TestSocket(t *testing.T) {
	s := newServer()
	web := httptest.NewServer(s)
	defer web.Close()
	conn, err := net.Dial("tcp", web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/responses HTTP/1.1\r\nHost: api.openai.com\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", testKey)
	in := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v; want a WebSocket", resp, err)
	}
	ask := func(q object) (id, all string) {
		t.Helper()
		q["type"] = "response.create"
		conn.Write(websocket.Frame{Fin: true, Opcode: websocket.Text, Payload: []byte(quote(q))}.Masked())
		for {
			data := readServerFrame(t, in)
			all += data + "\n"
			var e struct {
				Type     string
				Response struct{ ID string }
			}
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatal(err)
			}
			if e.Type == "response.completed" || e.Type == "error" {
				return e.Response.ID, all
			}
		}
	}
	id, _ := ask(object{"model": "m", "generate": false, "input": []object{}})
	tools := object{"type": "additional_tools", "role": "developer", "tools": []object{
		{"type": "namespace", "name": "functions", "tools": []object{{"type": "custom", "name": "exec"}}},
	}}
	id, got := ask(object{"model": "m", "previous_response_id": id, "input": []object{tools, {"role": "user", "content": "fix it"}}})
	if !strings.Contains(got, "tools.apply_patch(") {
		t.Errorf("first: %s; want a patch", got)
	}
	s.Fail(http.StatusTooManyRequests)
	output := []object{{"type": "custom_tool_call_output", "output": "done"}}
	if _, got := ask(object{"model": "m", "previous_response_id": id, "input": output}); !strings.Contains(got, `"status":429`) {
		t.Errorf("as it fails: %s; want 429", got)
	}
	id, got = ask(object{"model": "m", "previous_response_id": id, "input": output})
	if !strings.Contains(got, "tools.exec_command(") {
		t.Errorf("second: %s; want a command", got)
	}
	if _, got = ask(object{"model": "m", "previous_response_id": id, "input": output}); !strings.Contains(got, "it is fixed") {
		t.Errorf("third: %s; want the answer", got)
	}
	var steps []string
	for _, c := range s.Calls() {
		steps = append(steps, fmt.Sprint(c.Step, c.Status))
	}
	if d := cmp.Diff([]string{"aside200", "write200", "429", "run200", "answer200"}, steps); d != "" {
		t.Errorf("steps (-want +got):\n%s", d)
	}
}

// readServerFrame reads a frame without a mask.
func readServerFrame(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	size := int(head[1])
	if size == 126 {
		var long [2]byte
		if _, err := io.ReadFull(r, long[:]); err != nil {
			t.Fatal(err)
		}
		size = int(long[0])<<8 | int(long[1])
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		t.Fatal(err)
	}
	return string(data)
}
