package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mayfly-vm/mayfly"
)

// local is a machine whose guest is this computer: its programs run in a session of their
// own, as the guest agent starts them.
type local struct {
	dir     string
	changes []mayfly.Change
	dead    atomic.Bool
	running sync.WaitGroup
}

func (l *local) Name() string { return "m" }
func (l *local) Alive() bool  { return !l.dead.Load() }

func (l *local) Plan() mayfly.Plan {
	return mayfly.Plan{Name: "m", Workspace: l.dir, Mode: "copy", User: mayfly.User{Home: l.dir}, Network: mayfly.Network{Mode: "user"}}
}

func (l *local) ChangesToApply(context.Context, bool) (*mayfly.ChangeSet, error) {
	return &mayfly.ChangeSet{Root: l.dir, Changes: l.changes}, nil
}

func (l *local) Exec(ctx context.Context, c mayfly.Cmd) (int, error) {
	l.running.Add(1)
	defer l.running.Done()
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, c.Stdout, c.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		defer in.Close()
		if c.Stdin != nil {
			io.Copy(in, c.Stdin)
		}
	}()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case sig := <-c.Signals:
				syscall.Kill(-cmd.Process.Pid, syscall.Signal(sig))
			case <-ctx.Done():
				syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				return
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// peer is a client of a server in front of a machine.
type peer struct {
	t      *testing.T
	m      *local
	s      *Server
	c      *mcp.ClientSession
	opened atomic.Int32
	denied []mayfly.Denied
	ended  chan error // gets what serve returned

	mu       sync.Mutex // guards progress
	progress []string
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{t: t, m: &local{dir: t.TempDir()}, ended: make(chan error, 1)}
	p.s = New(Options{
		Version: "v0",
		Open: func(context.Context) (Machine, error) {
			p.opened.Add(1)
			p.m.dead.Store(false)
			p.s.Tell("starting \x1b[31mit\nfast")
			return p.m, nil
		},
		Touch: func(Machine) error { return nil },
		Network: func(string) (mayfly.NetworkState, error) {
			return mayfly.NetworkState{Mode: "user", Egress: "allowlist", Denied: p.denied}, nil
		},
	})
	ours, theirs := mcp.NewInMemoryTransports()
	go func() { p.ended <- p.s.serve(context.Background(), ours) }()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "v0"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.progress = append(p.progress, r.Params.Message)
		},
	})
	var err error
	if p.c, err = client.Connect(context.Background(), theirs, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.c.Close()
		<-p.ended
		p.m.running.Wait()
	})
	return p
}

// call calls a tool, and returns the text of its error or fills out.
func (p *peer) call(name string, in any, out any) string {
	p.t.Helper()
	r, err := p.c.CallTool(context.Background(), &mcp.CallToolParams{Name: name, Arguments: in})
	if err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	if r.IsError {
		return r.Content[0].(*mcp.TextContent).Text
	}
	data, err := json.Marshal(r.StructuredContent)
	if err != nil {
		p.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			p.t.Fatal(err)
		}
	}
	return ""
}

// must is call for what succeeds.
func must[Out any](p *peer, name string, in any) (out Out) {
	p.t.Helper()
	if failed := p.call(name, in, &out); failed != "" {
		p.t.Fatalf("%s(%+v): %s", name, in, failed)
	}
	return out
}

// args are arguments of a tool.
type args map[string]any

func (p *peer) run(command string) runOutput {
	p.t.Helper()
	return must[runOutput](p, "run", args{"command": command})
}

