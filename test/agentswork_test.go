package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/test/lab"
	"github.com/mayfly-vm/mayfly/internal/test/provider"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// realKey is in all keys, and is to be nowhere in a machine.
const realKey = "R3alKeyThatNoGuestMaySee4242abcdEF"

// worker is a coding agent, with the variable, the hosts and the beginning of its key, and
// how it does one task without a terminal.
type worker struct{ name, variable, hosts, key, argv string }

var workers = []worker{
	{"claude", "ANTHROPIC_API_KEY", "api.anthropic.com", "sk-ant-api03-", "claude --dangerously-skip-permissions -p"},
	{"codex", "OPENAI_API_KEY", "api.openai.com", "sk-proj-", "codex exec --dangerously-bypass-approvals-and-sandbox"},
	{"copilot", "COPILOT_GITHUB_TOKEN", "api.github.com,api.githubcopilot.com", "gho_", "copilot --allow-all -p"},
	{"gemini", "GEMINI_API_KEY", "generativelanguage.googleapis.com", "AIza", "gemini --yolo -p"},
	// It would take another provider whose key it finds.
	{"opencode", "OPENCODE_API_KEY", "opencode.ai", "sk-", "env -u ANTHROPIC_API_KEY -u OPENAI_API_KEY -u GEMINI_API_KEY opencode run --auto"},
}

// TestAgentsWork has the real programs of the coding agents work in a machine that reaches
// what their presets have and nothing else. Only their providers are fakes.
func TestAgentsWork(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	image := []string{"--no-detect", "--profile", strings.Join(codingagent.Names(), ",")}
	h.Run(0, append([]string{"image", "build"}, image...)...)
	onHost(t, h.Dir, `git init -q -b main .; git config user.name U; git config user.email u@example.com
		echo 'grep -q two "$1.txt"' > check; git add .; git commit -qm first`)
	var tasks []provider.Task
	for _, w := range workers {
		tasks = append(tasks, task(h, w.name, "first"))
	}
	server, keys, flags := serveAgents(t, h, workers, append(tasks, task(h, "claude", "second"), task(h, "codex", "second"), task(h, "claude", "third"))...)
	h.Run(0, slices.Concat([]string{"run", "--keep", "--name", "m"}, flags, image, []string{"--", "true"})...)

	var reached []string
	refused := make(map[string]int)
	for i, w := range workers {
		agent, _ := codingagent.Find(w.name)
		_, contacts := agent.Measured()
		for _, c := range contacts {
			if c.Tries > 0 {
				refused[c.Host] = c.Tries
			} else {
				reached = append(reached, c.Host)
			}
		}
		t.Run(w.name, func(t *testing.T) {
			before := len(server.Calls())
			argv := append(strings.Fields("exec m -- "+w.argv), tasks[i].Prompt)
			if r := h.For(t).Run(0, argv...); !strings.Contains(r.Stdout, tasks[i].Answer) {
				t.Errorf("%s says %s\n%s", w.name, vm.Clip(r.Stdout), vm.Clip(r.Stderr))
			}
			var steps, hosts []string
			for _, call := range server.Calls()[before:] {
				hosts = append(hosts, call.Host)
				if call.Key != "" && call.Key != keys[call.Host] {
					t.Errorf("%s%s was called with %q", call.Host, call.Path, call.Key)
				}
				if call.Step != "" && call.Step != provider.StepAside {
					steps = append(steps, call.Step)
				}
			}
			if d := cmp.Diff([]string{provider.StepWrite, provider.StepRun, provider.StepAnswer}, steps); d != "" {
				t.Errorf("its steps (-want +got):\n%s", d)
			}
			slices.Sort(hosts)
			for _, host := range slices.Compact(hosts) {
				if !slices.ContainsFunc(contacts, func(c codingagent.Contact) bool { return c.Host == host && c.Tries == 0 && !c.Terminal }) {
					t.Errorf("it contacted %s, which is not among its contacts %v", host, contacts)
				}
			}
		})
	}

	t.Run("on a terminal", func(t *testing.T) { workOnTerminals(t, h.For(t), server) })

	got := readContacts(t, h)
	slices.Sort(reached)
	if d := cmp.Diff(slices.Compact(reached), got.reached); d != "" {
		t.Errorf("hosts that were reached (-want +got):\n%s", d)
	}
	for pattern, most := range refused {
		tries := 0
		for host, n := range got.refused {
			if ok, err := path.Match(pattern, host); ok && err == nil {
				tries += n
				delete(got.refused, host)
			}
		}
		if tries == 0 || tries > most {
			t.Errorf("%s was tried %d times; want 1 to %d", pattern, tries, most)
		}
	}
	if len(got.refused) > 0 {
		t.Errorf("more was refused: %v", got.refused)
	}
	if len(got.stripped) > 0 {
		t.Errorf("taken out of requests: %q", got.stripped)
	}
	// Whatever the agents wrote down of their keys is placeholders.
	if got := h.Run(0, "exec", "m", "--", "sh", "-c", `env; sudo grep -rl "$0" ~ "$1" || true`, realKey[1:], h.Dir).Stdout; strings.Contains(got, realKey) || strings.Contains(got, "\n/") {
		t.Errorf("the keys are in the machine: %s", vm.Clip(got))
	}

	h.Run(0, "apply", "m")
	for _, w := range workers {
		if got := readFile(t, filepath.Join(h.Dir, w.name+"-first.txt")); got != "one\ntwo\n" {
			t.Errorf("%s wrote %q", w.name, got)
		}
	}
	onHost(t, h.Dir, `test "$(git log --format=%s)" = "$(printf 'by opencode\nby gemini\nby copilot\nby codex\nby claude\nfirst')"
		test "$(git status --porcelain)" = "$(printf '?? claude-second.txt\n?? claude-third.txt\n?? codex-second.txt')"`)
	h.Run(0, "rm", "m")
}

