package codingagent

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const claudeFile = `{"claudeAiOauth":{"accessToken":"sk-ant-oat01-PLAIN","refreshToken":"sk-ant-ort01-PLAIN","expiresAt":1764561600000,` +
	`"scopes":["user:inference","user:profile","a b"],"subscriptionType":"max","rateLimitTier":"default_claude_max_20x"},"mcpOAuth":{}}`

// What an agent keeps of its log-in on a host is read, and what it needs to know of the
// account is all that its machine is told.
func TestSubscriptions(t *testing.T) {
	files := map[string]string{"claude": claudeFile}
	for _, a := range Agents() {
		s := a.Subscription
		if s == nil {
			continue
		}
		tokens, account, err := s.Read([]byte(files[a.Name]))
		if err != nil || !strings.Contains(tokens.Access, "PLAIN") || !strings.Contains(tokens.Refresh, "PLAIN") || tokens.Expires.Year() != 2025 {
			t.Errorf("%s: Read() = %q, %v", a.Name, tokens.Access, err)
		}
		env := s.Env(account)
		if text := fmt.Sprintf("%v %+v %#v %v %v", tokens, tokens, tokens, account, env); strings.Contains(text, "PLAIN") {
			t.Errorf("%s: it prints as %s", a.Name, text)
		}
		if !strings.HasPrefix(s.Endpoint, "https://") || s.Client == "" || len(s.Hosts) == 0 || !a.TakesKey(s.Variable) {
			t.Errorf("%s: the row lacks something: %+v", a.Name, s)
		}
		// Nothing that an agent in a machine asks the endpoint has the token put in.
		if host := strings.Split(s.Endpoint, "/")[2]; slices.Contains(s.Hosts, host) {
			t.Errorf("%s: the access token goes to %s", a.Name, host)
		}
		own := func(name string) string { return map[string]string{s.Place: "/elsewhere"}[name] }
		none := func(string) string { return "" }
		if got := s.HostFile("/h", own); got != filepath.Join("/elsewhere", s.File) {
			t.Errorf("HostFile() = %s; want it where the variable says", got)
		}
		if got := s.HostFile("/h", none)[len("/h/"):]; !slices.Contains(a.Logins, got) {
			t.Errorf("HostFile() = %s; want one of %q", got, a.Logins)
		}
	}
	_, account, _ := readClaude([]byte(claudeFile))
	want := map[string]string{
		"CLAUDE_CODE_SUBSCRIPTION_TYPE": "max", "CLAUDE_CODE_RATE_LIMIT_TIER": "default_claude_max_20x",
		"CLAUDE_CODE_OAUTH_SCOPES": "user:inference user:profile",
	}
	if got := claudeEnv(account); !maps.Equal(got, want) {
		t.Errorf("claudeEnv() = %q; want %q", got, want)
	}
}

// Whatever a file says: tokens fit into a header, what the machine is told is words, and
// errors quote nothing.
func FuzzReadSubscription(f *testing.F) {
	for _, text := range []string{
		claudeFile, `{"claudeAiOauth":null}`, `null`, `{"claudeAiOauth":{"accessToken":"a\nPLAIN","refreshToken":"b"}}`,
		`{"claudeAiOauth":{"accessToken":"a","refreshToken":"b","expiresAt":1e300,"scopes":["x\u0000"]}}`, `{"claudeAiOauth":"PLAIN"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, a := range Agents() {
			if a.Subscription == nil {
				continue
			}
			tokens, account, err := a.Subscription.Read(data)
			if err != nil {
				if strings.Contains(err.Error(), "PLAIN") || len(err.Error()) > 100 {
					t.Errorf("the error is %v", err)
				}
				continue
			}
			if tokens.Check() != nil || tokens.Expires.Year() > 2100 || tokens.Expires.Before(time.Unix(0, 0)) {
				t.Errorf("tokens are %q, %q, %v", tokens.Access, tokens.Refresh, tokens.Expires)
			}
			for name, value := range a.Subscription.Env(account) {
				if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) || len(value) > 65*maxScopes {
					t.Errorf("%s = %q", name, value)
				}
			}
		}
	})
}
