package lender

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-vm/mayfly/internal/codingagent"
	"github.com/mayfly-vm/mayfly/internal/login"
	"github.com/mayfly-vm/mayfly/internal/network/dial"
	"github.com/mayfly-vm/mayfly/internal/test/env"
	"github.com/mayfly-vm/mayfly/internal/test/provider"
)

const agent = codingagent.Default

// Variables of a process of the test that is a lender: its store, and the endpoint that it
// asks, without which it is one as users have it.
const (
	storeVariable    = "MAYFLY_TEST_LOGINS"
	endpointVariable = "MAYFLY_TEST_ENDPOINT"
	// With it, the process starts a lender, and waits.
	ownerVariable = "MAYFLY_TEST_OWNER"
)

func TestMain(m *testing.M) {
	switch dir, endpoint := os.Getenv(storeVariable), os.Getenv(endpointVariable); {
	case os.Getenv(wallsVariable) != "":
		tryWalls(dir)
		return
	case os.Getenv(ownerVariable) != "":
		own(dir)
		return
	case endpoint != "":
		lend(dir, endpoint)
		return
	case dir != "":
		Main(dir, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		return
	}
	os.Exit(m.Run())
}

// lend is a lender that looks at its log-in all the time, until it is killed. It says each
// token that it could use.
func lend(dir, endpoint string) {
	go func() {
		io.Copy(io.Discard, os.Stdin) // until the test is gone
		os.Exit(0)
	}()
	r := newRound(login.Store{Dir: dir}, []string{agent}, asking(endpoint), slog.New(slog.DiscardHandler))
	for {
		for _, n := range r.next(context.Background()) {
			data, _ := json.Marshal(n)
			if _, err := os.Stdout.Write(append(data, '\n')); err != nil {
				return
			}
		}
		r.at = make(map[string]time.Time) // it asks again at once
		// The lock is for who comes next by chance: with a pause, all have one.
		time.Sleep(rand.N(100 * time.Millisecond))
	}
}

// own is the owner of a lender, which it says it has heard of.
func own(dir string) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), storeVariable+"="+dir, ownerVariable+"=")
	l, err := start(cmd, Order{Agents: []string{agent}}, os.Stderr)
	if err != nil {
		fmt.Println(err)
		return
	}
	l.Follow(func(News) { fmt.Println("heard") })
}