// No argument of a tool widens what the machine may do, and unknown ones are refused.
func TestTools(t *testing.T) {
	p := newPeer(t)
	r, err := p.c.ListTools(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"run": "background command cwd timeout_s", "job": "action eof id input wait_s",
		"read": "limit offset path", "write": "path text", "edit": "new old path replace_all",
		"list": "depth glob ignore_case path pattern", "diff": "patch path", "network": "",
	}
	for _, tool := range r.Tools {
		var names []string
		properties, _ := tool.InputSchema.(map[string]any)["properties"].(map[string]any)
		for name := range properties {
			names = append(names, name)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want[tool.Name] {
			t.Errorf("%s has the arguments %q; want %q", tool.Name, got, want[tool.Name])
		}
		if tool.OutputSchema == nil || tool.Annotations == nil || tool.Annotations.DestructiveHint == nil || tool.Annotations.OpenWorldHint == nil {
			t.Errorf("%s says not all of what it does", tool.Name)
		}
		reads := slices.Contains([]string{"read", "list", "diff", "network"}, tool.Name)
		if tool.Annotations.ReadOnlyHint != reads {
			t.Errorf("%s: read only is %v", tool.Name, !reads)
		}
		delete(want, tool.Name)
	}
	if len(want) > 0 {
		t.Errorf("there are no tools %v", want)
	}
	for _, in := range []args{{"command": "true", "image": "x"}, {"command": "true", "allow": "example.org"}, {"command": "true", "machine": "other"}} {
		if p.call("run", in, nil) == "" {
			t.Errorf("run(%v) was done", in)
		}
	}
	if n := p.opened.Load(); n != 0 {
		t.Errorf("the machine was started %d times for calls that were refused; want 0", n)
	}
}

func TestRun(t *testing.T) {
	p := newPeer(t)
	if n := p.opened.Load(); n != 0 {
		t.Errorf("the machine was started before the first call")
	}
	out := p.run("pwd; echo no >&2; exit 3")
	if out.Stdout != p.m.dir+"\n" || out.Stderr != "no\n" || out.ExitCode == nil || *out.ExitCode != 3 || out.Truncated {
		t.Errorf("run = %+v", out)
	}
	if err := os.Mkdir(filepath.Join(p.m.dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out := must[runOutput](p, "run", args{"command": "pwd", "cwd": "sub"}); out.Stdout != p.m.dir+"/sub\n" {
		t.Errorf("in sub: %+v", out)
	}
	if out := p.run("kill -TERM $$"); *out.ExitCode != 143 {
		t.Errorf("exit code %d; want 143", *out.ExitCode)
	}
	for _, in := range []args{{"command": ""}, {"command": "true", "timeout_s": 3601}, {"command": "true", "timeout_s": -1}} {
		if p.call("run", in, nil) == "" {
			t.Errorf("run(%v) was done", in)
		}
	}
	if n := p.opened.Load(); n != 1 {
		t.Errorf("the machine was started %d times; want 1", n)
	}
}

// A machine that has ended is not silently another one.
func TestMachineEnded(t *testing.T) {
	p := newPeer(t)
	p.run("true")
	p.m.dead.Store(true)
	if failed := p.call("run", args{"command": "true"}, nil); !strings.Contains(failed, "has ended") {
		t.Errorf("run = %q; want that the machine has ended", failed)
	}
	p.run("true")
	if n := p.opened.Load(); n != 2 {
		t.Errorf("the machine was started %d times; want 2", n)
	}
}

// hostileText is what nobody should get to see as it is.
func hostileText(text string) string {
	if !utf8.ValidString(text) {
		return "bytes that are not UTF-8"
	}
	for _, r := range text {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
			return fmt.Sprintf("the character %U", r)
		}
	}
	return ""
}

func TestHostileOutput(t *testing.T) {
	p := newPeer(t)
	for name, command := range map[string]string{
		"1 GiB":         "head -c 1073741824 /dev/zero | tr '\\0' x; echo end",
		"escape":        `printf 'a\033[31mred\033[0m\033]0;title\007b\033]52;c;aGk=\033\\c\033Pq#\033\\d\033cend\n'`,
		"open escape":   `printf '\033]0;never ended\nnext\033['; echo; echo end`,
		"controls":      `printf '\000\001\010\177\302\205\302\233\r\nend\n'`,
		"bidi":          `printf '\342\200\256dne\342\201\246\357\273\277end\n'`,
		"not UTF-8":     `printf '\377\376\303(\355\240\200end\n'`,
		"binary":        "head -c 3000000 /dev/urandom; echo end",
		"one long line": "head -c 100000 /dev/zero | tr '\\0' '\\377'; echo end",
		"both":          "head -c 1000000 /dev/urandom >&2; echo end",
	} {
		out := p.run(command)
		for _, text := range []string{out.Stdout, out.Stderr} {
			if why := hostileText(text); why != "" {
				t.Errorf("%s: the output has %s", name, why)
			}
		}
		if n := len(out.Stdout) + len(out.Stderr); n > 2*(mostStdout+mostStderr)+100 {
			t.Errorf("%s: the output has %d bytes", name, n)
		}
		if !strings.HasSuffix(out.Stdout, "end\n") {
			t.Errorf("%s: the output does not end with its end: %.40q", name, out.Stdout[max(0, len(out.Stdout)-40):])
		}
		if want := name == "1 GiB" || name == "binary" || name == "one long line" || name == "both"; out.Truncated != want {
			t.Errorf("%s: truncated is %v", name, out.Truncated)
		}
	}
	if out := p.run(`printf '10%%\r100%%\r\n\033[32mok\033[0m\n'`); out.Stdout != "100%\nok\n" {
		t.Errorf("a bar of progress and a colour: %q", out.Stdout)
	}
}

// gone waits until no process has the word in its arguments.
func gone(t *testing.T, word string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if exec.Command("pgrep", "-f", word).Run() != nil {
			return
		}
	}
	t.Errorf("%s goes on", word)
}

// begun waits until a command has made a file.
func (p *peer) begun(name string) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(p.m.dir, name)); err == nil {
			return
		}
	}
	p.t.Fatal("the command did not begin")
}

