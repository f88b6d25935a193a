package test

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/control"
	"github.com/mayfly-vm/mayfly/internal/guest/client"
	"github.com/mayfly-vm/mayfly/internal/guest/wire"
	"github.com/mayfly-vm/mayfly/internal/state"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// leaveKeys are those that leave a session.
const leaveKeys = "\x1d\x1d"

// sessions lists the sessions of the machine name.
func sessions(t testing.TB, h *vm.Host, name string) map[string]wire.SessionInfo {
	t.Helper()
	machines := state.Open(h.State)
	m, err := machines.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := control.OpenGuest(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	all, err := client.Sessions(stream)
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]wire.SessionInfo)
	for _, s := range all {
		named[s.Name] = s
	}
	return named
}

// ends waits until the mayfly in term has ended.
func ends(t testing.TB, term *vm.Terminal, code int) {
	t.Helper()
	if r := term.Wait(); r.Code != code {
		t.Errorf("mayfly %s ended with %d; want %d: %q", strings.Join(term.Args, " "), r.Code, code, term.Screen())
	}
}

// Agents work in sessions that survive their terminals. The machine has no
// network: an agent that asks for its login has asked nothing else before.
func TestSession(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	h.Run(0, "run", "--keep", "--name", "s", "--network", "none", "--profile", "claude,codex,copilot,gemini,opencode", "--", "true")
	t.Run("as the user", func(t *testing.T) {
		// The flag is added, with which root would be refused.
		if got := h.For(t).Run(0, "claude", "s", "--", "--version").Stdout; !regexp.MustCompile(`^\d+\.\d+\.\d+ \(Claude Code\)\n$`).MatchString(got) {
			t.Errorf("claude --version = %q", got)
		}
		h.For(t).Run(0, "claude", "s", "--", "--dangerously-skip-permissions", "--version")
	})
	t.Run("flags", func(t *testing.T) {
		h := h.For(t)
		for _, args := range []string{"exec", "resume", "fork", "--version"} {
			h.Run(0, "codex", "s", "--", args, "--help")
		}
		h.Run(0, "codex", "s", "--", "login", "--help")
	})
	t.Run("claude", func(t *testing.T) { testClaudeSession(t, h.For(t)) })
	for agent, want := range map[string]string{"codex": "Sign in with ChatGPT", "opencode": "Ask anything"} {
		t.Run(agent, func(t *testing.T) {
			if agent == "opencode" && os.Getenv(longVariable) == "" {
				t.Skip("emulated, opencode takes two minutes to its first screen: set " + longVariable + "=1")
			}
			h := h.For(t)
			term := h.Terminal(agent, "s")
			term.Expect(want)
			term.Type(leaveKeys)
			term.Expect(agent + " goes on; mayfly attach s " + agent)
			ends(t, term, 0)
			top := h.Terminal("top") // gives the screen to the session and takes it back
			top.Expect("s: " + agent)
			top.Type("\r")
			top.Expect(want)
			top.Type(leaveKeys)
			top.Expect(agent + " goes on")
			top.Expect("mayfly top: 1 machine")
			top.Type("q")
			ends(t, top, 0)
			again := h.Terminal("attach", "s", agent)
			again.Expect(want)
			again.Type(leaveKeys)
			ends(t, again, 0)
			if r := h.Run(0, "attach", "--end", "s", agent); r.Stdout != "" || !strings.Contains(r.Stderr, agent+" has ended in s\n") {
				t.Errorf("attach --end: %q, %q", r.Stdout, r.Stderr)
			}
			if left := sessions(t, h, "s"); len(left) > 0 {
				t.Errorf("there are sessions still: %+v", left)
			}
			if r := h.Run(1, "attach", "--end", "s", agent); !strings.Contains(r.Stderr, "mayfly: error: machine s: no session "+agent+"\nmayfly: hint: mayfly ls\n") {
				t.Errorf("attach --end of one that has ended: %q", r.Stderr)
			}
			if got := h.Run(0, "exec", "s", "--", "sh", "-c", "pgrep -af '[a]pp-server' || true").Stdout; got != "" {
				t.Errorf("beside it there is %s", got)
			}
		})
	}
	h.Run(0, "rm", "s")
}

