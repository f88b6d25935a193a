package codingagent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Subscription says how an agent works with the log-in of a subscription: with an access
// token that is renewed every few hours.
type Subscription struct {
	// Variable is that in which a machine gets what stands for the access token.
	Variable string
	Hosts    []string // of the provider, the only ones to which the access token ever goes
	// Withheld are parts of paths there to which it does not go, in lower case: what they
	// answer is a credential that would stay.
	Withheld []string
	// File is where the agent keeps its log-in on a host, in the directory that Place
	// names, or else in Default of the user's home.
	File, Place, Default string
	Endpoint             string // the URL at which the provider renews tokens, RFC 6749 6
	Client               string // the agent's identifier there, which is no secret

	read func(data []byte) (Tokens, Account, error)
	env  func(Account) map[string]string
}

// Tokens are what the log-in of a subscription consists of. They print as nothing.
type Tokens struct {
	Access  string    `json:"access"`
	Refresh string    `json:"refresh"` // valid once: who renews the others gets another one
	Expires time.Time `json:"expires"` // when Access does
}

func (Tokens) String() string             { return "REDACTED" }
func (Tokens) GoString() string           { return "REDACTED" }
func (Tokens) Format(s fmt.State, _ rune) { io.WriteString(s, "REDACTED") }

// Account is what an agent in a machine may know of a log-in: what it shows and offers
// depends on it. All of it is words without spaces.
type Account struct {
	Plan   string   `json:"plan,omitempty"` // "max"
	Tier   string   `json:"tier,omitempty"`
	Scopes []string `json:"scopes,omitempty"`
}

// HostFile returns where the agent keeps its log-in on the host of a user.
func (s *Subscription) HostFile(home string, getenv func(string) string) string {
	if dir := getenv(s.Place); filepath.IsAbs(dir) {
		return filepath.Join(dir, s.File)
	}
	return filepath.Join(home, s.Default, s.File)
}

// Read reads the file of a log-in. Errors never quote what is in it.
func (s *Subscription) Read(data []byte) (Tokens, Account, error) { return s.read(data) }

// Env returns the variables by which the agent in a machine knows the account.
func (s *Subscription) Env(a Account) map[string]string { return s.env(a) }

// maxToken bounds a token in bytes: it goes out as a header.
const maxToken = 16 << 10

// Check returns an error for tokens that cannot be some.
func (t Tokens) Check() error {
	for _, token := range []string{t.Access, t.Refresh} {
		switch {
		case token == "":
			return errors.New("a token is missing")
		case len(token) > maxToken:
			return fmt.Errorf("a token is larger than %d KiB", maxToken>>10)
		case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
			return errors.New("a token has characters that no token has")
		}
	}
	return nil
}

// maxScopes bounds the scopes of an account.
const maxScopes = 32

var word = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$`)

// known returns text if it can be a word of an account, else "".
func known(text string) string {
	if !word.MatchString(text) {
		return ""
	}
	return text
}

// readClaude reads the .credentials.json of Claude Code.
func readClaude(data []byte) (t Tokens, a Account, err error) {
	var file struct {
		OAuth struct {
			AccessToken      string   `json:"accessToken"`
			RefreshToken     string   `json:"refreshToken"`
			ExpiresAt        float64  `json:"expiresAt"` // ms since 1970
			Scopes           []string `json:"scopes"`
			SubscriptionType string   `json:"subscriptionType"`
			RateLimitTier    string   `json:"rateLimitTier"`
		} `json:"claudeAiOauth"`
	}
	if json.Unmarshal(data, &file) != nil {
		return t, a, errors.New("it is not in the form that this version of mayfly knows")
	}
	o := file.OAuth
	t = Tokens{Access: o.AccessToken, Refresh: o.RefreshToken, Expires: time.UnixMilli(int64(bound(o.ExpiresAt, maxTime))).UTC()}
	a = Account{Plan: known(o.SubscriptionType), Tier: known(o.RateLimitTier)}
	for _, s := range o.Scopes {
		if known(s) != "" && len(a.Scopes) < maxScopes && !slices.Contains(a.Scopes, s) {
			a.Scopes = append(a.Scopes, s)
		}
	}
	return t, a, t.Check()
}

// maxTime is a time after all tokens, in ms since 1970: a year of five digits is no JSON.
const maxTime = 4e12

// bound returns v, which may be any number, within 0 and most.
func bound(v, most float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return max(0, min(v, most))
}

// claudeEnv returns the variables in which Claude Code looks for what its token, which has
// no file in the machine, is for.
func claudeEnv(a Account) map[string]string {
	env := make(map[string]string)
	for name, value := range map[string]string{
		"CLAUDE_CODE_SUBSCRIPTION_TYPE": a.Plan, "CLAUDE_CODE_RATE_LIMIT_TIER": a.Tier,
		"CLAUDE_CODE_OAUTH_SCOPES": strings.Join(a.Scopes, " "),
	} {
		if value != "" {
			env[name] = value
		}
	}
	return env
}
