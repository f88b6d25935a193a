package acp

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

const workspace = "/home/u/p"

// TestFilter goes through conversations. Indented lines are what becomes of the line before.
func TestFilter(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			f := NewFilter(workspace, func(s string) { fmt.Fprintf(&got, "  note: %s\n", s) })
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "  ") {
					continue
				}
				got.WriteString(line)
				who, said, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
				var p Passed
				switch who {
				case "editor":
					p = f.FromEditor([]byte(said))
				case "agent":
					p = f.FromAgent([]byte(said))
				}
				if p.Agent != nil {
					fmt.Fprintf(&got, "  to the agent: %s", p.Agent)
				}
				if p.Editor != nil {
					fmt.Fprintf(&got, "  to the editor: %s", p.Editor)
				}
			}
			if *update {
				if err := os.WriteFile(name, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(text), got.String()); d != "" && !*update {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// Whatever a message is made of, it costs no more than its bounds.
func TestBounds(t *testing.T) {
	var notes []string
	f := NewFilter(workspace, func(s string) { notes = append(notes, s) })
	call := func(params string) []byte {
		return []byte(`{"jsonrpc":"2.0","method":"session/update","params":{"a":` + params + `}}`)
	}
	for name, line := range map[string][]byte{
		"deep":      call(strings.Repeat("[", 1000) + strings.Repeat("]", 1000)),
		"wide":      call("[" + strings.Repeat("1,", mostValues) + "1]"),
		"long":      call(`"` + strings.Repeat("x", MaxMessage) + `"`),
		"a number":  call(strings.Repeat("9", 100)),
		"not UTF-8": call("\"\xff\""),
		"an id":     []byte(`{"jsonrpc":"2.0","method":"session/request_permission","params":{},"id":"` + strings.Repeat("x", 1000) + `"}`),
		"a byte 0":  call("\"\x00\""),
	} {
		if p := f.FromAgent(line); p.Agent != nil || p.Editor != nil {
			t.Errorf("%s: %.200s, %.200s passes", name, p.Agent, p.Editor)
		}
	}
	if p := f.FromAgent(call(`"` + strings.Repeat("x", MaxMessage/2) + `"`)); len(p.Editor) < MaxMessage/2 {
		t.Errorf("of a large message %d bytes pass", len(p.Editor))
	}
	for i := range 2 * mostNotes {
		p := f.FromAgent(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"session/request_permission","params":{}}`, i))
		if asked := p.Editor != nil; asked != (i < mostQuestions) || asked == (p.Agent != nil) {
			t.Fatalf("question %d: %.200s, %.200s", i, p.Agent, p.Editor)
		}
	}
	if len(notes) != mostNotes || !strings.Contains(notes[mostNotes-1], "no more") {
		t.Errorf("%d notes, the last is %q", len(notes), notes[len(notes)-1])
	}
	for _, text := range notes {
		if len(text) > 2000 {
			t.Errorf("a note has %d bytes", len(text))
		}
	}
}

func TestSides(t *testing.T) {
	const hello = `{"jsonrpc":"2.0","method":"session/cancel","params":{"sessionId":"s"}}`
	const said = `{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s"}}`
	var editor bytes.Buffer
	queue := NewQueue()
	s := NewSides(NewFilter(workspace, func(string) {}), queue, &editor)
	if err := s.FromEditor(iotest.OneByteReader(strings.NewReader(hello + "\r\n\n" + hello + "\n" + hello))); err != nil {
		t.Error(err)
	}
	w := s.FromAgent()
	io.WriteString(w, said+"\n  \n"+said[:10])
	io.WriteString(w, said[10:]+"\n")
	// A line without an end, of which no part is a message.
	for range MaxMessage>>16 + 2 {
		w.Write(bytes.Repeat([]byte(" "), 1<<16))
	}
	io.WriteString(w, said+"\n"+said+"\n"+said)
	if got := editor.String(); got != strings.Repeat(said+"\n", 3) {
		t.Errorf("the editor gets %q", got)
	}
	queue.Close()
	if got, err := io.ReadAll(iotest.OneByteReader(queue)); string(got) != hello+"\n"+hello+"\n" || err != nil {
		t.Errorf("the agent gets %q, %v", got, err)
	}
}

// An agent that does not read what it is told takes no more memory, and keeps nobody waiting.
func TestQueueFull(t *testing.T) {
	q := NewQueue()
	line := make([]byte, MaxMessage)
	for i := range 3 {
		if _, err := q.Write(line); err != nil {
			t.Errorf("Write %d: %v", i, err)
		}
	}
	if _, err := q.Write(line[:1]); err != errFull {
		t.Errorf("Write to a full queue: %v", err)
	}
}

// addGolden adds what is said in the golden conversations.
func addGolden(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.txt")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if who, said, _ := strings.Cut(line, " "); who == "agent" || who == "editor" {
				f.Add([]byte(said))
			}
		}
	}
}

// FuzzFromAgent looks at what an agent can make an editor read.
func FuzzFromAgent(f *testing.F) {
	addGolden(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		filter := NewFilter(workspace, func(string) {})
		for _, call := range []string{`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}`, `{"jsonrpc":"2.0","id":1,"method":"x"}`} {
			filter.FromEditor([]byte(call))
		}
		p := filter.FromAgent(line)
		wellFormed(t, p.Agent)
		o := wellFormed(t, p.Editor)
		if o == nil {
			return
		}
		if method, ok := o["method"]; ok {
			answered, known := passesToEditor[method.(string)]
			if !known || answered != (o["id"] != nil) {
				t.Errorf("the editor is called: %s", p.Editor)
			}
		}
		look(t, o, false)
		// What has passed passes once more, and is the same.
		if _, ok := o["method"]; ok {
			if again := NewFilter(workspace, func(string) {}).FromAgent(p.Editor); !bytes.Equal(again.Editor, p.Editor) {
				t.Errorf("%s\nis the second time\n%s", p.Editor, again.Editor)
			}
		}
	})
}

