package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// mcpClient is a client that has started mayfly mcp.
type mcpClient struct {
	*mcp.ClientSession
	t   *testing.T
	cmd *exec.Cmd
	err bytes.Buffer // to be read after the end
}

// startMCP starts mayfly with args as a server.
func startMCP(t *testing.T, h *vm.Host, args ...string) *mcpClient {
	t.Helper()
	c := &mcpClient{t: t, cmd: exec.Command(h.Program, args...)}
	c.cmd.Dir, c.cmd.Env, c.cmd.Stderr = h.Dir, h.Env, &c.err
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v0"}, nil)
	var err error
	c.ClientSession, err = client.Connect(context.Background(), &mcp.CommandTransport{Command: c.cmd, TerminateDuration: vm.Timeout}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, c.err.String())
	}
	return c
}

// call calls a tool and returns what it says, as JSON.
func (c *mcpClient) call(ctx context.Context, name string, args map[string]any) (string, error) {
	r, err := c.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: args})
	if err != nil {
		return "", err
	}
	if r.IsError {
		return "", errors.New(r.Content[0].(*mcp.TextContent).Text)
	}
	text, err := json.Marshal(r.StructuredContent)
	return string(text), err
}

// want calls a tool, and fails the test unless all of these are in its answer.
func (c *mcpClient) want(name string, args map[string]any, texts ...string) {
	c.t.Helper()
	got, err := c.call(context.Background(), name, args)
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", name, err, c.err.String())
	}
	for _, text := range texts {
		if !strings.Contains(got, text) {
			c.t.Errorf("%s(%v) = %s; want %s in it", name, args, vm.Clip(got), text)
		}
	}
}

// A coding agent outside works in a machine by mayfly mcp. What it did there is kept and named
// at the end, also if mayfly is killed, and a machine in which nothing was changed goes.
func TestMCP(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	writeFile(t, filepath.Join(h.Dir, "README"), "hello\n")
	type args = map[string]any

	t.Run("changes", func(t *testing.T) {
		h := h.For(t)
		c := startMCP(t, h, "mcp", "--no-detect", "--egress", "allowlist")
		if got := h.Machines(); len(got) > 0 {
			t.Errorf("there are machines %q before the first call", got)
		}
		c.want("run", args{"command": "id -un; pwd; cat README; exit 3"}, `"exit_code":3`, h.Dir, "hello")
		name := h.Machine()
		c.want("write", args{"path": "new/file", "text": "one\n"})
		c.want("edit", args{"path": "new/file", "old": "one", "new": "two"}, `"replaced":1`)
		c.want("read", args{"path": "new/file"}, `"text":"two\n"`)
		c.want("list", args{"pattern": "tw[o]"}, `"path":"new/file"`)
		c.want("run", args{"command": "curl -sS https://refused.example.org/"}, `"denied_hosts":["refused.example.org"]`)
		c.want("network", nil, "mayfly policy "+name+" allow refused.example.org")
		c.want("diff", args{"path": "new", "patch": true}, `"path":"new/file"`, "+two", "mayfly apply "+name)

		// A call that is cancelled leaves no process of its command.
		ctx, cancel := context.WithCancel(context.Background())
		canceled := make(chan error)
		go func() {
			_, err := c.call(ctx, "run", args{"command": "trap '' TERM HUP; (trap '' TERM HUP; sleep 4321) & touch /tmp/begun; sleep 4321"})
			canceled <- err
		}()
		c.want("run", args{"command": "until [ -e /tmp/begun ]; do sleep 0.1; done"}, `"exit_code":0`)
		cancel()
		if err := <-canceled; !errors.Is(err, context.Canceled) {
			t.Errorf("a call that was cancelled: %v", err)
		}
		c.want("run", args{"command": "while pgrep -f 'sleep 432[1]'; do sleep 0.1; done"}, `"exit_code":0`)

		if err := c.Close(); err != nil {
			t.Errorf("at the end of its input: %v", err)
		}
		if said := c.err.String(); !strings.Contains(said, "machine "+name+" is kept") || !strings.Contains(said, "mayfly apply "+name) {
			t.Errorf("at the end it says:\n%s", said)
		}
		if _, err := os.Stat(filepath.Join(h.Dir, "new")); err == nil {
			t.Error("a change is on the host that nobody has applied")
		}
		h.Run(0, "apply", name)
		wantFile(t, filepath.Join(h.Dir, "new/file"), "two\n")
		h.Run(0, "rm", "--force", name)
	})

	t.Run("no changes", func(t *testing.T) {
		h := h.For(t)
		c := startMCP(t, h, "mcp", "--no-detect")
		c.want("run", args{"command": "true"}, `"exit_code":0`)
		if err := c.Close(); err != nil {
			t.Errorf("at the end of its input: %v\n%s", err, c.err.String())
		}
		if got := h.Machines(); len(got) > 0 {
			t.Errorf("the machines %q are left", got)
		}
	})

	t.Run("killed", func(t *testing.T) {
		h := h.For(t)
		c := startMCP(t, h, "mcp", "--no-detect")
		c.want("write", args{"path": "work", "text": "done\n"})
		name := h.Machine()
		c.cmd.Process.Signal(syscall.SIGKILL)
		c.Close()
		h.Run(0, "apply", name)
		wantFile(t, filepath.Join(h.Dir, "work"), "done\n")

		// It is one like all others, which a client can have.
		c = startMCP(t, h, "mcp", "--machine", name)
		c.want("run", args{"command": "cat work"}, "done")
		begun := time.Now()
		if err := c.Close(); err != nil || time.Since(begun) > vm.Slack {
			t.Errorf("at the end of its input: %v after %v", err, time.Since(begun))
		}
		h.Run(0, "exec", name, "--", "true")
		h.Run(0, "rm", "--force", name)
	})

	// Servers of others run in a machine.
	t.Run("wrapped", func(t *testing.T) {
		h := h.For(t)
		c := startMCP(t, h, "run", "--discard", "--no-workspace", "--egress", "allowlist", "--", "sh", "-c", server)
		want, _ := guestUser(t, h)
		if got := c.InitializeResult().ServerInfo.Name; got != want {
			t.Errorf("the server runs as %q; want %q, the user of the machine", got, want)
		}
		begun := time.Now()
		if err := c.Close(); err != nil || time.Since(begun) > vm.Slack {
			t.Errorf("at the end of its input: %v after %v\n%s", err, time.Since(begun), c.err.String())
		}
		if got := h.Machines(); len(got) > 0 {
			t.Errorf("the machines %q are left", got)
		}
	})
}

// server is a server of MCP that only begins, and ends with its input.
const server = `while read -r line; do
	id=${line##*\"id\":}; id=${id%%[,\}]*}
	case $line in
	*'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"'$(id -un)'","version":"0"}}}' ;;
	*'"id"'*) echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32601,"message":"no"}}' ;;
	esac
done`

// wantFile fails the test unless this is in the file.
func wantFile(t *testing.T, name, content string) {
	t.Helper()
	if got, err := os.ReadFile(name); err != nil || string(got) != content {
		t.Errorf("%s: %q, %v; want %q", name, got, err, content)
	}
}