// serveAgents gives h an internet in which models do tasks. It returns the keys of the hosts,
// and the flags with which a machine has what the agents need of it and nothing else.
func serveAgents(t *testing.T, h *vm.Host, agents []worker, tasks ...provider.Task) (server *provider.Server, keys map[string]string, flags []string) {
	t.Helper()
	keys = make(map[string]string)
	flags = []string{"--egress", "allowlist"}
	for _, w := range agents {
		for host := range strings.SplitSeq(w.hosts, ",") {
			keys[host] = w.key + realKey
		}
		h.Set(w.variable, w.key+realKey)
		flags = append(flags, "--secret", w.variable+"="+w.hosts)
	}
	server = provider.New(keys, tasks...)
	l := lab.New(t)
	for _, name := range provider.Names() {
		l.Serve(name, server)
	}
	h.Through = l.Command
	return server, keys, flags
}

// task is a task of an agent. The first ends with a commit.
func task(h *vm.Host, agent, which string) provider.Task {
	name := agent + "-" + which
	command := fmt.Sprintf("cd %s && sh check %s", h.Dir, name)
	if which == "first" {
		command += fmt.Sprintf(" && git add %s.txt && git -c user.name=G -c user.email=g@example.com commit -qm 'by %s'", name, agent)
	}
	return provider.Task{
		Prompt: "the " + which + " task for " + agent, File: filepath.Join(h.Dir, name+".txt"), Text: "one\ntwo\n", Command: command,
		Answer: name + "-is-done", // a word: on a terminal, agents jump over spaces
	}
}

// workOnTerminals has two agents work at once, each on a terminal, and then one go on with
// its conversation without.
func workOnTerminals(t *testing.T, h *vm.Host, server *provider.Server) {
	names := []string{"claude", "codex"}
	var terms []*vm.Terminal
	for _, name := range names {
		terms = append(terms, h.Terminal("agent", "m", name, "--", "the second task for "+name))
	}
	for i, name := range names {
		terms[i].Expect(name + "-second-is-done")
		terms[i].Type(leaveKeys)
		ends(t, terms[i], 0)
		h.Run(0, "attach", "--end", "m", name)
	}
	r := h.Run(0, "exec", "m", "--", "claude", "--dangerously-skip-permissions", "--continue", "-p", "the third task for claude")
	calls := server.Calls()
	i := slices.IndexFunc(calls, func(c provider.Call) bool { return c.Earlier == 1 && c.Step == provider.StepAnswer })
	if !strings.Contains(r.Stdout, "claude-third-is-done") || i < 0 || calls[i].Host != "api.anthropic.com" {
		t.Errorf("it goes on with %q, in call %d", r.Stdout, i)
	}
}

// contacts are what the audit log says of a machine's network.
type contacts struct {
	reached  []string       // hosts, sorted
	refused  map[string]int // how often, by host
	stripped []string       // what was taken out of requests
}

// readContacts reads the audit log of the machine m.
func readContacts(t *testing.T, h *vm.Host) contacts {
	t.Helper()
	c := contacts{refused: make(map[string]int)}
	for lines := bufio.NewScanner(strings.NewReader(h.Run(0, "audit", "m", "--json").Stdout)); lines.Scan(); {
		var e struct {
			Verdict, Name, Addr, Reason string
			Count                       int
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Verdict == "deny":
			c.refused[e.Name+e.Addr] += max(e.Count, 1)
		case e.Verdict == "allow" && e.Name != "":
			c.reached = append(c.reached, e.Name)
			if strings.Contains(e.Reason, "stripped") {
				c.stripped = append(c.stripped, e.Name+": "+e.Reason)
			}
		}
	}
	slices.Sort(c.reached)
	c.reached = slices.Compact(c.reached)
	return c
}