// A lender ends with its supervisor, also when that is killed.
func TestEndsWithOwner(t *testing.T) {
	s := login.Store{Dir: filepath.Join(t.TempDir(), "logins")}
	keep(t, s, provider.NewTokens("access-", "refresh-", time.Hour), time.Hour)
	// Both have its other end.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), storeVariable+"="+s.Dir, ownerVariable+"=1")
	cmd.Stderr = w
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "heard\n" {
		t.Errorf("the owner says %q, %v", line, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	r.SetReadDeadline(time.Now().Add(time.Minute))
	if said, err := io.ReadAll(r); err != nil {
		t.Errorf("the lender did not end: %v: %s", err, said)
	}
}

// asking returns the renewal of a lender, at another endpoint.
func asking(endpoint string) login.Renewal {
	c := &client{http: http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	return func(ctx context.Context, s *codingagent.Subscription, old codingagent.Tokens, a codingagent.Account) (codingagent.Tokens, error) {
		there := *s
		there.Endpoint = endpoint
		return c.renew(ctx, &there, old, a)
	}
}

// keep imports a log-in with the tokens that are valid, whose access token lives for left.
func keep(t *testing.T, s login.Store, tokens *provider.Tokens, left time.Duration) {
	t.Helper()
	file := fmt.Sprintf(`{"claudeAiOauth":{"accessToken":%q,"refreshToken":%q,"expiresAt":%d}}`,
		tokens.Access(), tokens.Refresh(), time.Now().Add(left).UnixMilli())
	if _, err := s.Import(t.Context(), agent, []byte(file), time.Now()); err != nil {
		t.Fatal(err)
	}
}

// Two machines renew one log-in at once, and their lenders are killed again and again: when
// the answer was written down and nobody has heard of it, and while they wait for their turn.
// No refresh token comes twice, and none is lost. (One that is killed while an answer is on
// its way has spent the token that it had: no order of writing can save that one.)
func TestRotation(t *testing.T) {
	const times = 50
	s := login.Store{Dir: filepath.Join(t.TempDir(), "logins")}
	// Tokens are due from the first moment on.
	tokens := provider.NewTokens("access-", "refresh-", time.Millisecond)
	server := httptest.NewServer(tokens)
	defer server.Close()
	keep(t, s, tokens, 0)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for ctx.Err() == nil {
				cmd := exec.CommandContext(ctx, os.Args[0])
				cmd.Env = append(os.Environ(), storeVariable+"="+s.Dir, endpointVariable+"="+server.URL)
				l, err := start(cmd, Order{}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				heard := 0
				l.Follow(func(n News) {
					if n.Refused {
						t.Errorf("a lender is refused: %s", n.Why)
						cancel()
					}
					if heard++; heard == 3 {
						release, err := s.Lock(ctx) // so that no answer is on its way
						cmd.Process.Kill()
						if err == nil {
							release()
						}
					}
				})
				l.Close()
			}
		})
	}
	for ctx.Err() == nil {
		if n, refused := tokens.Renewed(); refused > 0 || n >= times {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	// They end as a machine does, which ends no renewal.
	release, err := s.Lock(t.Context())
	cancel()
	all.Wait()
	if err == nil {
		release()
	}
	if n, refused := tokens.Renewed(); n < times || refused > 0 || tokens.Ended() {
		t.Errorf("there were %d renewals, and %d were refused; want %d", n, refused, times)
	}
	// The token that is kept is the one that is valid: it can be renewed once more.
	if lent, err := s.Renew(t.Context(), agent, asking(server.URL)); err != nil || lent.Refused || lent.Token.Reveal() != tokens.Access() {
		t.Errorf("in the end: %v, refused %v", err, lent.Refused)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir, "*")); len(left) > 2 {
		t.Errorf("the store has %q", left)
	}
}

// A lender says what is new, once. What cannot be asked is asked again later, what is refused
// never again, and what is gone is said to be.
func TestRound(t *testing.T) {
	s := login.Store{Dir: filepath.Join(t.TempDir(), "logins")}
	tokens := provider.NewTokens("access-", "refresh-", time.Hour)
	down := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		tokens.ServeHTTP(w, r)
	}))
	defer server.Close()
	var log strings.Builder
	r := newRound(s, []string{agent}, asking(server.URL), slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Now()
	r.now = func() time.Time { return now }
	next := func() News {
		t.Helper()
		switch all := r.next(t.Context()); len(all) {
		case 0:
			return News{}
		case 1:
			return all[0]
		default:
			t.Fatalf("%d news; want one at most", len(all))
			return News{}
		}
	}

	keep(t, s, tokens, time.Hour)
	if n := next(); n.Token != "access-0000" || n.Why != "" || n.Refused {
		t.Errorf("the first news are of %q, %q", n.Token, n.Why)
	}
	if n := next(); n.Agent != "" {
		t.Errorf("the same news come again")
	}
	keep(t, s, tokens, time.Minute)
	if n := next(); n.Token != "access-0000" || !strings.Contains(n.Why, "502") || n.Refused {
		t.Errorf("while the endpoint is down: %q, %q", n.Token, n.Why)
	}
	down = false
	if n := next(); n.Agent != "" {
		t.Errorf("it asks again at once")
	}
	now = now.Add(interval)
	if n := next(); n.Token != "access-0001" || n.Why != "" || time.Until(n.Expires) < 50*time.Minute {
		t.Errorf("after a renewal: %q, %q, %v", n.Token, n.Why, n.Expires)
	}
	tokens.End()
	keep(t, s, tokens, -time.Minute)
	if n := next(); n.Token != "access-0001" || !n.Refused {
		t.Errorf("after the end of the log-in: %q, refused %v", n.Token, n.Refused)
	}
	now = now.Add(time.Hour)
	if n := next(); n.Agent != "" {
		t.Errorf("the end of the log-in is said again: %q", n.Why)
	}
	if _, refused := tokens.Renewed(); refused != 1 {
		t.Errorf("a log-in that has ended was asked for %d times; want once", refused)
	}
	if list, err := s.List(); err != nil || len(list) != 1 || !list[0].Refused || list[0].Kind != login.Subscription {
		t.Errorf("List() = %+v, %v", list, err)
	}
	if err := s.Remove(t.Context(), agent); err != nil {
		t.Fatal(err)
	}
	if n := next(); n.Agent == "" || n.Token != "" {
		t.Errorf("after the user forgot it: %q", n.Token)
	}
	lines := strings.Count(log.String(), "\n")
	for range 10 {
		next()
	}
	if n := strings.Count(log.String(), "\n"); n != lines {
		t.Errorf("10 looks at nothing log %d lines", n-lines)
	}
	if strings.Contains(log.String(), "access-") || strings.Contains(log.String(), "refresh-") {
		t.Errorf("the log has a token: %s", log.String())
	}
}

