package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/test/lab"
	"github.com/mayfly-vm/mayfly/internal/test/provider"
	"github.com/mayfly-vm/mayfly/internal/test/vm"
)

// TestSubscription has the real Claude Code work with the log-in of a subscription that was
// taken over from the host, while its tokens are renewed. Nothing of them is in the machine,
// nor in what mayfly writes down but for the one file.
func TestSubscription(t *testing.T) {
	vm.Lock(t)
	h := vm.New(t)
	image := []string{"--no-detect", "--profile", strings.Join(codingagent.Names(), ",")}
	h.Run(0, append([]string{"image", "build"}, image...)...)
	onHost(t, h.Dir, `git init -q -b main .; echo 'grep -q two "$1.txt"' > check; git add .
		git -c user.name=U -c user.email=u@example.com commit -qm first`)

	const api, endpoint = "api.anthropic.com", "platform.claude.com"
	tokens := provider.NewTokens("sk-ant-oat01-"+realKey, "sk-ant-ort01-"+realKey, 8*time.Hour)
	work := task(h, "claude", "second")
	work.Command = "until test -e /tmp/renewed; do sleep 1; done; " + work.Command
	server := provider.New(nil, work)
	server.Renew(api, endpoint, tokens)
	l := lab.New(t)
	for _, name := range append(provider.Names(), endpoint) {
		l.Serve(name, server)
	}
	h.Through = l.Command

	dir := filepath.Join(h.Home, ".claude")
	importWith := func(left time.Duration) {
		t.Helper()
		file := fmt.Sprintf(`{"claudeAiOauth":{"accessToken":%q,"refreshToken":%q,"expiresAt":%d,"scopes":["user:inference","user:profile"],"subscriptionType":"max"}}`,
			tokens.Access(), tokens.Refresh(), time.Now().Add(left).UnixMilli())
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, ".credentials.json"), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := h.Run(0, "login", "claude", "--import"); strings.Contains(r.Stdout+r.Stderr, realKey) {
			t.Errorf("it says %s", r.Stderr)
		}
	}
	importWith(time.Hour)
	flags := append([]string{"run", "--keep", "--name", "m", "--egress", "allowlist"}, image...)
	h.Run(0, append(flags, "--", "true")...)
	first := tokens.Access()
	claude := h.Mayfly("exec", "m", "--", "claude", "--dangerously-skip-permissions", "-p", work.Prompt)
	claude.Start()
	asked := func(step string) (token string) {
		for _, call := range server.Calls() {
			if call.Step == step {
				token = call.Key
			}
		}
		return token
	}
	claude.Until("it is to run a command", func() bool { return asked(provider.StepRun) != "" })
	if times, refused := tokens.Renewed(); times != 0 || refused != 0 {
		t.Errorf("tokens were renewed %d times, and not %d times; want neither", times, refused)
	}
	// The machine that runs gets what is kept, and renews what is about to expire.
	importWith(time.Minute)
	claude.Until("the tokens are renewed", func() bool { times, _ := tokens.Renewed(); return times > 0 })
	h.Run(0, "exec", "m", "--", "touch", "/tmp/renewed")
	if r := claude.Wait(); r.Code != 0 || !strings.Contains(r.Stdout, work.Answer) {
		t.Errorf("it ends with %d and says %s\n%s", r.Code, vm.Clip(r.Stdout), vm.Clip(r.Stderr))
	}
	second := tokens.Access()
	if w, a := asked(provider.StepWrite), asked(provider.StepAnswer); w != first || a != second || first == second {
		t.Errorf("it asked with the tokens %q and %q; want %q and %q", w, a, first, second)
	}
	if times, refused := tokens.Renewed(); times != 1 || refused != 0 || tokens.Ended() {
		t.Errorf("tokens were renewed %d times, and not %d times; want once", times, refused)
	}
	if got := h.Run(0, "login", "ls").Stdout; !strings.Contains(got, "subscription") || strings.Contains(got, realKey) {
		t.Errorf("login ls says %s", got)
	}
	if got := readContacts(t, h); slices.Contains(got.reached, endpoint) || len(got.stripped) > 0 {
		t.Errorf("the machine reached %q, and was stripped of %q", got.reached, got.stripped)
	}

	// What stands for the token is worth nothing at the endpoint.
	r := h.Run(0, "exec", "m", "--", "sh", "-c", `curl -sS -m 60 -H 'Content-Type: application/json' -d "{\"grant_type\":\"refresh_token\",\"client_id\":\"x\",\"refresh_token\":\"$CLAUDE_CODE_OAUTH_TOKEN\"}" https://`+endpoint+`/v1/oauth/token`)
	if !strings.Contains(r.Stdout, "invalid_grant") || strings.Contains(r.Stdout, realKey) {
		t.Errorf("the endpoint answers the machine with %q", r.Stdout)
	}

	if got := h.Run(0, "exec", "m", "--", "sh", "-c", `env; sudo grep -rl "$0" ~ "$1" /etc /run /tmp 2>/dev/null || true`, realKey[1:], h.Dir).Stdout; strings.Contains(got, realKey) || strings.Contains(got, "\n/") {
		t.Errorf("the token is in the machine: %s", vm.Clip(got))
	}
	kept := filepath.Join("logins", "claude.json")
	filepath.WalkDir(h.State, func(path string, d os.DirEntry, err error) error {
		// Disks are what the machine was searched for.
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, kept) || strings.HasSuffix(path, ".img") {
			return nil
		}
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), realKey) {
			t.Errorf("a token is in %s", path)
		}
		return nil
	})

	// A provider that renews nothing any more is said so once, and asked once.
	tokens.End()
	importWith(-time.Minute)
	eventually(t, "the log-in to be known as ended", func() bool {
		return strings.Contains(h.Run(0, "login", "ls").Stdout, "ended: mayfly login claude --import")
	})
	// The machine hears of it a moment later.
	eventually(t, "a request with an expired token to say what helps", func() bool {
		r := h.Run(0, "exec", "m", "--", "sh", "-c", `curl -sS -m 60 -H "Authorization: Bearer $CLAUDE_CODE_OAUTH_TOKEN" https://`+api+`/v1/models`)
		return strings.Contains(r.Stdout, "mayfly login claude --import")
	})
	h.Run(0, "rm", "--force", "m")
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(vm.Timeout); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting for %s", what)
		}
	}
}