func testClaudeSession(t *testing.T, h *vm.Host) {
	// The dialogs that it would begin with.
	asks := regexp.MustCompile(`(?i)text style|theme|trust|accept`)
	// One word of its screen: it may jump over the spaces between words.
	const ready, login = "permissions", "Not logged in"

	if r := h.Run(0, "agent", "s", "claude", "--detach"); !strings.Contains(r.Stderr, "claude works in s; mayfly attach s claude shows it") {
		t.Errorf("it says %s", r.Stderr)
	}
	if r := h.Run(0, "agent", "s", "claude", "--detach"); !strings.Contains(r.Stderr, "works in s already") {
		t.Errorf("of one that works it says %s", r.Stderr)
	}
	term := h.Terminal("attach", "s")
	term.Expect(ready)
	term.Until(login, func() bool { return strings.Contains(term.Screen(), login) })
	if found := asks.FindString(term.Screen()); found != "" {
		t.Errorf("it asks about %q first: %q", found, term.Screen())
	}
	i := sessions(t, h, "s")["claude"]
	if i.Viewers != 1 || i.Exited || !strings.Contains(i.Title, "Claude Code") || i.Argv[0] != "claude" || i.Output == 0 {
		t.Errorf("the session is %+v", i)
	}

	// It says itself that nobody has asked it for anything, and what it asks for is
	// listed. The program of its hooks is the user's to start, and its socket is nobody
	// else's.
	term.Until("idle", func() bool { return sessions(t, h, "s")["claude"].State == wire.StateIdle })
	if r := h.Run(0, "ls"); !strings.Contains(r.Stdout, "claude (idle, ") {
		t.Errorf("ls says %s", r.Stdout)
	}
	watch := h.Terminal("watch", "s")
	watch.Expect("s: claude idle, ")
	const report = `{"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"npm publish"}}`
	for _, who := range []string{"sudo -u nobody ", ""} {
		h.Run(0, "exec", "s", "--", "sh", "-c", "echo '"+report+"' | "+who+"env MAYFLY_SESSION=claude "+codingagent.Hook)
		if i := sessions(t, h, "s")["claude"]; (i.State == wire.StatePermission) != (who == "") || (i.Last == "Bash: npm publish") != (who == "") {
			t.Errorf("after a report by %q the session is %+v", who, i)
		}
	}
	if r := h.Run(0, "ls"); !strings.Contains(r.Stdout, "claude (needs permission, ") || !strings.Contains(r.Stdout, ": Bash: npm publish)") {
		t.Errorf("ls says %s", r.Stdout)
	}
	watch.Expect("s: claude needs permission, ")
	longest := h.Terminal("attach")
	longest.Expect("claude in s needs permission, ")
	longest.Expect(ready)
	longest.Type(leaveKeys)
	ends(t, longest, 0)
	h.Run(0, "exec", "s", "--", "sh", "-c", `echo '{"hook_event_name":"UserPromptSubmit"}' | MAYFLY_SESSION=claude `+codingagent.Hook)
	watch.Expect("s: claude works, ")
	watch.Signal(syscall.SIGINT)
	ends(t, watch, 0)

	// The terminal is gone at once, as with a lost connection.
	term.Signal(syscall.SIGKILL)
	term.Wait()
	if i := sessions(t, h, "s")["claude"]; i.Exited {
		t.Errorf("the program ended with its terminal: %+v", i)
	}
	// Two look at it; what one types, the other sees. It was at its prompt, and
	// for some time it says nothing: it waits.
	one, two := h.Terminal("claude", "s"), h.TerminalOf("xterm", "attach", "s", "claude")
	for _, term := range []*vm.Terminal{one, two} {
		term.Expect(ready)
	}
	one.Until("quiet", func() bool { i := sessions(t, h, "s")["claude"]; return i.Waiting && i.Viewers == 2 })
	one.Type("hello there")
	two.Until("hello", func() bool {
		return strings.Contains(regexp.MustCompile(`\x1b\[[0-9;?]*[a-zA-Z]`).ReplaceAllString(two.Screen(), ""), "hello")
	})
	if i := sessions(t, h, "s")["claude"]; i.Input == 0 || i.Waiting {
		t.Errorf("after input the session is %+v", i)
	}
	one.Type(leaveKeys)
	one.Expect("claude goes on")
	ends(t, one, 0)
	if strings.Contains(one.Screen(), "\x1b[?1049h") && !strings.Contains(one.Screen(), "\x1b[?1049l") {
		t.Error("who leaves does not get the screen back")
	}
	// SIGHUP is a terminal that is closed.
	two.Signal(syscall.SIGHUP)
	ends(t, two, 0)

	// The program's end is everybody's.
	term = h.Terminal("attach", "s")
	term.Expect(ready)
	h.Run(0, "exec", "s", "--", "sh", "-c", "pkill -KILL -x claude || sudo pkill -KILL claude")
	ends(t, term, 137)
	if r := h.Run(1, "attach", "s"); !strings.Contains(r.Stderr, "mayfly agent s") {
		t.Errorf("without a session attach says %s", r.Stderr)
	}

	// A script starts one, and asks later how it went. Settings that are broken
	// do not keep it from starting.
	h.Run(0, "exec", "s", "--", "sh", "-c", "echo '{' > ~/.local/share/mayfly-agents/claude/.claude.json")
	if r := h.Run(0, "agent", "s", "claude", "--detach", "--", "-p", "hi"); !strings.Contains(r.Stderr, "claude/.claude.json.unreadable-") {
		t.Errorf("with broken settings it says %s", r.Stderr)
	}
	r := h.Run(1, "attach", "s", "claude")
	if !strings.Contains(r.Stdout, login) {
		t.Errorf("claude -p said %q; want %s", r.Stdout, login)
	}
}