// look fails for what no editor may get.
func look(t *testing.T, v any, plain bool) {
	switch v := v.(type) {
	case string:
		if strings.ContainsFunc(v, hidden) {
			t.Errorf("a text with what is not seen: %q", v)
		}
	case []any:
		for _, e := range v {
			look(t, e, plain)
		}
	case object:
		if v["type"] == "terminal" && !plain {
			t.Errorf("a terminal: %v", v)
		}
		for name, e := range v {
			if strings.EqualFold(name, "_meta") {
				t.Errorf("there is %s", name)
			}
			if s, ok := e.(string); ok && name == "uri" && !plain && !strings.HasPrefix(s, "http") && !strings.HasPrefix(s, "file://"+workspace) {
				t.Errorf("a link to %s", s)
			}
			look(t, name, plain)
			look(t, e, plain || name == "rawInput" || name == "rawOutput")
		}
	}
}

// FuzzFromEditor looks at what an editor can make an agent read.
func FuzzFromEditor(f *testing.F) {
	addGolden(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		p := NewFilter(workspace, func(string) {}).FromEditor(line)
		wellFormed(t, p.Editor)
		o := wellFormed(t, p.Agent)
		params, _ := o["params"].(object)
		if dir, ok := params["cwd"]; ok && dir != nil && o["method"] != "initialize" && withinDir(dir.(string), workspace) == "" {
			t.Errorf("the agent is to work in %v", dir)
		}
		noMeta(t, o)
		if list, ok := params["mcpServers"]; ok && o["method"] != "initialize" {
			for _, v := range list.([]any) {
				server := v.(object)
				u, err := url.Parse(server["url"].(string))
				if err != nil || u.User != nil || u.RawQuery != "" || len(server) != 4 || len(server["headers"].([]any)) != 0 {
					t.Errorf("a server of the editor's: %v, %v", server, err)
				}
				if _, ok := server["command"]; ok {
					t.Errorf("a program of the host: %v", server)
				}
			}
		}
	})
}

// noMeta fails for a name _meta in v.
func noMeta(t *testing.T, v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			noMeta(t, e)
		}
	case object:
		for name, e := range v {
			if strings.EqualFold(name, "_meta") {
				t.Errorf("there is %s: %v", name, e)
			}
			noMeta(t, e)
		}
	}
}

// wellFormed fails unless line is one message, and returns it; nil for none.
func wellFormed(t *testing.T, line []byte) object {
	if line == nil {
		return nil
	}
	var o object
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	if err := dec.Decode(&o); err != nil || o == nil || bytes.IndexByte(line, '\n') != len(line)-1 || !utf8.Valid(line) {
		t.Fatalf("no message: %v: %q", err, line)
	}
	return o
}