// stubborn is a command of which no process ends by a signal that it can ignore.
func stubborn(seconds int) string {
	return fmt.Sprintf(`trap '' TERM HUP INT; (trap '' TERM HUP INT; sleep %d) & touch begun; sleep %d; echo not reached`, seconds, seconds)
}

func TestCancel(t *testing.T) {
	p := newPeer(t)
	ctx, cancel := context.WithCancel(context.Background())
	answered := make(chan error)
	go func() {
		_, err := p.c.CallTool(ctx, &mcp.CallToolParams{Name: "run", Arguments: args{"command": stubborn(98761)}})
		answered <- err
	}()
	p.begun("begun")
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
	gone(t, "sleep 98761")
}

func TestTimeout(t *testing.T) {
	p := newPeer(t)
	out := must[runOutput](p, "run", args{"command": "echo before; " + stubborn(98762), "timeout_s": 1})
	if !out.TimedOut || out.ExitCode != nil || out.Stdout != "before\n" {
		t.Errorf("run = %+v", out)
	}
	gone(t, "sleep 98762")
}

// The end of the client ends what it has begun, and Serve.
func TestEnd(t *testing.T) {
	m := &local{dir: t.TempDir()}
	s := New(Options{
		Open:    func(context.Context) (Machine, error) { return m, nil },
		Touch:   func(Machine) error { return nil },
		Network: func(string) (mayfly.NetworkState, error) { return mayfly.NetworkState{}, nil },
	})
	in, client := io.Pipe()
	out, server := io.Pipe()
	served := make(chan error)
	go func() { served <- s.Serve(context.Background(), in, server) }()
	go io.Copy(io.Discard, out)
	for _, line := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"0"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"run","arguments":{"command":%q}}}`, stubborn(98763)),
		`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"run","arguments":{"background":true,"command":"touch job; sleep 98763"}}}`,
	} {
		fmt.Fprintln(client, line)
	}
	p := &peer{t: t, m: m}
	p.begun("begun")
	p.begun("job")
	client.Close()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("Serve = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Serve goes on after the end of its input")
	}
	m.running.Wait()
	gone(t, "sleep 98763")
}

func TestProgress(t *testing.T) {
	p := newPeer(t)
	params := &mcp.CallToolParams{Name: "run", Arguments: args{"command": "true"}}
	params.SetProgressToken("t")
	if _, err := p.c.CallTool(context.Background(), params); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if want := []string{"starting ?[31mit fast"}; !slices.Equal(p.progress, want) {
		t.Errorf("progress %q; want %q", p.progress, want)
	}
}

func TestJob(t *testing.T) {
	p := newPeer(t)
	id := must[runOutput](p, "run", args{"command": "read a; echo got $a; cat; exit 4", "background": true}).Job
	if out := must[jobOutput](p, "job", args{"id": id, "action": "poll"}); !out.Running || out.Stdout != "" {
		t.Errorf("at first: %+v", out)
	}
	must[jobOutput](p, "job", args{"id": id, "action": "input", "input": "one\ntwo\n", "eof": true})
	var stdout strings.Builder
	var last jobOutput
	for last.Running = true; last.Running; {
		last = must[jobOutput](p, "job", args{"id": id, "action": "poll", "wait_s": 20})
		stdout.WriteString(last.Stdout)
	}
	if stdout.String() != "got one\ntwo\n" || last.ExitCode == nil || *last.ExitCode != 4 {
		t.Errorf("at last: %q, %+v", stdout.String(), last)
	}
	if failed := p.call("job", args{"id": id, "action": "input", "input": "x"}, nil); failed != "the job has ended" {
		t.Errorf("input for a job that has ended: %q", failed)
	}
	stop := must[runOutput](p, "run", args{"command": stubborn(98764), "background": true}).Job
	p.begun("begun")
	if out := must[jobOutput](p, "job", args{"id": stop, "action": "stop"}); out.Running || out.Error != "stopped" {
		t.Errorf("stop: %+v", out)
	}
	gone(t, "sleep 98764")
	for _, in := range []args{{"id": "77", "action": "poll"}, {"id": id, "action": "kill"}, {"id": id, "action": "poll", "wait_s": 301}} {
		if p.call("job", in, nil) == "" {
			t.Errorf("job(%v) was done", in)
		}
	}
}

// Jobs are bounded: those that run are not forgotten.
func TestMostJobs(t *testing.T) {
	p := newPeer(t)
	for range mostJobs {
		must[runOutput](p, "run", args{"command": "sleep 98765", "background": true})
	}
	if failed := p.call("run", args{"command": "true", "background": true}, nil); !strings.Contains(failed, "stop one first") {
		t.Errorf("one more: %q", failed)
	}
	must[jobOutput](p, "job", args{"id": "3", "action": "stop"})
	if out := must[runOutput](p, "run", args{"command": "true", "background": true}); out.Job != "17" {
		t.Errorf("after one was stopped: %+v", out)
	}
}

// Input that nobody reads is refused and not kept.
func TestJobDoesNotRead(t *testing.T) {
	p := newPeer(t)
	must[runOutput](p, "run", args{"command": "sleep 98766", "background": true})
	text := strings.Repeat("x", mostInput)
	for range 100 {
		if failed := p.call("job", args{"id": "1", "action": "input", "input": text}, nil); failed != "" {
			return
		}
	}
	t.Error("a job that does not read took 6 MiB")
}

func TestDenied(t *testing.T) {
	p := newPeer(t)
	p.denied = []mayfly.Denied{
		{Host: "a.example.org", Port: 443, Count: 2}, {Host: "b.example.org", Port: 22, Count: 1}, {Host: "a.example.org", Port: 80, Count: 1},
		{Host: "x;reboot", Port: 443, Count: 1}, {Host: "up.example.org", Port: 443, Count: 9, Needless: "claude"},
		{Host: "\x1b[2J\u202e", Count: 1},
	}
	out := p.run("true")
	if got := strings.Join(out.DeniedHosts, " "); got != `a.example.org b.example.org x;reboot [2J\u{202e}` {
		t.Errorf("denied hosts %q", got)
	}
	if out := p.run("true"); len(out.DeniedHosts) > 0 {
		t.Errorf("they are told again: %q", out.DeniedHosts)
	}
	net := must[networkOutput](p, "network", args{})
	want := []string{"mayfly policy m allow a.example.org", "mayfly policy m allow b.example.org:22"}
	if !slices.Equal(net.User, want) || len(net.Refused) != 6 || net.Egress != "allowlist" {
		t.Errorf("network = %+v; want the commands %q", net, want)
	}
}

func TestDiff(t *testing.T) {
	p := newPeer(t)
	p.m.changes = []mayfly.Change{
		{Op: "A", Path: "a\x1b[2J", Class: mayfly.Ordinary},
		{Op: "M", Path: "Makefile", Class: mayfly.Builds, Rules: []mayfly.Finding{{Reason: "make runs it", Detail: "x\u202ey"}}},
		{Op: "A", Path: "node_modules/x", Ignored: true},
	}
	out := must[diffOutput](p, "diff", args{})
	if len(out.Changes) != 2 || out.Changes[0].Path != "a[2J" || out.Changes[1].Why[0] != `make runs it x\u{202e}y` || out.Ignored != 1 {
		t.Errorf("diff = %+v", out)
	}
	for range 2 * mostChanges {
		p.m.changes = append(p.m.changes, mayfly.Change{Op: "A", Path: strings.Repeat("p", 4096)})
	}
	if out := must[diffOutput](p, "diff", args{}); len(out.Changes) != mostChanges || !out.Truncated || len(out.Changes[9].Path) > mostMatch+10 {
		t.Errorf("very many changes: %d, truncated %v", len(out.Changes), out.Truncated)
	}
}
