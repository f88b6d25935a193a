package provider

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Tokens is the token endpoint of a subscription, RFC 6749 6, which rotates refresh tokens:
// each is valid once, and who sends one a second time ends the log-in for ever, as RFC 9700
// 4.14.2 has it. Its methods may be called from several goroutines.
type Tokens struct {
	access, refresh string // what they begin with
	life            time.Duration

	mu      sync.Mutex
	number  int  // of the tokens that are valid
	ended   bool // because one came twice
	refused int
}

// NewTokens returns an endpoint whose tokens begin with access and refresh. Access tokens
// are valid until there is another one, and said to live that long.
func NewTokens(access, refresh string, life time.Duration) *Tokens {
	return &Tokens{access: access, refresh: refresh, life: life}
}

// Access returns the access token that is valid.
func (t *Tokens) Access() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token(t.access)
}

// Refresh returns the refresh token that is valid.
func (t *Tokens) Refresh() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token(t.refresh)
}

func (t *Tokens) token(begin string) string { return fmt.Sprintf("%s%04d", begin, t.number) }

// Renewed returns how often tokens were renewed, and how often that was refused.
func (t *Tokens) Renewed() (times, refused int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.number, t.refused
}

// End ends the log-in.
func (t *Tokens) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
}

// Ended reports whether the log-in has ended.
func (t *Tokens) Ended() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}

func (t *Tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Grant   string `json:"grant_type"`
		Refresh string `json:"refresh_token"`
		Client  string `json:"client_id"`
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if r.Method != http.MethodPost || err != nil || json.Unmarshal(data, &q) != nil || q.Grant != "refresh_token" || q.Client == "" {
		t.refuse(w, "invalid_request", false)
		return
	}
	t.mu.Lock()
	valid := q.Refresh == t.token(t.refresh) && !t.ended
	earlier := false
	for n := range t.number {
		earlier = earlier || q.Refresh == fmt.Sprintf("%s%04d", t.refresh, n)
	}
	if valid {
		t.number++
	}
	access, refresh := t.token(t.access), t.token(t.refresh)
	t.mu.Unlock()
	if !valid {
		t.refuse(w, "invalid_grant", earlier)
		return
	}
	writeJSON(w, object{
		"token_type": "Bearer", "access_token": access, "refresh_token": refresh, "expires_in": t.life.Seconds(),
		"scope": "user:inference user:profile",
	})
}

// refuse answers with an error. One of a refresh token that was used ends the log-in.
func (t *Tokens) refuse(w http.ResponseWriter, code string, used bool) {
	t.mu.Lock()
	t.refused++
	t.ended = t.ended || used
	t.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	json.NewEncoder(w).Encode(object{"error": code, "error_description": "refused"})
}