// An answer is bounded and quoted nowhere, and only what a provider says of a refresh token
// ends a log-in.
func TestReadAnswer(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, test := range []struct {
		status  int
		body    string
		refused bool
		fails   bool
		life    time.Duration
	}{
		{status: 200, body: `{"access_token":"PLAIN","expires_in":28800}`, life: 8 * time.Hour},
		{status: 200, body: `{"access_token":"PLAIN"}`, life: usualLife},
		{status: 200, body: `{"access_token":"PLAIN","expires_in":1e300}`, life: maxLife},
		{status: 200, body: `PLAIN`, fails: true},
		{status: 200, body: strings.Repeat(" ", maxAnswer) + `{}`, fails: true},
		{status: 400, body: `{"error":"invalid_grant","error_description":"PLAIN"}`, refused: true},
		{status: 401, body: `{"error":{"code":"refresh_token_reused","message":"PLAIN"}}`, refused: true},
		{status: 400, body: `{"error":"invalid_scope"}`, fails: true},
		{status: 400, body: `PLAIN`, fails: true},
		{status: 500, body: `{"error":"invalid_grant"}`, fails: true},
		{status: 302, body: ``, fails: true},
	} {
		got, err := readAnswer(test.status, []byte(test.body), now)
		if errors.Is(err, login.ErrRefused) != test.refused || (err != nil) != (test.refused || test.fails) {
			t.Errorf("%d %s: %v", test.status, test.body[:min(len(test.body), 40)], err)
		}
		if err != nil && strings.Contains(err.Error(), "PLAIN") {
			t.Errorf("the error is %v", err)
		}
		if err == nil && (got.Access != "PLAIN" || got.Expires.Sub(now) != test.life) {
			t.Errorf("%s: it lives %v; want %v", test.body, got.Expires.Sub(now), test.life)
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(200, []byte(`{"access_token":"a","refresh_token":"b","expires_in":1}`))
	f.Add(400, []byte(`{"error":{"code":"x"}}`))
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, status int, data []byte) {
		got, err := readAnswer(status, data, now)
		if err == nil && (status != 200 || got.Expires.Before(now) || got.Expires.After(now.Add(maxLife))) {
			t.Errorf("%d: it expires at %v", status, got.Expires)
		}
	})
}

// wallsVariable has this program try what a lender may do.
const wallsVariable = "MAYFLY_TEST_WALLS"

// tryWalls says what a confined process can do beside and with the log-ins in dir.
func tryWalls(dir string) {
	say := func(what string, err error) {
		fmt.Printf("%s: %t\n", what, err == nil)
	}
	if err := confineProcess(dir, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		fmt.Println(err)
		return
	}
	_, err := os.ReadFile(filepath.Join(dir, agent+".json"))
	say("read a log-in", err)
	file := filepath.Join(dir, "new")
	say("write a log-in", errors.Join(os.WriteFile(file, nil, 0o600), os.Rename(file, file+".json"), os.Remove(file+".json")))
	_, err = os.ReadFile(filepath.Join(filepath.Dir(dir), "beside"))
	say("read what is beside", err)
	say("write beside", os.WriteFile(filepath.Join(filepath.Dir(dir), "other"), nil, 0o600))
	say("start a program", exec.Command("/bin/true").Run())
}

// A lender reads and writes its log-ins, no other file of its user's, and starts no program.
func TestWalls(t *testing.T) {
	top := t.TempDir()
	s := login.Store{Dir: filepath.Join(top, "logins")}
	keep(t, s, provider.NewTokens("access-", "refresh-", time.Hour), time.Hour)
	if err := os.WriteFile(filepath.Join(top, "beside"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(env.WithoutC(t))
	cmd.Env = append(os.Environ(), storeVariable+"="+s.Dir, wallsVariable+"=1")
	out, err := cmd.CombinedOutput()
	want := "read a log-in: true\nwrite a log-in: true\nread what is beside: false\nwrite beside: false\nstart a program: false\n"
	if err != nil || string(out) != want {
		t.Errorf("a confined lender: %v\n%s; want\n%s", err, out, want)
	}
}

// A lender has only its log-ins, no capabilities and no programs. Signals do not end it, and
// the end of its supervisor does.
func TestConfined(t *testing.T) {
	s := login.Store{Dir: filepath.Join(t.TempDir(), "logins")}
	keep(t, s, provider.NewTokens("access-", "refresh-", time.Hour), time.Hour)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), storeVariable+"="+s.Dir)
	// Of what a host may say of its proxies, most is names without one.
	l, err := start(cmd, Order{Agents: []string{agent}, Proxies: dial.Proxies{No: strings.Repeat("a.example,", 2000)}}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := 0
	if err := l.Follow(func(n News) {
		heard++
		if n.Token != "access-0000" || n.Why != "" {
			t.Errorf("the news are of %q: %s", n.Token, n.Why)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			t.Error(err)
		}
		said, _ := os.ReadFile(log.Name())
		want := []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"}
		if strings.Contains(string(said), "CGO_ENABLED") { // as with the race detector
			want = want[:2]
		}
		for _, line := range want {
			if !strings.Contains(string(status), line+"\n") {
				t.Errorf("it has no %q: %s", line, status)
			}
		}
		cmd.Process.Signal(syscall.SIGTERM)
		l.order.Close()
	}); err != nil || heard != 1 {
		t.Errorf("Follow() = %v after %d news", err, heard)
	}
}
