package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// acpEditor is an editor that has started mayfly acp.
type acpEditor struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	said chan string // lines of mayfly's standard output, closed at its end
	err  bytes.Buffer
	last int
}

// acpMessage is what an editor needs of one.
type acpMessage struct {
	ID     json.RawMessage
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  json.RawMessage
}

// startACP starts mayfly acp with args for an editor.
func startACP(t *testing.T, h *vm.Host, args ...string) *acpEditor {
	t.Helper()
	e := &acpEditor{t: t, cmd: exec.Command(h.Program, append([]string{"acp"}, args...)...), said: make(chan string, 10_000)}
	e.cmd.Dir, e.cmd.Env, e.cmd.Stderr = h.Dir, h.Env, &e.err
	if h.Through != nil {
		e.cmd = h.Through(e.cmd)
	}
	in, err := e.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.cmd.Process.Kill() })
	e.in = in
	go func() {
		defer close(e.said)
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadString('\n')
			if line != "" {
				e.said <- line
			}
			if err != nil {
				return
			}
		}
	}()
	return e
}

// send says what has no answer.
func (e *acpEditor) send(v map[string]any) {
	v["jsonrpc"] = "2.0"
	line, err := json.Marshal(v)
	if err == nil {
		_, err = e.in.Write(append(line, '\n'))
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// next returns the next message, false at the end.
func (e *acpEditor) next() (acpMessage, bool) {
	e.t.Helper()
	var m acpMessage
	select {
	case line, ok := <-e.said:
		if !ok {
			return m, false
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			e.t.Fatalf("the editor gets %v: %s", err, vm.Clip(line))
		}
		return m, true
	case <-time.After(vm.Timeout):
		e.t.Fatalf("nothing comes")
		return m, false
	}
}

// call calls a method and returns its result. What the agent calls meanwhile is allowed, and what
// it tells is in told.
func (e *acpEditor) call(method string, params any) (result string, told []acpMessage) {
	e.t.Helper()
	e.last++
	id, _ := json.Marshal(e.last)
	e.send(map[string]any{"id": e.last, "method": method, "params": params})
	for {
		m, ok := e.next()
		switch {
		case !ok:
			e.cmd.Wait()
			e.t.Fatalf("%s: mayfly has ended\n%s", method, e.err.String())
		case m.Method == "session/request_permission":
			var p struct {
				Options []struct{ OptionID, Kind string }
			}
			if err := json.Unmarshal(m.Params, &p); err != nil {
				e.t.Fatal(err)
			}
			for _, o := range p.Options {
				if o.Kind == "allow_once" {
					e.send(map[string]any{"id": m.ID, "result": map[string]any{"outcome": map[string]any{"outcome": "selected", "optionId": o.OptionID}}})
					break
				}
			}
			told = append(told, m)
		case m.Method == "session/update":
			told = append(told, m)
		case m.Method != "":
			e.t.Errorf("the editor is called: %s", m.Method)
		case !bytes.Equal(m.ID, id):
			e.t.Errorf("an answer to %s, which was not asked", m.ID)
		case m.Error != nil:
			e.t.Fatalf("%s: %s", method, m.Error)
		default:
			return string(m.Result), told
		}
	}
}

// end closes mayfly's input, and returns what else it said.
func (e *acpEditor) end() string {
	e.t.Helper()
	e.in.Close()
	var rest strings.Builder
	for line := range e.said {
		rest.WriteString(line)
	}
	if err := e.cmd.Wait(); err != nil {
		e.t.Errorf("at the end of its input: %v\n%s", err, vm.Clip(e.err.String()))
	}
	return rest.String()
}

var acpHello = map[string]any{
	"protocolVersion": 1, "clientInfo": map[string]any{"name": "test", "version": "1"},
	"clientCapabilities": map[string]any{"fs": map[string]any{"readTextFile": true, "writeTextFile": true}, "terminal": true},
}

// hostileAgent does all that an agent should not, and then tells what it was answered.
const hostileAgent = `
say() { printf "$@"; echo; }
read -r hello
say '{"jsonrpc":"2.0","id":1,"method":"terminal/create","params":{"sessionId":"s","command":"id"}}'
read -r one
say '{"jsonrpc":"2.0","id":2,"method":"fs/write_text_file","params":{"sessionId":"s","path":"%s","content":"x"}}' "$PWD/written"
read -r two
say '{"jsonrpc":"2.0","id":3,"method":"session/update","method":"terminal/create","params":{"command":"id"}}'
say '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"\377"}}'
head -c 20000000 /dev/zero | tr '\0' ' '
say '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"long"}}'
say '{"jsonrpc":"2.0","id":77,"result":{}}'
say 'mayfly: no message'
(trap '' HUP INT TERM; exec sleep 4321) & trap '' HUP INT TERM
say '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"agentInfo":{"name":"x","version":%s}}}' "$(printf '["%s","%s"]' \
	"$(echo "$hello" | grep -c '"terminal":false')" "$(echo "$one$two" | grep -o -- -32601 | wc -l)")"
printf '{"jsonrpc":"2.0","method":"session/update","params":{"a":"'
cat /dev/zero | tr '\0' x &
sleep 4321
`

// An editor uses agents that work in a machine, by mayfly acp. A hostile one reaches nothing of
// the host, and ends with its editor.
func TestACP(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	t.Run("hostile", func(t *testing.T) {
		h := h.For(t)
		writeFile(t, filepath.Join(h.Dir, "agent"), hostileAgent)
		h.Run(0, "new", "web", "--no-detect", "--workspace", h.Dir)
		for _, end := range []string{"closed", "killed"} {
			e := startACP(t, h, "web", "--", "sh", "agent")
			if got, told := e.call("initialize", acpHello); !strings.Contains(got, `"version":["1","2"]`) || len(told) > 0 {
				t.Errorf("the agent was told %s, and the editor %v", got, told)
			}
			if end == "killed" {
				e.cmd.Process.Kill()
				e.cmd.Wait()
			} else if rest := e.end(); rest != "" {
				t.Errorf("the editor gets more: %s", vm.Clip(rest))
			}
			h.Run(0, "exec", "web", "--", "sh", "-c", "while pgrep -f 'sleep 432[1]'; do sleep 0.1; done; test ! -e written")
			if said := e.err.String(); end == "closed" && (!strings.Contains(said, "the agent called terminal/create") || !strings.Contains(said, "not UTF-8")) {
				t.Errorf("it says %s", vm.Clip(said))
			}
		}
		h.Run(0, "rm", "web")
	})
}
